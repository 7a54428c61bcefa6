//! What each idempotent producer has written to this log: the state that tells a repetition from a new batch (KIP-98, R16).
//!
//! A producer numbers its records per partition. The log remembers, for each producer id, its epoch and the sequences and offsets of
//! its last [`BATCHES_KEPT`] batches, as many as a client may have in flight. A batch that continues the numbering is new; one that
//! repeats a remembered batch is answered with that batch's offsets and not appended; anything else is out of order.
//!
//! The remembered sequences are a function of the log up to its end (P3): [`ProducerStates::apply`] is the only way they grow, and it
//! runs alike on a leader, on a follower and in recovery. When a producer was last heard of is kept beside them and is not part of
//! that function: it is the local time of the append or of the replay, never a record's timestamp, so that records with old timestamps
//! do not lose their protection early and records from the future do not stay for ever. It only bounds how long state is kept.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use thalweg_invariants::{PRODUCER_STATE, check};
use thalweg_record::BatchHeader;
use thalweg_types::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

mod snapshot;

pub use snapshot::CorruptSnapshot;

/// Batches remembered per producer: a client keeps at most this many unanswered on one connection, so a repetition of one further back
/// cannot come from a correct client.
pub const BATCHES_KEPT: usize = 5;

/// The producers of one log. Ordered by id, so that everything derived from it is the same in every process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, ProducerState>,
}

/// One producer's part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    pub epoch: ProducerEpoch,
    /// The last batches of this epoch, oldest first; at most [`BATCHES_KEPT`], at least one.
    pub batches: VecDeque<ProducerBatch>,
    /// Local time when its last batch was appended or replayed.
    pub last_heard: Timestamp,
}

/// One remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    pub base_sequence: Sequence,
    pub last_sequence: Sequence,
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// The batch's largest timestamp: what a repetition is answered with on a LogAppendTime topic.
    pub max_timestamp: Timestamp,
}

/// What a batch is to its producer's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// Not from an idempotent producer, or the continuation of one's numbering.
    New,
    /// A repetition of this batch, which is in the log already.
    Duplicate(ProducerBatch),
}

/// The batch does not continue its producer's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    #[error("producer {producer_id} has epoch {current}, the batch carries the older {given}")]
    Fenced { producer_id: ProducerId, given: ProducerEpoch, current: ProducerEpoch },
    #[error(
        "producer {producer_id} should continue at sequence {expected}, the batch starts at {given}"
    )]
    OutOfOrder { producer_id: ProducerId, given: Sequence, expected: Sequence },
    #[error("a batch of producer {producer_id} carries epoch {epoch} and sequence {sequence}")]
    Malformed { producer_id: ProducerId, epoch: ProducerEpoch, sequence: Sequence },
}

impl ProducerError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Fenced { .. } => ErrorCode::InvalidProducerEpoch,
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::Malformed { .. } => ErrorCode::InvalidRecord,
        }
    }
}

// ---- ProducerStates ----

impl ProducerStates {
    /// Whether a batch from a client continues, repeats or breaks its producer's numbering.
    ///
    /// A producer without state may start at any sequence: retention may have taken what it wrote, or its state may have expired.
    pub fn check(&self, header: &BatchHeader) -> Result<SequenceCheck, ProducerError> {
        let producer_id = header.producer_id;
        if producer_id == ProducerId::NONE {
            return Ok(SequenceCheck::New);
        }
        let (epoch, given) = (header.producer_epoch, header.base_sequence);
        if producer_id.0 < 0 || epoch.0 < 0 || given.0 < 0 {
            return Err(ProducerError::Malformed { producer_id, epoch, sequence: given });
        }
        let Some(state) = self.producers.get(&producer_id) else { return Ok(SequenceCheck::New) };
        if epoch < state.epoch {
            return Err(ProducerError::Fenced { producer_id, given: epoch, current: state.epoch });
        }
        if epoch == state.epoch
            && let Some(original) = state.repeated_by(given, header.last_sequence())
        {
            return Ok(SequenceCheck::Duplicate(*original));
        }
        let expected = if epoch > state.epoch { Sequence::ZERO } else { state.next_sequence() };
        if given != expected {
            return Err(ProducerError::OutOfOrder { producer_id, given, expected });
        }
        Ok(SequenceCheck::New)
    }

    /// Notes a batch that is now in the log. `now` is the local time.
    pub fn apply(&mut self, stamped: &BatchHeader, now: Timestamp) {
        if stamped.producer_id == ProducerId::NONE {
            return;
        }
        let batch = ProducerBatch {
            base_sequence: stamped.base_sequence,
            last_sequence: stamped.last_sequence(),
            base_offset: stamped.base_offset,
            last_offset: stamped.last_offset(),
            max_timestamp: stamped.max_timestamp,
        };
        let state = self.producers.entry(stamped.producer_id).or_insert_with(|| ProducerState {
            epoch: stamped.producer_epoch,
            batches: VecDeque::with_capacity(1),
            last_heard: now,
        });
        if state.epoch != stamped.producer_epoch {
            state.batches.clear();
            state.epoch = stamped.producer_epoch;
        }
        state.push(batch);
        state.last_heard = state.last_heard.max(now);
    }

    /// Forgets the producers not heard of for `expiration_ms` and says how many they were.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, state| now.ms_since(state.last_heard) < expiration_ms);
        before - self.producers.len()
    }

    /// State of one producer, if any of its batches is remembered.
    pub fn get(&self, producer_id: ProducerId) -> Option<&ProducerState> {
        self.producers.get(&producer_id)
    }

    /// All producers, by id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.producers.iter().map(|(id, state)| (*id, state))
    }

    pub fn len(&self) -> usize {
        self.producers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }
}

// ---- ProducerState ----

impl ProducerState {
    /// The sequence this producer's next batch starts with.
    pub fn next_sequence(&self) -> Sequence {
        self.batches.back().map_or(Sequence::ZERO, |newest| newest.last_sequence.next())
    }

    fn repeated_by(&self, base: Sequence, last: Sequence) -> Option<&ProducerBatch> {
        self.batches.iter().find(|known| known.base_sequence == base && known.last_sequence == last)
    }

    fn push(&mut self, batch: ProducerBatch) {
        check!(
            PRODUCER_STATE,
            self.batches.back().is_none_or(|newest| newest.last_offset < batch.base_offset),
            "batch {batch:?} after {:?}",
            self.batches.back()
        );
        if self.batches.len() == BATCHES_KEPT {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }
}

#[cfg(test)]
mod tests;
