//! When a group wants to be looked at again.

use thalweg_types::Moment;

/// The earliest of a group's deadlines, or any time before it.
///
/// A heartbeat moves its sender's deadline later and leaves the alarm alone: the alarm goes off too early then, the group looks
/// at all its deadlines and sets it anew. So a heartbeat costs nothing here, and a group of quiet members wakes once per session timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Alarm(Option<Moment>);

impl Alarm {
    /// Goes off at `deadline`, unless it does earlier already.
    pub(crate) fn no_later_than(&mut self, deadline: Moment) {
        self.0 = Some(self.0.map_or(deadline, |set| set.min(deadline)));
    }

    /// Off, until the deadlines that are left are set again.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    pub(crate) fn at(self) -> Option<Moment> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_counts() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.at(), None);
        alarm.no_later_than(Moment(20));
        alarm.no_later_than(Moment(10));
        alarm.no_later_than(Moment(30));
        assert_eq!(alarm.at(), Some(Moment(10)));
        alarm.clear();
        assert_eq!(alarm.at(), None);
    }
}
