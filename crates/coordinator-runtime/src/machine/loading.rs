//! Taking a partition over: what is committed is replayed, until a fence proves that this was all.

use bytes::Bytes;
use thalweg_invariants::{Mutant, mutant};
use thalweg_record::{Batches, DecompressLimits, records};
use thalweg_types::{CoordinatorEpoch, Moment, NodeId, Offset};

use super::serving::Serving;
use super::{Failure, Ticket};
use crate::core::{Core, Now, Refusal};
use crate::fence::{Fence, is_fence};
use crate::port::{Condition, LogEnds, PortError};

/// Between two looks at a log whose end is not committed yet.
const LOOK_AGAIN_MS_MIN: u64 = 5;
const LOOK_AGAIN_MS_MAX: u64 = 500;

#[derive(Debug)]
pub(super) struct Loading<C> {
    core: C,
    /// First offset that is not replayed; none before the log was first located.
    next: Option<Offset>,
    /// Where the log stood at the last look.
    ends: Option<LogEnds>,
    /// The question under way.
    pub(super) ticket: Option<Ticket>,
    pub(super) pause_until: Option<Moment>,
    pauses: u32,
    /// Set while the fence is on its way.
    fence: Option<Condition>,
    pub(super) records: u64,
    pub(super) since: Moment,
}

/// How a load goes on.
#[derive(Debug)]
pub(super) enum Next {
    Locate,
    /// What is there is not committed yet: look again a moment later.
    Pause,
    Read(Offset),
    Fence(LogEnds),
    /// Only with a planted bug.
    ServeUnproven,
}

impl<C: Core> Loading<C> {
    pub(super) fn new(core: C, since: Moment) -> Self {
        Self {
            core,
            next: None,
            ends: None,
            ticket: None,
            pause_until: None,
            pauses: 0,
            fence: None,
            records: 0,
            since,
        }
    }

    pub(super) fn awaits(&self, ticket: Ticket) -> bool {
        self.ticket == Some(ticket)
    }

    pub(super) fn pause_ms(&mut self) -> u64 {
        let pause_ms = LOOK_AGAIN_MS_MIN << self.pauses.min(16);
        self.pauses += 1;
        pause_ms.min(LOOK_AGAIN_MS_MAX)
    }

    pub(super) fn handle_located(&mut self, ends: LogEnds) -> Result<Next, Failure> {
        let next = *self.next.get_or_insert(ends.log_start_offset);
        if next > ends.log_end_offset || next < ends.log_start_offset {
            let why = format!("replayed up to {next}, which is outside of the log: {ends:?}");
            return Err(Failure { why, refusal: Refusal::Loading });
        }
        self.ends = Some(ends);
        Ok(self.after_progress(next, ends))
    }

    pub(super) fn handle_read(&mut self, batches: &[Bytes]) -> Result<Next, Failure> {
        let (Some(before), Some(ends)) = (self.next, self.ends) else { return Ok(Next::Locate) };
        for bytes in batches {
            self.replay(bytes).map_err(|why| Failure { why, refusal: Refusal::Loading })?;
        }
        let next = self.next.unwrap_or(before);
        if next == before {
            // What was committed a moment ago is not there to be read: a new leader may know less, for a while.
            return Ok(Next::Pause);
        }
        self.pauses = 0;
        if next > ends.high_watermark {
            return Ok(Next::Locate);
        }
        Ok(self.after_progress(next, ends))
    }

    fn after_progress(&self, next: Offset, ends: LogEnds) -> Next {
        if next < ends.high_watermark {
            Next::Read(next)
        } else if mutant!(Mutant::M14) {
            Next::ServeUnproven
        } else if ends.high_watermark < ends.log_end_offset
            || ends.high_watermark < ends.epoch_start_offset
        {
            Next::Pause
        } else {
            Next::Fence(ends)
        }
    }

    fn replay(&mut self, bytes: &[u8]) -> Result<(), String> {
        for batch in Batches::new(bytes) {
            let (header, batch) = batch.map_err(|error| error.to_string())?;
            let next = self.next.unwrap_or(header.base_offset);
            if header.next_offset() <= next {
                continue;
            }
            if !header.attributes.is_control() {
                self.replay_batch(batch, next)?;
            }
            self.next = Some(header.next_offset());
        }
        Ok(())
    }

    fn replay_batch(&mut self, batch: &[u8], next: Offset) -> Result<(), String> {
        let records = records(batch, &DecompressLimits::default()).map_err(|e| e.to_string())?;
        for record in &records {
            let record = record.map_err(|error| error.to_string())?;
            // A record without a key is none of ours: nothing writes such a one to an internal topic.
            let Some(key) = record.key.filter(|key| record.offset >= next && !is_fence(key)) else {
                continue;
            };
            self.core
                .replay(key, record.value)
                .map_err(|error| format!("at offset {}: {error}", record.offset))?;
            self.records += 1;
        }
        Ok(())
    }

    /// The fence, to be appended on the very end that was located.
    pub(super) fn fence(
        &mut self,
        ends: LogEnds,
        ticket: Ticket,
        chain: u64,
        node: NodeId,
        coordinator_epoch: CoordinatorEpoch,
        now: Now,
    ) -> Result<(Condition, Bytes), Failure> {
        let condition = Condition {
            leader_epoch: ends.leader_epoch,
            expected_end: ends.log_end_offset,
            coordinator_epoch,
            chain,
            opens_chain: true,
        };
        let fence = Fence { coordinator_epoch, node, chain };
        let batch = fence
            .batch(now.wall)
            .map_err(|error| Failure { why: error.to_string(), refusal: Refusal::Loading })?;
        self.ticket = Some(ticket);
        self.fence = Some(condition);
        Ok((condition, batch))
    }

    /// The fence is committed: the core has everything, and nobody else writes.
    pub(super) fn into_serving(self) -> Serving<C> {
        let unproven = self.ends.map(|ends| Condition {
            leader_epoch: ends.leader_epoch,
            expected_end: Offset(ends.log_end_offset.0 - 1),
            coordinator_epoch: CoordinatorEpoch::NONE,
            chain: 0,
            opens_chain: false,
        });
        let fence = self.fence.or(unproven).expect("a log is located before it is served");
        Serving::new(self.core, fence)
    }
}

/// How to go on when the fence was not, or not surely, appended.
pub(super) fn after_fence(error: PortError) -> Result<Next, Failure> {
    match error {
        // Another writer was there, or the leader has changed: read on. An unknown fence is found, or it is refused for ever once another one
        // stands where it should have.
        PortError::Refused(_) | PortError::Unknown(_) => Ok(Next::Pause),
        PortError::Deposed(_) => Err(error.into()),
    }
}
