//! What clients were told and shown, checked as it comes (reliability chapter, section 2).
//!
//! Values are unique and offsets known, so the order of a log is the order of its offsets and nothing has to be searched for.

use std::collections::BTreeMap;

use thalweg_types::{Offset, TopicIdPartition};

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not known: it may be in the log once.
    Unknown,
    Acknowledged,
    /// Its leader had it: it may be gone with it, but it is nowhere else.
    AtLeader,
    /// It was definitely not written.
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    partition: TopicIdPartition,
    producer: u64,
    fate: Fate,
    offset: Option<Offset>,
}

#[derive(Debug)]
struct Seen {
    values: BTreeMap<Offset, u64>,
    /// Largest acknowledged offset.
    acknowledged: Option<Offset>,
    /// The last end that was told.
    end: Offset,
    /// By producer: its last acknowledged value and offset.
    last: BTreeMap<u64, (u64, Offset)>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            acknowledged: None,
            end: Offset::ZERO,
            last: BTreeMap::new(),
        }
    }
}

/// Judges what clients see.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// By value, from 1.
    known: Vec<Known>,
    partitions: BTreeMap<TopicIdPartition, Seen>,
    pub(crate) violations: Vec<String>,
    pub(crate) counts: Counts,
}

/// What was broken, by kind, and what was checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub acknowledged: u64,
    pub unknown: u64,
    pub failed: u64,
    pub read: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Damaged, foreign, contradicting or refused records that somebody was shown.
    pub torn: u64,
    /// Acknowledged by leaders alone (`acks=1`).
    pub by_leader: u64,
    /// Of those, gone in the end: nobody promised otherwise.
    pub by_leader_gone: u64,
}

impl Checker {
    /// Takes `records` values for records about to be sent; returns the first one.
    pub(crate) fn begin(
        &mut self,
        partition: TopicIdPartition,
        producer: u64,
        records: u64,
    ) -> u64 {
        let first = self.known.len() as u64 + 1;
        let known = Known { partition, producer, fate: Fate::Unknown, offset: None };
        for _ in 0..records {
            self.known.push(known);
        }
        first
    }

    /// The largest offset acknowledged so far: whatever begins now is behind it.
    pub(crate) fn floor(&self, partition: TopicIdPartition) -> Option<Offset> {
        self.partitions.get(&partition).and_then(|seen| seen.acknowledged)
    }

    pub(crate) fn acknowledged(
        &mut self,
        (value, records): (u64, u64),
        base: Offset,
        floor: Option<Offset>,
    ) {
        let Some(partition) = self.get(value).map(|known| known.partition) else { return };
        for at in 0..records {
            let (value, offset) = (value + at, Offset(base.0 + i64::try_from(at).unwrap_or(0)));
            self.counts.acknowledged += 1;
            self.place(partition, offset, value, "acknowledged");
            self.check_order(partition, offset, value, floor);
            if let Some(known) = self.get_mut(value) {
                known.fate = Fate::Acknowledged;
            }
            let seen = self.partitions.entry(partition).or_default();
            seen.acknowledged = seen.acknowledged.max(Some(offset));
        }
    }

    /// The leader alone has them: at these offsets or, when it is gone, nowhere.
    pub(crate) fn acknowledged_by_leader(&mut self, (value, records): (u64, u64), base: Offset) {
        for at in 0..records {
            let (value, offset) = (value + at, Offset(base.0 + i64::try_from(at).unwrap_or(0)));
            self.counts.by_leader += 1;
            let Some(known) = self.get_mut(value) else { continue };
            known.fate = Fate::AtLeader;
            let before = *known.offset.get_or_insert(offset);
            if before != offset {
                self.counts.duplicated += 1;
                self.broken(format!(
                    "{value} acknowledged by its leader at {offset}, is at {before}"
                ));
            }
        }
    }

    fn check_order(
        &mut self,
        partition: TopicIdPartition,
        offset: Offset,
        value: u64,
        floor: Option<Offset>,
    ) {
        let producer = self.get(value).map_or(0, |known| known.producer);
        let seen = self.partitions.entry(partition).or_default();
        let (last, last_offset) = seen.last.get(&producer).copied().unwrap_or((0, Offset::NONE));
        if value > last {
            seen.last.insert(producer, (value, offset));
        }
        let is_swapped = (value > last) != (offset > last_offset);
        if is_swapped || floor.is_some_and(|floor| offset <= floor) {
            self.counts.reordered += 1;
            self.broken(format!(
                "reordered: {partition} {value} at {offset}, after {last} at {last_offset}, acknowledged up to {floor:?}"
            ));
        }
    }

    pub(crate) fn ended(&mut self, (value, records): (u64, u64), fate: Fate) {
        for value in value..value + records {
            match fate {
                Fate::Failed => self.counts.failed += 1,
                Fate::Unknown | Fate::Acknowledged | Fate::AtLeader => self.counts.unknown += 1,
            }
            let was_seen = self.get(value).is_some_and(|known| known.offset.is_some());
            if fate == Fate::Failed && was_seen {
                self.counts.torn += 1;
                self.broken(format!("read although it failed: {value}"));
            }
            if let Some(known) = self.get_mut(value) {
                known.fate = fate;
            }
        }
    }

    /// A consumer was given this record.
    pub(crate) fn read(&mut self, partition: TopicIdPartition, offset: Offset, value: u64) {
        self.counts.read += 1;
        match self.get(value).copied() {
            Some(known) if known.partition == partition && known.fate != Fate::Failed => {
                self.place(partition, offset, value, "read");
            }
            Some(known) => {
                self.counts.torn += 1;
                self.broken(format!("{partition} {offset}: read {value}, which is {known:?}"));
            }
            None => {
                self.counts.torn += 1;
                self.broken(format!("{partition} {offset}: nobody sent {value}"));
            }
        }
    }

    pub(crate) fn read_damaged(&mut self, partition: TopicIdPartition, offset: Offset) {
        self.counts.torn += 1;
        self.broken(format!("{partition} {offset}: a damaged batch was served"));
    }

    fn place(&mut self, partition: TopicIdPartition, offset: Offset, value: u64, how: &str) {
        let seen = self.partitions.entry(partition).or_default();
        let there = *seen.values.entry(offset).or_insert(value);
        if there != value {
            self.counts.torn += 1;
            self.broken(format!("{partition} {offset}: {value} {how}, {there} before"));
        }
        let Some(known) = self.get_mut(value) else { return };
        let before = *known.offset.get_or_insert(offset);
        if before != offset {
            self.counts.duplicated += 1;
            self.broken(format!("{partition}: {value} {how} at {offset}, and is at {before}"));
        }
    }

    /// Below this nothing may be missing of an end that is asked for now: what is acknowledged, and what was told before (I6).
    pub(crate) fn end_floor(&self, partition: TopicIdPartition) -> Option<Offset> {
        let seen = self.partitions.get(&partition)?;
        let told = seen.end.0.checked_sub(1).map(Offset).filter(|last| *last >= Offset::ZERO);
        seen.acknowledged.max(told)
    }

    /// The end of a log was asked for when `floor` was known to be in it, of the leader that it had.
    pub(crate) fn end_told(
        &mut self,
        partition: TopicIdPartition,
        end: Offset,
        floor: Option<Offset>,
    ) {
        if floor.is_some_and(|floor| end <= floor) {
            self.counts.lost += 1;
            self.broken(format!("stale: {partition} ends at {end}, {floor:?} was in it"));
        }
        let seen = self.partitions.entry(partition).or_default();
        seen.end = seen.end.max(end);
    }

    /// Everything in a partition's log from `log_start` on, in the end: what was acknowledged or read must be in it.
    pub(crate) fn drained(
        &mut self,
        partition: TopicIdPartition,
        log_start: Offset,
        records: impl Iterator<Item = (Offset, u64)>,
    ) {
        let mut there = BTreeMap::new();
        for (offset, value) in records {
            there.insert(offset, value);
            self.read(partition, offset, value);
        }
        let at_leader = self
            .known
            .iter()
            .zip(1_u64..)
            .filter(|(known, _)| known.partition == partition && known.fate == Fate::AtLeader);
        let is_gone = |known: &Known, value: u64| {
            known
                .offset
                .is_some_and(|offset| offset >= log_start && there.get(&offset) != Some(&value))
        };
        let gone = at_leader.filter(|(known, value)| is_gone(known, *value)).count();
        self.counts.by_leader_gone += gone as u64;
        let seen = self.partitions.entry(partition).or_default();
        let missing: Vec<_> = seen
            .values
            .iter()
            .filter(|(offset, value)| **offset >= log_start && there.get(offset) != Some(value))
            .map(|(offset, value)| (*offset, *value))
            .collect();
        self.counts.lost += missing.len() as u64;
        if let Some((offset, value)) = missing.first() {
            let count = missing.len();
            self.broken(format!("lost: {partition} {value} at {offset}, {count} in all"));
        }
    }

    /// An unclean election gave up what was at and after `end`.
    pub(crate) fn given_up(&mut self, partition: TopicIdPartition, end: Offset) {
        let seen = self.partitions.entry(partition).or_default();
        let gone = seen.values.split_off(&end);
        seen.acknowledged = seen.acknowledged.filter(|offset| *offset < end);
        seen.end = seen.end.min(end);
        seen.last.clear();
        for value in gone.into_values() {
            if let Some(known) = self.get_mut(value) {
                known.offset = None;
            }
        }
    }

    fn broken(&mut self, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }

    fn get(&self, value: u64) -> Option<&Known> {
        self.known.get(usize::try_from(value.checked_sub(1)?).ok()?)
    }

    fn get_mut(&mut self, value: u64) -> Option<&mut Known> {
        self.known.get_mut(usize::try_from(value.checked_sub(1)?).ok()?)
    }
}
