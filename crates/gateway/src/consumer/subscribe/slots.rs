//! The partitions a member has, and how far each of them is.
//!
//! ```text
//!      committed ──── acknowledged ──── sent ──── next to be read
//!  0 ──────│────────────────│─────────────│────────────│──► offsets
//! ```
//!
//! Never in another order; a seek moves all but the committed one to its place. Only what is acknowledged is committed. What lies between the
//! last record sent and the next to be read (markers of transactions, records removed by compaction) counts as acknowledged with that record.

use std::collections::BTreeMap;

use thalweg_rpc::Error;
use thalweg_types::Offset;

use crate::groups::offsets::{Name, Position};

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    /// Everything before it has been worked off.
    acknowledged: i64,
    /// Behind the last record sent to the client.
    sent: i64,
    next: i64,
    /// What was last committed; `None`: nothing by this member, or not surely.
    committed: Option<i64>,
    is_paused: bool,
    is_revoking: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: BTreeMap<Name, Slot>,
    /// The most that was ever sent of a partition, also before a seek or when it was assigned before: acknowledgements of that may still come.
    furthest: BTreeMap<Name, i64>,
}

impl Slot {
    pub(super) fn at(offset: i64) -> Self {
        Self {
            acknowledged: offset,
            sent: offset,
            next: offset,
            committed: Some(offset),
            is_paused: false,
            is_revoking: false,
        }
    }

    /// Something was sent and not acknowledged.
    fn is_waiting(&self) -> bool {
        self.acknowledged < self.sent
    }

    fn settle(&mut self) {
        if !self.is_waiting() {
            self.acknowledged = self.acknowledged.max(self.next);
        }
    }
}

impl Slots {
    pub(super) fn insert(&mut self, name: Name, slot: Slot) {
        self.slots.insert(name, slot);
    }

    pub(super) fn remove(&mut self, name: &Name) -> bool {
        self.slots.remove(name).is_some()
    }

    pub(super) fn clear(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.slots).into_keys().collect()
    }

    /// Where reading goes on in those that are to be read.
    pub(super) fn readable(&self) -> impl Iterator<Item = (&Name, Offset)> {
        let readable = self.slots.iter().filter(|(_, slot)| !slot.is_paused && !slot.is_revoking);
        readable.map(|(name, slot)| (name, Offset(slot.next)))
    }

    /// Whether records from `offset` on are what comes next.
    pub(super) fn wants(&self, name: &Name, offset: Offset) -> bool {
        self.slots
            .get(name)
            .is_some_and(|slot| !slot.is_paused && !slot.is_revoking && slot.next == offset.0)
    }

    /// Reading goes on at `next`; the client has been sent records up to `records_end`, if any.
    pub(super) fn sent(&mut self, name: &Name, records_end: Option<i64>, next: Offset) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.next = slot.next.max(next.0);
            let furthest = self.furthest.entry(name.clone()).or_insert(slot.next);
            *furthest = slot.next.max(*furthest);
            slot.sent = slot.sent.max(records_end.unwrap_or(slot.sent));
            slot.settle();
        }
    }

    /// Takes an acknowledgement. What is not assigned any more, or was sent before a seek, is passed over; what was never sent is an error.
    pub(super) fn acknowledge(&mut self, name: &Name, next: i64) -> Result<(), Error> {
        let Some(slot) = self.slots.get_mut(name) else { return Ok(()) };
        let furthest = self.furthest.get(name).map_or(slot.next, |sent| slot.next.max(*sent));
        if next > furthest {
            return Err(Error::invalid_request(format!(
                "ack of {}-{} up to {next}, but only what lies before {furthest} was sent",
                name.0, name.1
            )));
        }
        if next > slot.next {
            return Ok(());
        }
        slot.acknowledged = slot.acknowledged.max(next);
        slot.settle();
        Ok(())
    }

    pub(super) fn pause(&mut self, name: &Name, is_paused: bool) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.is_paused = is_paused;
        }
    }

    /// Reads on elsewhere; that place is what is committed next, also when it lies before.
    pub(super) fn seek(&mut self, name: &Name, offset: i64) {
        if let Some(slot) = self.slots.get_mut(name).filter(|slot| !slot.is_revoking) {
            (slot.acknowledged, slot.sent, slot.next) = (offset, offset, offset);
        }
    }

    pub(super) fn revoke<'a>(&mut self, names: impl IntoIterator<Item = &'a Name>) {
        for name in names {
            if let Some(slot) = self.slots.get_mut(name) {
                slot.is_revoking = true;
            }
        }
    }

    /// Everything that is to be given up is acknowledged as far as it was sent.
    pub(super) fn can_give_up(&self) -> bool {
        !self.slots.values().any(|slot| slot.is_revoking && slot.is_waiting())
    }

    pub(super) fn revoking(&self) -> Vec<Name> {
        let revoking = self.slots.iter().filter(|(_, slot)| slot.is_revoking);
        revoking.map(|(name, _)| name.clone()).collect()
    }

    /// The client owes an acknowledgement.
    pub(super) fn is_waiting(&self) -> bool {
        self.slots.values().any(Slot::is_waiting)
    }

    /// What is acknowledged and not committed.
    pub(super) fn to_commit(&self) -> BTreeMap<Name, Position> {
        let news = self.slots.iter().filter(|(_, slot)| slot.committed != Some(slot.acknowledged));
        news.map(|(name, slot)| (name.clone(), Position::at(slot.acknowledged))).collect()
    }

    pub(super) fn committed(&mut self, name: &Name, offset: i64) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.committed = Some(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(partition: i32) -> Name {
        ("orders".to_owned(), partition)
    }

    fn slots() -> Slots {
        let mut slots = Slots::default();
        slots.insert(name(0), Slot::at(10));
        slots.insert(name(1), Slot::at(20));
        slots
    }

    #[test]
    fn only_what_is_acknowledged_is_committed() {
        let mut slots = slots();
        slots.sent(&name(0), Some(15), Offset(15));
        assert_eq!(slots.to_commit(), BTreeMap::new());
        slots.acknowledge(&name(0), 12).unwrap();
        assert_eq!(slots.to_commit(), BTreeMap::from([(name(0), Position::at(12))]));
        slots.committed(&name(0), 12);
        assert_eq!(slots.to_commit(), BTreeMap::new());
        assert!(slots.is_waiting());
    }

    #[test]
    fn acknowledgements_go_neither_back_nor_beyond_what_was_sent() {
        let mut slots = slots();
        slots.sent(&name(0), Some(15), Offset(15));
        slots.acknowledge(&name(0), 14).unwrap();
        slots.acknowledge(&name(0), 11).unwrap();
        assert_eq!(slots.to_commit(), BTreeMap::from([(name(0), Position::at(14))]));
        assert!(slots.acknowledge(&name(0), 16).is_err());
        assert_eq!(slots.acknowledge(&name(9), 1_000), Ok(()), "not assigned any more");
    }

    #[test]
    fn what_is_paused_or_given_up_is_not_read() {
        let mut slots = slots();
        slots.pause(&name(0), true);
        let names: Vec<_> = slots.readable().map(|(name, _)| name.1).collect();
        assert_eq!(names, [1]);
        slots.revoke([&name(1)]);
        assert_eq!(slots.readable().count(), 0);
        slots.pause(&name(0), false);
        assert!(slots.wants(&name(0), Offset(10)) && !slots.wants(&name(1), Offset(20)));
    }

    #[test]
    fn a_partition_is_given_up_when_what_was_sent_is_acknowledged() {
        let mut slots = slots();
        slots.sent(&name(1), Some(22), Offset(22));
        slots.revoke([&name(0), &name(1)]);
        assert!(!slots.can_give_up());
        slots.acknowledge(&name(1), 22).unwrap();
        assert!(slots.can_give_up());
        assert_eq!(slots.revoking(), [name(0), name(1)]);
    }

    #[test]
    fn a_seek_starts_over_from_its_place() {
        let mut slots = slots();
        slots.sent(&name(0), Some(15), Offset(15));
        slots.seek(&name(0), 3);
        assert!(slots.wants(&name(0), Offset(3)));
        assert!(!slots.is_waiting());
        assert_eq!(slots.to_commit(), BTreeMap::from([(name(0), Position::at(3))]));
    }

    #[test]
    fn an_acknowledgement_from_before_a_seek_or_an_assignment_is_passed_over() {
        let mut slots = slots();
        slots.sent(&name(0), Some(15), Offset(15));
        slots.seek(&name(0), 3);
        assert_eq!(slots.acknowledge(&name(0), 15), Ok(()));
        slots.clear();
        slots.insert(name(0), Slot::at(4));
        assert_eq!(slots.acknowledge(&name(0), 15), Ok(()));
        assert_eq!(slots.to_commit(), BTreeMap::new());
        assert!(slots.acknowledge(&name(0), 16).is_err());
    }

    #[test]
    fn what_holds_no_record_is_acknowledged_with_the_record_before_it() {
        let mut slots = slots();
        slots.sent(&name(0), None, Offset(12));
        assert_eq!(slots.to_commit(), BTreeMap::from([(name(0), Position::at(12))]));
        slots.sent(&name(0), Some(14), Offset(18));
        slots.acknowledge(&name(0), 13).unwrap();
        assert!(slots.is_waiting());
        slots.acknowledge(&name(0), 14).unwrap();
        assert_eq!(slots.to_commit(), BTreeMap::from([(name(0), Position::at(18))]));
        assert!(!slots.is_waiting());
    }
}
