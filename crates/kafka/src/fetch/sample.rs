//! A call for tests, which remembers what was asked.

use super::{Bounds, Call, Wanted};

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) partitions: Vec<Option<Wanted>>,
    pub(super) first: usize,
}

impl Call for Sample {
    type Partition = Option<Wanted>;

    fn new() -> Self {
        Self { partitions: Vec::new(), first: 0 }
    }

    fn unresolved() -> Option<Wanted> {
        None
    }

    fn ask(partition: &mut Option<Wanted>, wanted: Wanted) {
        *partition = Some(wanted);
    }

    fn release(_: &mut Option<Wanted>) {}

    fn partitions_mut(&mut self) -> &mut Vec<Option<Wanted>> {
        &mut self.partitions
    }

    fn set_bounds(&mut self, _: Bounds) {}

    fn first_mut(&mut self) -> &mut usize {
        &mut self.first
    }
}
