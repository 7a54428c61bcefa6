//! R1: what a leader answers a follower, and what it remembers of it.
//!
//! Nothing is recorded before every refusal has been considered, and no progress of a follower whose history diverges.

use std::collections::VecDeque;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{BrokerEpoch, ErrorCode, LeaderEpoch, Moment, NodeId, Offset};

use super::Leader;
use super::progress::{CaughtUp, Heard, Progress, Stream};
use crate::action::Action;
use crate::log_ends::{LogEnds, LogView};
use crate::message::{Handshake, Report, Verdict};

/// Why a follower is not pushed to. Nothing that the replica knows has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HandshakeRefusal {
    #[error("leader epoch {given} is over, the partition is in {current}")]
    FencedLeaderEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("leader epoch {given} is not known here yet, only {current}")]
    UnknownLeaderEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error("broker {node} has no replica of the partition")]
    NotAssigned { node: NodeId },
    #[error("broker {claimed} is not the authenticated {authenticated}")]
    ForeignIdentity { claimed: NodeId, authenticated: NodeId },
    #[error("broker epoch {given} is over, the broker is registered with {current}")]
    StaleBrokerEpoch { given: BrokerEpoch, current: BrokerEpoch },
    #[error("log end {log_end} and flushed end {flushed_end} are no positions of a log")]
    InvalidPosition { log_end: Offset, flushed_end: Offset },
}

/// Why a report is not believed. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ReportRefusal {
    #[error("the report is of leader epoch {given}, the partition is in {current}")]
    OtherEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("session {0} is over")]
    UnknownSession(u32),
    #[error(
        "log end {log_end} and flushed end {flushed_end} are no positions below the leader's log end {leader_end}"
    )]
    InvalidPosition { log_end: Offset, flushed_end: Offset, leader_end: Offset },
}

impl HandshakeRefusal {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::NotLeader => ErrorCode::NotLeaderOrFollower,
            Self::NotAssigned { .. } => ErrorCode::ReplicaNotAvailable,
            Self::ForeignIdentity { .. } => ErrorCode::ClusterAuthorizationFailed,
            Self::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
            Self::InvalidPosition { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl Leader {
    /// `from` is the authenticated caller.
    pub(crate) fn handle_handshake(
        &mut self,
        from: NodeId,
        handshake: &Handshake,
        log: LogView<'_>,
        now: Moment,
        actions: &mut VecDeque<Action>,
    ) -> Verdict {
        if let Err(refusal) = self.check_caller(from, handshake) {
            return Verdict::Refused(refusal);
        }
        if let Some(verdict) = divergence(handshake, log) {
            return verdict;
        }
        let verdict = self.accept(handshake, now);
        self.advance(now, actions);
        self.propose_changes(now, actions);
        verdict
    }

    fn check_caller(&self, from: NodeId, handshake: &Handshake) -> Result<(), HandshakeRefusal> {
        let Handshake { node, broker_epoch, log_end, flushed_end, .. } = *handshake;
        check_epoch(handshake.leader_epoch, self.epoch)?;
        let Some(follower) = self.followers.iter().find(|follower| follower.node == node) else {
            return Err(HandshakeRefusal::NotAssigned { node });
        };
        if node != from {
            return Err(HandshakeRefusal::ForeignIdentity { claimed: node, authenticated: from });
        }
        let registered = follower.peer.map_or(BrokerEpoch::NONE, |peer| peer.broker_epoch);
        if broker_epoch < registered && !mutant!(Mutant::M4) {
            let (given, current) = (broker_epoch, registered);
            return Err(HandshakeRefusal::StaleBrokerEpoch { given, current });
        }
        if flushed_end < Offset::ZERO || flushed_end > log_end {
            return Err(HandshakeRefusal::InvalidPosition { log_end, flushed_end });
        }
        Ok(())
    }

    /// R1.4: the follower's log is a prefix of ours.
    fn accept(&mut self, handshake: &Handshake, now: Moment) -> Verdict {
        self.sessions += 1;
        let (session, leader_end) = (self.sessions, self.ends.log_end);
        let durable_end = self.durable.end(handshake.flushed_end, handshake.log_end);
        let stream = Stream {
            session,
            pushed_to: handshake.log_end,
            told_high_watermark: self.ends.high_watermark,
            told_log_start: self.ends.log_start,
        };
        if let Some(follower) = self.followers.iter_mut().find(|f| f.node == handshake.node) {
            let mut caught_up = CaughtUp::since(follower.behind_since(), leader_end, now);
            caught_up.reached(durable_end, leader_end, now);
            follower.progress = Progress::Heard(Heard {
                broker_epoch: handshake.broker_epoch,
                dir_id: handshake.dir_id,
                fitness: handshake.fitness,
                log_end: handshake.log_end,
                flushed_end: handshake.flushed_end,
                caught_up,
                stream: Some(stream),
            });
        }
        let Stream { told_high_watermark, told_log_start, .. } = stream;
        Verdict::Accepted {
            session,
            high_watermark: told_high_watermark,
            log_start: told_log_start,
        }
    }

    /// Progress of a follower on its stream. What is not newer than what is known changes nothing.
    pub(crate) fn handle_report(
        &mut self,
        from: NodeId,
        report: &Report,
        now: Moment,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), ReportRefusal> {
        let Report { session, leader_epoch, log_end, flushed_end, fitness } = *report;
        if leader_epoch != self.epoch && !mutant!(Mutant::M3) {
            let (given, current) = (leader_epoch, self.epoch);
            return Err(ReportRefusal::OtherEpoch { given, current });
        }
        let (leader_end, durable) = (self.ends.log_end, self.durable);
        if flushed_end < Offset::ZERO || flushed_end > log_end || log_end > leader_end {
            return Err(ReportRefusal::InvalidPosition { log_end, flushed_end, leader_end });
        }
        let heard = self
            .followers
            .iter_mut()
            .find(|follower| follower.node == from)
            .filter(|follower| follower.peer.is_some())
            .and_then(super::Follower::heard_mut)
            .filter(|heard| heard.stream.is_some_and(|stream| stream.session == session));
        let Some(heard) = heard else { return Err(ReportRefusal::UnknownSession(session)) };
        heard.log_end = heard.log_end.max(log_end);
        heard.flushed_end = heard.flushed_end.max(flushed_end);
        heard.fitness = fitness;
        let durable_end = durable.end(heard.flushed_end, heard.log_end);
        heard.caught_up.reached(durable_end, leader_end, now);
        self.advance(now, actions);
        self.propose_changes(now, actions);
        Ok(())
    }
}

/// Whether a message of the leader epoch `given` may be looked at in `current` (KIP-320).
pub(crate) fn check_epoch(
    given: LeaderEpoch,
    current: LeaderEpoch,
) -> Result<(), HandshakeRefusal> {
    if given < current && !mutant!(Mutant::M3) {
        return Err(HandshakeRefusal::FencedLeaderEpoch { given, current });
    }
    if given > current {
        return Err(HandshakeRefusal::UnknownLeaderEpoch { given, current });
    }
    Ok(())
}

/// R1.3: why the follower's log is no prefix of ours, if it is not.
///
/// Below our log start nothing can be compared, and none of it is of use any more: the follower begins anew there. A log without records
/// agrees with any that reaches as far: it stands where it does because an earlier leader had deleted everything below.
fn divergence(handshake: &Handshake, log: LogView<'_>) -> Option<Verdict> {
    let LogEnds { log_start, log_end, .. } = log.ends;
    let (position, last_epoch) = (handshake.log_end, handshake.last_epoch);
    let is_empty = last_epoch == LeaderEpoch::NONE;
    if is_empty && (log_start..=log_end).contains(&position) {
        return None;
    }
    let nothing_in_common = log.epochs.floor_end(last_epoch, log_end).is_none();
    if position < log_start || nothing_in_common {
        return Some(Verdict::OutOfRange { log_start });
    }
    let end = log.epochs.divergence(last_epoch, position, log_end)?;
    Some(Verdict::Diverging { end, log_start })
}
