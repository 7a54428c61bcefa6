//! The simulated disk of one partition log: what the page cache shows, and what of it would survive the loss of power.
//!
//! ```text
//!   written ──flush ends well──► Durable        survives everything but damage
//!      │  └────flush fails─────► Lost           still shown, counted as clean, gone with the power: a later flush says nothing of it
//!      └─ Dirty                                 survives the process; of a power loss any part, and one batch may be torn
//! ```
//!
//! The durable mark is what the log's owner believes to be flushed. On the disk it is noted with the next flush only, so after the loss of
//! power the last flush looks like one that was under way.

use thalweg_invariants::{Mutant, mutant};
use thalweg_record::{Attributes, BatchHeader};
use thalweg_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::rng::Rng;

/// A batch. Its records' values are numbers in a row, unique over the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) header: BatchHeader,
    /// The first record's.
    pub(crate) value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Dirty,
    Lost,
    Durable,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    batch: Batch,
    /// Among all writes of the run.
    written: u64,
    state: State,
}

/// One partition's files.
#[derive(Debug, Clone)]
pub(crate) struct DiskLog {
    stored: Vec<Stored>,
    /// Where an empty log begins and ends.
    start: Offset,
    pub(crate) log_start: Offset,
    /// Below, everything was flushed, as its owner believed.
    pub(crate) durable_mark: Offset,
    /// The mark as the disk has it.
    noted_mark: Offset,
    /// Below, everything really is durable.
    durable_end: Offset,
    /// A cache.
    pub(crate) high_watermark: Offset,
    /// Base offsets of segments, oldest first.
    pub(crate) segments: Vec<Offset>,
    /// Producer snapshots with their log ends: caches.
    pub(crate) snapshots: Vec<(Offset, Vec<u8>)>,
}

impl Batch {
    pub(crate) fn new(
        producer: (ProducerId, ProducerEpoch, Sequence),
        records: i32,
        value: u64,
        timestamp: Timestamp,
    ) -> Self {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 49 + 20 * records,
            leader_epoch: LeaderEpoch::NONE,
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: records - 1,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer_id: producer.0,
            producer_epoch: producer.1,
            base_sequence: producer.2,
            record_count: records,
        };
        let mut batch = Self { header, value };
        batch.header.crc = batch.checksum();
        batch
    }

    /// As in the real format, base offset and leader epoch are not covered.
    fn checksum(&self) -> u32 {
        let header = &self.header;
        let fields = [
            self.value,
            header.producer_id.0.cast_unsigned(),
            u64::from(header.base_sequence.0.cast_unsigned()),
            u64::from(header.record_count.cast_unsigned()),
            u64::from(header.producer_epoch.0.cast_unsigned()),
        ];
        let hash = fields.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, field| {
            (hash ^ field).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        });
        (hash >> 32) as u32
    }

    pub(crate) fn is_intact(&self) -> bool {
        self.header.crc == self.checksum()
    }

    pub(crate) fn base(&self) -> Offset {
        self.header.base_offset
    }

    pub(crate) fn end(&self) -> Offset {
        self.header.next_offset()
    }

    /// What every record is: its offset, its value, and the epoch of the leader that wrote it.
    pub(crate) fn written(&self) -> impl Iterator<Item = (Offset, (u64, LeaderEpoch))> + use<> {
        let epoch = self.header.leader_epoch;
        self.records().map(move |(offset, value)| (offset, (value, epoch)))
    }

    /// Offset and value of every record.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Offset, u64)> + use<> {
        let (base, value) = (self.base().0, self.value);
        (0..self.header.record_count).map(move |at| {
            (Offset(base + i64::from(at)), value.wrapping_add(u64::from(at.cast_unsigned())))
        })
    }
}

impl DiskLog {
    pub(crate) fn empty_at(start: Offset) -> Self {
        Self {
            stored: Vec::new(),
            start,
            log_start: start,
            durable_mark: start,
            noted_mark: start,
            durable_end: start,
            high_watermark: start,
            segments: vec![start],
            snapshots: Vec::new(),
        }
    }

    pub(crate) fn end(&self) -> Offset {
        self.stored.last().map_or(self.start, |last| last.batch.end())
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.stored.iter().map(|stored| &stored.batch)
    }

    /// From the batch that holds `offset`.
    pub(crate) fn batches_from(&self, offset: Offset) -> impl Iterator<Item = &Batch> {
        let first = self.stored.partition_point(|stored| stored.batch.end() <= offset);
        self.stored[first..].iter().map(|stored| &stored.batch)
    }

    /// Below, everything really is durable.
    pub(crate) fn durable_end(&self) -> Offset {
        self.durable_end
    }

    pub(crate) fn append(&mut self, batch: Batch, written: u64) {
        self.stored.push(Stored { batch, written, state: State::Dirty });
    }

    /// Removes every batch that reaches beyond `to`, durably. Returns them.
    pub(crate) fn truncate(&mut self, to: Offset) -> Vec<Batch> {
        let kept = self.stored.partition_point(|stored| stored.batch.end() <= to);
        let removed = self.stored.drain(kept..).map(|stored| stored.batch).collect();
        let end = self.end();
        self.durable_mark = self.durable_mark.min(end);
        self.noted_mark = self.noted_mark.min(end);
        self.durable_end = self.durable_end.min(end);
        self.high_watermark = self.high_watermark.min(end);
        self.forget_beyond_end();
        removed
    }

    /// What was kept of records that did not survive must not be found again once the log has grown past it, with other records:
    /// producer snapshots, and segments that were begun.
    pub(crate) fn forget_beyond_end(&mut self) {
        let end = self.end();
        self.snapshots.retain(|(at, _)| *at <= end || mutant!(Mutant::M19));
        self.segments.retain(|base| *base <= end);
        if self.segments.is_empty() {
            self.segments.push(self.start);
        }
    }

    /// Removes the segments before this base offset.
    pub(crate) fn drop_before(&mut self, base: Offset) {
        let gone = self.stored.partition_point(|stored| stored.batch.end() <= base);
        self.stored.drain(..gone);
        if self.stored.is_empty() {
            self.start = self.start.max(base);
            self.durable_end = self.durable_end.max(base);
            self.durable_mark = self.durable_mark.max(base);
        }
        self.noted_mark = self.noted_mark.max(base);
        self.segments.retain(|segment| *segment >= base);
        if self.segments.is_empty() {
            self.segments.push(base);
        }
    }

    // ---- Flushes ----

    /// A flush that began after `captured` writes reported success. Returns how far its caller may believe the log to be flushed.
    pub(crate) fn flushed(&mut self, captured: u64) -> Offset {
        self.noted_mark = self.durable_mark;
        let first = self.stored.partition_point(|stored| stored.batch.end() <= self.durable_mark);
        for stored in &mut self.stored[first..] {
            if stored.written > captured {
                break;
            }
            self.durable_mark = stored.batch.end();
        }
        let from = self.durable_end.min(self.durable_mark);
        let first = self.stored.partition_point(|stored| stored.batch.end() <= from);
        for stored in &mut self.stored[first..] {
            if stored.state == State::Dirty && stored.written <= captured {
                stored.state = State::Durable;
            }
        }
        self.find_durable_end();
        self.durable_mark
    }

    /// A flush that began after `captured` writes failed: the pages count as clean now.
    pub(crate) fn flush_failed(&mut self, captured: u64) {
        for stored in &mut self.stored {
            if stored.state == State::Dirty && stored.written <= captured {
                stored.state = State::Lost;
            }
        }
    }

    /// Below, damage is no torn write.
    pub(crate) fn noted_mark(&self) -> Offset {
        self.noted_mark
    }

    /// Recovery writes again what it has no proof of, and flushes it.
    pub(crate) fn rewrite_and_flush(&mut self) {
        let mark = self.durable_mark;
        for stored in &mut self.stored {
            if stored.batch.end() > mark {
                stored.state = State::Durable;
            }
        }
        self.durable_mark = self.end().max(mark);
        self.noted_mark = self.durable_mark;
        self.find_durable_end();
    }

    fn find_durable_end(&mut self) {
        let first = self.stored.partition_point(|stored| stored.batch.end() <= self.durable_end);
        for stored in &self.stored[first..] {
            if stored.state != State::Durable {
                break;
            }
            self.durable_end = stored.batch.end();
        }
    }

    // ---- Faults ----

    /// The power goes. Of what was not durable, writes survive in any subset, the last one perhaps in part. Returns how many batches did
    /// not.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng) -> usize {
        let dirty = self.stored.iter().filter(|stored| stored.state == State::Dirty).count();
        let in_order = rng.chance(700);
        let mut left = rng.index(dirty + 1);
        let mut kept = 0;
        let mut lost = 0;
        for (at, stored) in self.stored.iter_mut().enumerate() {
            let survives = match stored.state {
                State::Durable => true,
                State::Lost => false,
                State::Dirty if in_order => {
                    let survives = left > 0;
                    left = left.saturating_sub(1);
                    survives
                }
                State::Dirty => rng.chance(500),
            };
            if survives {
                stored.state = State::Durable;
                kept = at + 1;
            } else {
                stored.batch.header.crc = !stored.batch.checksum();
                lost += 1;
            }
        }
        kept += usize::from(rng.chance(300));
        self.stored.truncate(kept);
        let end = self.end();
        self.durable_end = self.durable_end.min(end);
        self.snapshots.retain(|_| rng.chance(700));
        lost
    }

    /// Flips a bit of a durable batch, below the mark that the disk has: above it nobody could tell it from a torn write. Says whether
    /// there was one.
    pub(crate) fn flip(&mut self, rng: &mut Rng) -> bool {
        let mark = self.noted_mark;
        let is_noted = |s: &Stored| s.state == State::Durable && s.batch.end() <= mark;
        let durable = self.stored.iter().filter(|s| is_noted(s)).count();
        let at = rng.index(durable);
        match self.stored.iter_mut().filter(|s| is_noted(s)).nth(at) {
            Some(stored) if stored.batch.is_intact() => {
                stored.batch.header.crc ^= 1 << rng.below(32);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn first_damaged(&self) -> Option<&Batch> {
        self.batches().find(|batch| !batch.is_intact())
    }
}
