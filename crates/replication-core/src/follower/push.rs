//! What a follower takes from its leader, and what it refuses (B52).
//!
//! The batches' bytes are the caller's to check: length, checksum, and that they belong to this partition. Here it is the place of every
//! batch in the log, its epoch, and that the leader's positions can be those of a log.

use std::collections::VecDeque;

use thalweg_types::{LeaderEpoch, Offset};

use super::{Follower, State};
use crate::action::Action;
use crate::message::{BatchSpan, Push};

/// Why a push is not taken. Nothing of it is; the stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushRefusal {
    #[error("nobody is followed here at the moment")]
    NotFollowing,
    #[error("the push is of leader epoch {given}, the partition is in {current}")]
    OtherEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("session {0} is over")]
    UnknownSession(u32),
    #[error("a batch begins at {base_offset}, the log ends at {log_end}")]
    NotAtLogEnd { base_offset: Offset, log_end: Offset },
    #[error("a batch from {base_offset} ends at {end_offset}")]
    EmptyBatch { base_offset: Offset, end_offset: Offset },
    #[error("a batch is of epoch {given}, which is not from {last} to {leader}")]
    EpochOutOfRange { given: LeaderEpoch, last: LeaderEpoch, leader: LeaderEpoch },
    #[error("a batch of {size_bytes} bytes is larger than {size_bytes_max}")]
    Oversized { size_bytes: usize, size_bytes_max: usize },
    #[error(
        "log start {log_start}, high watermark {high_watermark} and log end {log_end} are no positions of a log that has the pushed batches"
    )]
    InvalidPositions { log_start: Offset, high_watermark: Offset, log_end: Offset },
}

impl Follower {
    /// Checks a push as a whole. Accepted batches are to be appended at once, and reported as local progress.
    pub(crate) fn handle_push(
        &mut self,
        push: &Push<'_>,
        batch_bytes_max: usize,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), PushRefusal> {
        let (given, current) = (push.leader_epoch, self.epoch);
        if given != current {
            return Err(PushRefusal::OtherEpoch { given, current });
        }
        let State::Following(mut following) = self.state else {
            return Err(PushRefusal::NotFollowing);
        };
        if push.session != following.session {
            return Err(PushRefusal::UnknownSession(push.session));
        }
        let (mut log_end, mut last) = (self.ends.log_end, following.accepted_epoch);
        for batch in push.batches {
            self.check_batch(batch, log_end, last, batch_bytes_max)?;
            (log_end, last) = (batch.end_offset, batch.leader_epoch);
        }
        check_positions(push, log_end)?;
        following.accepted_epoch = last;
        following.leader_high_watermark = following.leader_high_watermark.max(push.high_watermark);
        following.leader_log_start = following.leader_log_start.max(push.log_start);
        self.state = State::Following(following);
        self.follow_ends(actions);
        Ok(())
    }

    fn check_batch(
        &self,
        batch: &BatchSpan,
        log_end: Offset,
        last: LeaderEpoch,
        size_bytes_max: usize,
    ) -> Result<(), PushRefusal> {
        let BatchSpan { base_offset, end_offset, leader_epoch: given, size_bytes } = *batch;
        if base_offset != log_end {
            return Err(PushRefusal::NotAtLogEnd { base_offset, log_end });
        }
        if end_offset <= base_offset {
            return Err(PushRefusal::EmptyBatch { base_offset, end_offset });
        }
        if given < last || given > self.epoch {
            return Err(PushRefusal::EpochOutOfRange { given, last, leader: self.epoch });
        }
        if size_bytes > size_bytes_max {
            return Err(PushRefusal::Oversized { size_bytes, size_bytes_max });
        }
        Ok(())
    }
}

fn check_positions(push: &Push<'_>, pushed_end: Offset) -> Result<(), PushRefusal> {
    let Push { log_start, high_watermark, log_end, .. } = *push;
    let in_order = Offset::ZERO <= log_start
        && log_start <= high_watermark
        && high_watermark <= log_end
        && pushed_end <= log_end;
    if in_order {
        Ok(())
    } else {
        Err(PushRefusal::InvalidPositions { log_start, high_watermark, log_end })
    }
}
