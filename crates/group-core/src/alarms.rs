//! Which group wants to be looked at next.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_types::{GroupId, Moment};

/// The alarms of all groups, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    by_time: BTreeSet<(Moment, GroupId)>,
    by_group: BTreeMap<GroupId, Moment>,
}

impl Alarms {
    /// The group's alarm goes off at `at`, or not at all. Costs one look when it is set so already.
    pub(crate) fn set(&mut self, group: &GroupId, at: Option<Moment>) {
        let before = self.by_group.get(group).copied();
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, group.clone()));
        }
        match at {
            Some(at) => {
                self.by_time.insert((at, group.clone()));
                self.by_group.insert(group.clone(), at);
            }
            None => {
                self.by_group.remove(group);
            }
        }
    }

    /// When the first one goes off.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// A group whose alarm has gone off by `now`; the alarm is off afterwards.
    pub(crate) fn take_due(&mut self, now: Moment) -> Option<GroupId> {
        let (at, _) = self.by_time.first()?;
        if *at > now {
            return None;
        }
        let (_, group) = self.by_time.pop_first()?;
        self.by_group.remove(&group);
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_go_off_in_their_order_and_can_be_moved() {
        let [a, b] = ["a", "b"].map(GroupId::from);
        let mut alarms = Alarms::default();
        alarms.set(&a, Some(Moment(10)));
        alarms.set(&b, Some(Moment(20)));
        alarms.set(&a, Some(Moment(30)));
        assert_eq!(alarms.next(), Some(Moment(20)));
        assert_eq!(alarms.take_due(Moment(19)), None);
        assert_eq!(alarms.take_due(Moment(30)), Some(b.clone()));
        assert_eq!(alarms.take_due(Moment(30)), Some(a.clone()));
        assert_eq!((alarms.take_due(Moment(30)), alarms.next()), (None, None));
        alarms.set(&b, Some(Moment(5)));
        alarms.set(&b, None);
        assert_eq!(alarms.next(), None);
    }
}
