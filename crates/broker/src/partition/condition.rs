//! Appends that take place only where their author believes the log to end.
//!
//! All is compared under the partition's lock, in one critical section with the append: between two writers who believe the same, exactly one
//! is right. What a coordinator continues is [`thalweg_log_core::Chain`]'s to say.

use thalweg_log_core::{AppendDecision, Continuation, ContinuationError, LogOffsets, Origin};
use thalweg_record::BatchHeader;
use thalweg_types::{Acks, CoordinatorEpoch, LeaderEpoch, Offset, ProducerId, Timestamp};

use super::{Inner, Partition, Pending};
use crate::error::{AppendError, NotLeading};

/// What must hold for an append to take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The first record gets this offset. What the log has already of an idempotent producer is answered as the first time.
    Offset(Offset),
    /// The author is a coordinator.
    Coordinator(CoordinatorCondition),
}

/// Where a coordinator believes the log of its partition to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoordinatorCondition {
    pub leader_epoch: LeaderEpoch,
    pub expected_end: Offset,
    pub coordinator_epoch: CoordinatorEpoch,
    /// What was appended last belongs to it. `None`: to any, in checks only.
    pub chain: Option<u64>,
    /// The append may follow upon anything, and begins the chain.
    pub opens_chain: bool,
}

/// The log is not where the author of an append believes it to be, or not the author's to write. Nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    #[error("the log ends at {end}, not at {expected}")]
    End { expected: Offset, end: Offset },
    #[error("the log ends where it should, but the last append was another writer's")]
    Chain,
    #[error("coordinator epoch {given} is over, the partition is in {current}")]
    Deposed { given: CoordinatorEpoch, current: CoordinatorEpoch },
    #[error("coordinator epoch {given} is newer than {current}, the newest known here")]
    UnknownCoordinator { given: CoordinatorEpoch, current: CoordinatorEpoch },
    #[error("no coordinator writes to this topic")]
    NotCoordinated,
    #[error("what coordinators append is acknowledged by all in-sync replicas or not at all")]
    WeakAcks,
}

/// Where a partition's log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogStanding {
    pub(crate) epoch: LeaderEpoch,
    /// Where the log ended when its leader began.
    pub(crate) epoch_start_offset: Offset,
    pub(crate) offsets: LogOffsets,
}

impl Partition {
    /// Waits for what is below the condition's end to be committed, if the condition holds now.
    pub(crate) fn check(&self, condition: &CoordinatorCondition) -> Result<Pending, AppendError> {
        self.enter(|entered| {
            let epoch = entered.inner.leading()?;
            let offsets = self.log.offsets();
            entered.inner.check_coordinator(condition, epoch, offsets.log_end())?;
            let end = condition.expected_end;
            let stands = thalweg_storage::Appended {
                base_offset: end,
                last_offset: Offset(end.0 - 1),
                log_append_time: None,
                log_start_offset: offsets.log_start(),
                duplicate: false,
            };
            Ok(self.pending(&mut entered.inner, stands, Acks::All))
        })
    }

    pub(crate) fn standing(&self) -> Result<LogStanding, NotLeading> {
        let inner = self.lock(self.hub.now());
        let epoch = inner.leading()?;
        let offsets = self.log.offsets();
        let epoch_start_offset =
            inner.replica.as_leader().map_or_else(|| offsets.log_end(), |l| l.epoch_start_offset());
        Ok(LogStanding { epoch, epoch_start_offset, offsets })
    }

    /// Whether the condition admits the batch.
    pub(super) fn admit(
        &self,
        inner: &Inner,
        condition: &Condition,
        epoch: LeaderEpoch,
        header: &BatchHeader,
    ) -> Result<(), AppendError> {
        let end = self.log.offsets().log_end();
        match condition {
            Condition::Offset(expected) if *expected == end => Ok(()),
            // The answer to the first one may have been lost.
            Condition::Offset(_) if self.has_already(header, epoch) => Ok(()),
            Condition::Offset(expected) => {
                Err(ConditionError::End { expected: *expected, end }.into())
            }
            Condition::Coordinator(condition) => inner.check_coordinator(condition, epoch, end),
        }
    }

    fn has_already(&self, header: &BatchHeader, epoch: LeaderEpoch) -> bool {
        if header.producer_id == ProducerId::NONE {
            return false;
        }
        let origin = Origin::Client { leader_epoch: epoch };
        // Whether it is a repetition does not depend on the time.
        let decided = self.log.inspect(|core| core.decide_append(header, origin, Timestamp(0)));
        matches!(decided, Ok(AppendDecision::Duplicate { .. }))
    }
}

impl Inner {
    fn check_coordinator(
        &self,
        condition: &CoordinatorCondition,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Result<(), AppendError> {
        self.chain.admit(&condition.continuation(), epoch, end).map_err(|error| match error {
            ContinuationError::FencedEpoch { given, current } => {
                NotLeading::FencedEpoch { given, current }.into()
            }
            ContinuationError::UnknownEpoch { given, current } => {
                NotLeading::UnknownEpoch { given, current }.into()
            }
            ContinuationError::End { expected, end } => {
                ConditionError::End { expected, end }.into()
            }
            ContinuationError::Chain => ConditionError::Chain.into(),
        })
    }

    /// The log has a new last batch.
    pub(super) fn continue_chain(&mut self, condition: Option<&Condition>, epoch: LeaderEpoch) {
        let chain = match condition {
            Some(Condition::Coordinator(condition)) => condition.chain,
            Some(Condition::Offset(_)) | None => None,
        };
        self.chain.appended(epoch, chain);
    }
}

impl CoordinatorCondition {
    fn continuation(&self) -> Continuation {
        let Self { leader_epoch, expected_end, chain, opens_chain, .. } = *self;
        Continuation { leader_epoch, expected_end, chain, opens_chain }
    }
}

impl ConditionError {
    pub fn code(self) -> thalweg_types::ErrorCode {
        use thalweg_types::ErrorCode;
        match self {
            Self::End { .. } | Self::Chain => ErrorCode::InvalidUpdateVersion,
            Self::Deposed { .. } => ErrorCode::NotCoordinator,
            Self::UnknownCoordinator { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::NotCoordinated => ErrorCode::InvalidRequest,
            Self::WeakAcks => ErrorCode::InvalidRequiredAcks,
        }
    }
}

#[cfg(test)]
mod tests;
