//! One partition's log as a role machine: every decision about it, and every change of it, in one place.
//!
//! The life of a batch: [`decide_append`](PartitionLog::decide_append) says whether and where it goes; the shell stamps it, writes it
//! and calls [`apply_append`](PartitionLog::apply_append); a flush ends in [`flushed`](PartitionLog::flushed); replication, or the
//! flush alone where there is one replica, ends in [`advance_high_watermark`](PartitionLog::advance_high_watermark). Between a decision
//! and its application nothing else may change the log; the shell holds its lock over both.

use thalweg_record::BatchHeader;
use thalweg_types::{ErrorCode, LeaderEpoch, Offset, Timestamp, TimestampType};

use crate::append::{self, AppendDecision, AppendError, Origin};
use crate::config::LogConfig;
use crate::epochs::{EpochEnd, EpochIndex};
use crate::offsets::LogOffsets;
use crate::producers::{ProducerStates, SequenceCheck};
use crate::retention;
use crate::segment::{self, Placement, RollReason, SegmentFacts};
use crate::truncation::{self, TruncateError, TruncationPlan};

/// The state of one log, and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLog {
    config: LogConfig,
    offsets: LogOffsets,
    epochs: EpochIndex,
    producers: ProducerStates,
    /// Oldest first, the active one last; never empty.
    segments: Vec<SegmentFacts>,
    /// The newest leader epoch this log was told of. The index may not know it: an epoch leaves no entry before it has records to
    /// tell apart, and truncation takes entries away.
    leader_epoch: LeaderEpoch,
    /// What sets this log's jitter apart from others'.
    jitter_seed: u64,
}

/// What recovery found on disk.
#[derive(Debug, Clone)]
pub struct RecoveredLog {
    /// As remembered; brought into the range of the segments.
    pub log_start: Offset,
    /// As remembered; brought into the range of the log.
    pub high_watermark: Offset,
    /// In the order of their base offsets, without overlap. None for a log that is only a folder.
    pub segments: Vec<SegmentFacts>,
    /// Entries that lie outside the log's range are dropped.
    pub epochs: EpochIndex,
    /// State at the end of the last segment.
    pub producers: ProducerStates,
}

/// Why the log start does not move there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log start cannot move to {to}, records are committed up to {high_watermark}")]
pub struct LogStartError {
    pub to: Offset,
    pub high_watermark: Offset,
}

impl LogStartError {
    pub fn code(&self) -> ErrorCode {
        ErrorCode::OffsetOutOfRange
    }
}

// ---- Construction ----

impl PartitionLog {
    /// A new log without records.
    pub fn new(config: LogConfig, jitter_seed: u64, now: Timestamp) -> Self {
        Self {
            offsets: LogOffsets::empty_at(Offset::ZERO, config.durability),
            config,
            epochs: EpochIndex::default(),
            producers: ProducerStates::default(),
            segments: vec![SegmentFacts::empty_at(Offset::ZERO, now)],
            leader_epoch: LeaderEpoch::NONE,
            jitter_seed,
        }
    }

    /// A log as its segments show it. Batches that the journal has beyond them are then decided on and applied like a replica's.
    pub fn recover(
        found: RecoveredLog,
        config: LogConfig,
        jitter_seed: u64,
        now: Timestamp,
    ) -> Self {
        let mut segments = found.segments;
        if segments.is_empty() {
            segments.push(SegmentFacts::empty_at(found.log_start, now));
        }
        let (first, log_end) = (segments[0].base_offset, active(&segments).next_offset);
        let log_start = found.log_start.clamp(first, log_end);
        let mut epochs = found.epochs;
        epochs.truncate_from_start(log_start);
        // An epoch may begin at the log end: its leader has not written yet.
        epochs.truncate_from_end(Offset(log_end.0.saturating_add(1)));
        Self {
            offsets: LogOffsets::recovered(
                log_start,
                found.high_watermark,
                log_end,
                config.durability,
            ),
            leader_epoch: epochs.latest().map_or(LeaderEpoch::NONE, |newest| newest.epoch),
            config,
            epochs,
            producers: found.producers,
            segments,
            jitter_seed,
        }
    }

    // ---- Appending ----

    /// Whether this batch may be appended now, and as what. The bytes were checked before ([`thalweg_record`]); this is what only
    /// the log can know. A repetition is recognised before any rule that a change of configuration or the passing of time could
    /// break, so that a retry is always answered like the first try.
    pub fn decide_append(
        &self,
        header: &BatchHeader,
        origin: Origin,
        now: Timestamp,
    ) -> Result<AppendDecision, AppendError> {
        append::check_kind(header)?;
        match origin {
            Origin::Client { leader_epoch } => self.decide_produced(header, leader_epoch, now),
            Origin::Replica => self.decide_replicated(header, now),
        }
    }

    fn decide_produced(
        &self,
        header: &BatchHeader,
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<AppendDecision, AppendError> {
        self.check_leader_epoch(leader_epoch)?;
        if let SequenceCheck::Duplicate(original) = self.producers.check(header)? {
            return Ok(AppendDecision::Duplicate {
                base_offset: original.base_offset,
                last_offset: original.last_offset,
                timestamp: original.max_timestamp,
            });
        }
        append::check_size(header, &self.config)?;
        append::check_timestamps(header, &self.config, now)?;
        let log_end = self.offsets.log_end();
        let mut stamped = BatchHeader { base_offset: log_end, leader_epoch, ..*header };
        // The offset after the last record must exist too: it becomes the log end.
        if log_end.checked_add(i64::from(header.last_offset_delta) + 1).is_none() {
            return Err(AppendError::OffsetsExhausted { log_end });
        }
        let log_append_time =
            (self.config.timestamp_type == TimestampType::LogAppendTime).then_some(now);
        if let Some(now) = log_append_time {
            stamped.max_timestamp = now;
        }
        Ok(self.append_of(&stamped, log_append_time, now))
    }

    fn decide_replicated(
        &self,
        header: &BatchHeader,
        now: Timestamp,
    ) -> Result<AppendDecision, AppendError> {
        let (base_offset, log_end) = (header.base_offset, self.offsets.log_end());
        // Compaction leaves gaps between batches, and nothing else does.
        let is_gap = base_offset > log_end && !self.config.cleanup_policy.compact;
        if base_offset < log_end || is_gap {
            return Err(AppendError::NotAtLogEnd { base_offset, log_end });
        }
        // Of the last record: an epoch in which this log led, and wrote nothing, is none of its history.
        let last = log_end.0.checked_sub(1).map(Offset);
        let latest = last.and_then(|last| self.epochs.epoch_at(last)).unwrap_or(LeaderEpoch::NONE);
        if header.leader_epoch < latest {
            return Err(AppendError::EpochWentBack { given: header.leader_epoch, latest });
        }
        if base_offset.checked_add(i64::from(header.last_offset_delta) + 1).is_none() {
            return Err(AppendError::OffsetsExhausted { log_end });
        }
        Ok(self.append_of(header, None, now))
    }

    fn append_of(
        &self,
        stamped: &BatchHeader,
        log_append_time: Option<Timestamp>,
        now: Timestamp,
    ) -> AppendDecision {
        let active = active(&self.segments);
        let jitter_ms = segment::jitter_ms(&self.config, self.jitter_seed, active.base_offset);
        AppendDecision::Append {
            base_offset: stamped.base_offset,
            last_offset: stamped.last_offset(),
            leader_epoch: stamped.leader_epoch,
            log_append_time,
            roll: segment::roll_reason(active, stamped, &self.config, jitter_ms, now),
        }
    }

    /// Notes a batch that was decided on, stamped as the decision said, and says where in which segment it belongs. `roll` is the
    /// decision's; with one, the batch opens a segment of its own base offset.
    pub fn apply_append(
        &mut self,
        stamped: &BatchHeader,
        roll: Option<RollReason>,
        now: Timestamp,
    ) -> Placement {
        if roll.is_some() {
            self.roll_at(stamped.base_offset, now);
        }
        if stamped.leader_epoch > LeaderEpoch::NONE {
            self.epochs.assign(stamped.leader_epoch, stamped.base_offset);
            self.leader_epoch = self.leader_epoch.max(stamped.leader_epoch);
        }
        self.producers.apply(stamped, now);
        self.offsets.appended(stamped.next_offset());
        let active = self.segments.last_mut().expect("a log has an active segment");
        active.push(stamped, &self.config, now)
    }

    /// A leader begins: its epoch starts at the log end. Returns whether the epoch index changed. An epoch at or below the present one
    /// changes nothing but is an error when it is older, because whoever says so acts on old knowledge.
    pub fn begin_leader_epoch(&mut self, epoch: LeaderEpoch) -> Result<bool, AppendError> {
        if epoch < self.leader_epoch {
            let current = self.leader_epoch;
            return Err(AppendError::FencedLeaderEpoch { given: epoch, current });
        }
        self.leader_epoch = epoch;
        if epoch <= LeaderEpoch::NONE {
            return Ok(false);
        }
        Ok(self.epochs.assign(epoch, self.offsets.log_end()))
    }

    fn check_leader_epoch(&self, given: LeaderEpoch) -> Result<(), AppendError> {
        let current = self.leader_epoch;
        match given.cmp(&current) {
            std::cmp::Ordering::Less => Err(AppendError::FencedLeaderEpoch { given, current }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(AppendError::UnknownLeaderEpoch { given, current }),
        }
    }

    // ---- Progress ----

    /// A successful flush covers everything below `recovery_point`.
    pub fn flushed(&mut self, recovery_point: Offset) {
        self.offsets.flushed(recovery_point);
    }

    /// As the leader: everything below `to` is durable on every in-sync replica, this one included (R3).
    pub fn advance_high_watermark(&mut self, to: Offset) {
        self.offsets.commit(to, None);
    }

    /// As a follower: the leader says that everything below `to` is committed.
    pub fn follow_high_watermark(&mut self, to: Offset) {
        self.offsets.follow(to, None);
    }

    // ---- Giving up old records ----

    /// Where DeleteRecords moves the log start when a client asks for `to`; -1 asks for everything that is committed.
    pub fn decide_log_start(&self, to: Offset) -> Result<Offset, LogStartError> {
        let high_watermark = self.offsets.high_watermark();
        match to {
            Offset::NONE => Ok(self.offsets.last_stable()),
            _ if to < Offset::ZERO || to > high_watermark => {
                Err(LogStartError { to, high_watermark })
            }
            _ => Ok(to.clamp(self.offsets.log_start(), self.offsets.last_stable())),
        }
    }

    /// Records below `to` are no longer readable. The segments they were in go with the next retention.
    pub fn move_log_start(&mut self, to: Offset) {
        self.offsets.move_log_start(to);
        self.epochs.truncate_from_start(self.offsets.log_start());
    }

    /// What retention does now.
    pub fn plan_retention(&self, now: Timestamp) -> retention::Plan {
        let mut plan = retention::plan(&self.segments, &self.offsets, &self.config, now);
        plan.roll_active |= self.is_active_past_its_age(now);
        plan
    }

    /// By local time alone, since no batch brings another. A restart makes the segment young again.
    fn is_active_past_its_age(&self, now: Timestamp) -> bool {
        let active = active(&self.segments);
        let jitter_ms = segment::jitter_ms(&self.config, self.jitter_seed, active.base_offset);
        let age_max_ms = self.config.segment_ms.saturating_sub(jitter_ms);
        !active.is_empty() && now.ms_since(active.created_at) > age_max_ms
    }

    /// Forgets the planned segments and moves the log start past them. Their files may go once the new log start cannot be lost.
    pub fn apply_retention(&mut self, plan: &retention::Plan, now: Timestamp) {
        if plan.roll_active {
            self.roll_active(now);
        }
        self.segments.drain(..plan.delete.len());
        let first = self.segments.first().expect("retention leaves the active segment");
        self.move_log_start(self.offsets.log_start().max(first.base_offset));
    }

    /// Begins a new segment at the log end. Nothing changes while the active one is empty. Returns whether it did.
    pub fn roll_active(&mut self, now: Timestamp) -> bool {
        let roll = !active(&self.segments).is_empty();
        if roll {
            self.roll_at(self.offsets.log_end(), now);
        }
        roll
    }

    fn roll_at(&mut self, base_offset: Offset, now: Timestamp) {
        if active(&self.segments).is_empty() {
            self.segments.pop();
        }
        self.segments.push(SegmentFacts::empty_at(base_offset, now));
    }

    /// Forgets producers not heard of for `producer.id.expiration.ms` and says how many they were.
    pub fn expire_producers(&mut self, now: Timestamp) -> usize {
        self.producers.expire(now, self.config.producer_id_expiration_ms)
    }

    // ---- Cutting back ----

    /// What cutting the log at `to` takes; `None` when it ends there already. `snapshots` are the offsets of the producer snapshots at
    /// hand; `unclean` says that the partition's registration carries an unclean election's mark that covers this log (R2).
    pub fn plan_truncation(
        &self,
        to: Offset,
        snapshots: &[Offset],
        unclean: bool,
    ) -> Result<Option<TruncationPlan>, TruncateError> {
        truncation::plan(&self.segments, &self.offsets, to, snapshots, unclean)
    }

    /// The plan was executed: `cut` are the facts of the segment that was cut and `producers` the states at its end. The log now ends
    /// there, which is the cut itself or the start of the batch that the cut fell into.
    pub fn truncate(
        &mut self,
        plan: &TruncationPlan,
        cut: SegmentFacts,
        producers: ProducerStates,
    ) {
        self.segments.truncate(self.segments.len() - plan.delete.len());
        if let Some(last) = self.segments.last_mut() {
            *last = cut;
        }
        self.offsets.truncated(cut.next_offset, plan.unclean);
        self.epochs.truncate_from_end(cut.next_offset);
        self.producers = producers;
    }

    /// Drops every record: the log is empty and begins at `at`, which may lie anywhere. For a follower whose log has nothing in common
    /// with what the leader still has; nothing is asked about what was committed. The leader epoch it was told of stays.
    pub fn restart(&mut self, at: Offset, now: Timestamp) {
        self.offsets = LogOffsets::empty_at(at, self.config.durability);
        self.epochs = EpochIndex::default();
        self.producers = ProducerStates::default();
        self.segments = vec![SegmentFacts::empty_at(at, now)];
    }

    // ---- Configuration and views ----

    /// Takes over a changed configuration; it applies from the next decision.
    pub fn configure(&mut self, config: LogConfig) {
        self.offsets.set_durability(config.durability);
        self.config = config;
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    pub fn offsets(&self) -> LogOffsets {
        self.offsets
    }

    pub fn epochs(&self) -> &EpochIndex {
        &self.epochs
    }

    /// The newest leader epoch this log was told of; [`LeaderEpoch::NONE`] before the first.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// See [`EpochIndex::end_offset_for`].
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        self.epochs.end_offset_for(epoch, self.offsets.log_end())
    }

    pub fn producers(&self) -> &ProducerStates {
        &self.producers
    }

    /// All segments, oldest first, the active one last.
    pub fn segments(&self) -> &[SegmentFacts] {
        &self.segments
    }

    pub fn active_segment(&self) -> &SegmentFacts {
        active(&self.segments)
    }

    /// The segment that holds the record at `offset`.
    pub fn segment_holding(&self, offset: Offset) -> Option<&SegmentFacts> {
        self.segments.get(segment::holding(&self.segments, offset)?)
    }

    /// Bytes of all batches in all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size_bytes).sum()
    }

    /// The largest timestamp in the log and the last offset of the first batch that holds it.
    pub fn max_timestamp(&self) -> Option<(Timestamp, Offset)> {
        let newest = self.segments.iter().filter_map(|segment| segment.max_timestamp);
        newest.reduce(|best, other| if other.0 > best.0 { other } else { best })
    }
}

fn active(segments: &[SegmentFacts]) -> &SegmentFacts {
    segments.last().expect("a log has an active segment")
}

#[cfg(test)]
mod tests;
