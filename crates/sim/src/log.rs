//! A partition log as a broker's storage keeps it: the rules of `log-core` over a simulated disk.
//!
//! Recovery goes by the durable mark: damage above it is a torn write and is cut off, damage below it is never cut but makes the replica
//! suspect. What lies above the mark is written and flushed again before it counts, because nobody knows whether a flush of it failed.
//! Producer snapshots are caches: the newest one at or below the log's end is taken, and the rest of the log replayed onto it.

use thalweg_invariants::{Mutant, mutant};
use thalweg_log_core::{
    AppendDecision, AppendError, EpochIndex, LogConfig, Origin, PartitionLog, ProducerStates,
    RecoveredLog, SegmentFacts, TruncateError,
};
use thalweg_replication_core::{Fitness, LogEnds, LogView};
use thalweg_types::{LeaderEpoch, Offset, Timestamp};

use crate::disk::{Batch, DiskLog};

/// Batches between two producer snapshots.
const SNAPSHOT_BATCHES: usize = 12;

/// A log in use.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) core: PartitionLog,
    pub(crate) disk: DiskLog,
    since_snapshot: usize,
}

impl Log {
    pub(crate) fn empty(config: LogConfig, now: Timestamp) -> Self {
        let core = PartitionLog::new(config, 0, now);
        Self { core, disk: DiskLog::empty_at(Offset::ZERO), since_snapshot: 0 }
    }

    /// Opens what is on the disk. `clean`: the last owner left a proof that everything was in order, so nothing is scanned.
    pub(crate) fn recover(
        mut disk: DiskLog,
        clean: bool,
        config: LogConfig,
        now: Timestamp,
    ) -> (Self, Fitness) {
        let mut fitness = Fitness::Fit;
        let mut end = disk.end();
        if !clean {
            let damaged = disk.first_damaged().map(Batch::base);
            let first_bad = damaged.unwrap_or(end);
            if first_bad < disk.noted_mark() && !mutant!(Mutant::M18) {
                fitness = Fitness::Suspect;
                end = first_bad;
            } else if damaged.is_some() {
                disk.truncate(first_bad);
                end = disk.end();
            }
            if fitness == Fitness::Fit {
                disk.forget_beyond_end();
                disk.rewrite_and_flush();
            }
        }
        let log = Self { core: open(&disk, end, config, now), disk, since_snapshot: 0 };
        (log, fitness)
    }

    /// Drops everything and begins an empty log.
    pub(crate) fn restart_at(&mut self, at: Offset, now: Timestamp) {
        let config = self.core.config().clone();
        self.disk = DiskLog::empty_at(at);
        self.core = open(&self.disk, at, config, now);
        self.since_snapshot = 0;
    }

    pub(crate) fn view(&self) -> LogView<'_> {
        LogView { ends: LogEnds::from(self.core.offsets()), epochs: self.core.epochs() }
    }

    pub(crate) fn end(&self) -> Offset {
        self.core.offsets().log_end()
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.core.offsets().high_watermark()
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.core.offsets().log_start()
    }

    pub(crate) fn append_produced(
        &mut self,
        batch: Batch,
        leader_epoch: LeaderEpoch,
        written: u64,
        now: Timestamp,
    ) -> Result<AppendDecision, AppendError> {
        let origin = Origin::Client { leader_epoch };
        let decision = self.core.decide_append(&batch.header, origin, now)?;
        self.apply(batch, decision, written, now);
        Ok(decision)
    }

    pub(crate) fn append_replicated(
        &mut self,
        batch: Batch,
        written: u64,
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let decision = self.core.decide_append(&batch.header, Origin::Replica, now)?;
        self.apply(batch, decision, written, now);
        Ok(())
    }

    fn apply(&mut self, mut batch: Batch, decision: AppendDecision, written: u64, now: Timestamp) {
        let AppendDecision::Append { base_offset, leader_epoch, roll, .. } = decision else {
            return;
        };
        batch.header.base_offset = base_offset;
        batch.header.leader_epoch = leader_epoch;
        let placement = self.core.apply_append(&batch.header, roll, now);
        if self.disk.segments.last() != Some(&placement.segment_base_offset) {
            self.disk.segments.push(placement.segment_base_offset);
        }
        self.disk.append(batch, written);
        self.since_snapshot += 1;
        if self.since_snapshot >= SNAPSHOT_BATCHES {
            self.since_snapshot = 0;
            let end = self.end();
            self.disk.snapshots.push((end, self.core.producers().snapshot(end)));
            if self.disk.snapshots.len() > 3 {
                self.disk.snapshots.remove(0);
            }
        }
    }

    /// A flush of everything up to the write `captured` ended well. The high watermark is noted down now and then.
    pub(crate) fn flushed(&mut self, captured: u64, keeps_old_positions: bool) {
        let end = self.disk.flushed(captured);
        self.core.flushed(end);
        if !keeps_old_positions {
            self.disk.high_watermark = self.high_watermark();
        }
    }

    /// Cuts the log and returns what went.
    pub(crate) fn truncate(
        &mut self,
        to: Offset,
        unclean: bool,
        now: Timestamp,
    ) -> Result<Vec<Batch>, TruncateError> {
        let snapshots: Vec<_> = self.disk.snapshots.iter().map(|(at, _)| *at).collect();
        let Some(plan) = self.core.plan_truncation(to, &snapshots, unclean)? else {
            return Ok(Vec::new());
        };
        let removed = self.disk.truncate(plan.cut.offset);
        let mut facts = SegmentFacts::empty_at(plan.cut.segment_base_offset, now);
        for batch in self.disk.batches_from(plan.cut.segment_base_offset) {
            facts.push(&batch.header, self.core.config(), now);
        }
        let producers = producers_at(&self.disk, self.disk.end(), now);
        self.core.truncate(&plan, facts, producers);
        Ok(removed)
    }

    /// Gives up what retention takes. Says whether anything went.
    pub(crate) fn retain(&mut self, now: Timestamp) -> bool {
        let plan = self.core.plan_retention(now);
        if plan.is_empty() {
            return false;
        }
        self.core.apply_retention(&plan, now);
        self.disk.log_start = self.log_start();
        self.disk.segments = self.core.segments().iter().map(|s| s.base_offset).collect();
        if let Some(first) = self.disk.segments.first().copied() {
            self.disk.drop_before(first);
        }
        !plan.delete.is_empty()
    }

    pub(crate) fn move_log_start(&mut self, to: Offset) {
        self.core.move_log_start(to);
        self.disk.log_start = self.log_start();
    }

    /// What the producer states must be: those of the log, replayed from its beginning. `None` when its beginning is gone.
    pub(crate) fn replayed_producers(&self) -> Option<ProducerStates> {
        let first = self.disk.batches().next()?;
        (first.base() == Offset::ZERO).then(|| {
            let mut producers = ProducerStates::default();
            for batch in self.disk.batches() {
                producers.apply(&batch.header, Timestamp(0));
            }
            producers
        })
    }
}

/// The state of the log up to `end`, which is the disk's end or the place of damage.
fn open(disk: &DiskLog, end: Offset, config: LogConfig, now: Timestamp) -> PartitionLog {
    let mut epochs = EpochIndex::default();
    let mut segments: Vec<SegmentFacts> =
        disk.segments.iter().map(|base| SegmentFacts::empty_at(*base, now)).collect();
    segments.retain(|segment| segment.base_offset <= end);
    for batch in disk.batches().take_while(|batch| batch.end() <= end) {
        if batch.header.leader_epoch > LeaderEpoch::NONE {
            epochs.assign(batch.header.leader_epoch, batch.base());
        }
        let at = segments.partition_point(|segment| segment.base_offset <= batch.base());
        if let Some(segment) = at.checked_sub(1).and_then(|at| segments.get_mut(at)) {
            segment.push(&batch.header, &config, now);
        }
    }
    let found = RecoveredLog {
        log_start: disk.log_start,
        high_watermark: disk.high_watermark,
        segments,
        epochs,
        producers: producers_at(disk, end, now),
    };
    PartitionLog::recover(found, config, 0, now)
}

fn producers_at(disk: &DiskLog, end: Offset, now: Timestamp) -> ProducerStates {
    let usable = |at: &Offset| *at <= end || mutant!(Mutant::M19);
    let newest = disk.snapshots.iter().rev().find(|(at, _)| usable(at));
    let restored = newest.and_then(|(_, bytes)| ProducerStates::restore(bytes).ok());
    let (mut producers, from) =
        restored.unwrap_or_else(|| (ProducerStates::default(), Offset::ZERO));
    if mutant!(Mutant::M19) && from > Offset::ZERO {
        return producers;
    }
    for batch in disk.batches_from(from).take_while(|batch| batch.end() <= end) {
        producers.apply(&batch.header, now);
    }
    producers
}
