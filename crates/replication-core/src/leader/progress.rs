//! What the leader knows of one follower.

use thalweg_types::{BrokerEpoch, DirId, Moment, NodeId, Offset};

use crate::message::Fitness;
use crate::partition::Peer;

/// One assigned replica other than the leader.
#[derive(Debug, Clone, Hash)]
pub(super) struct Follower {
    pub(super) node: NodeId,
    /// As the metadata has it; `None` while it is not registered.
    pub(super) peer: Option<Peer>,
    pub(super) progress: Progress,
}

#[derive(Debug, Clone, Hash)]
pub(super) enum Progress {
    /// Nothing was accepted from its present session in this leader epoch.
    Unheard {
        since: Moment,
    },
    Heard(Heard),
}

/// Accepted in this leader epoch.
#[derive(Debug, Clone, Hash)]
pub(super) struct Heard {
    pub(super) broker_epoch: BrokerEpoch,
    pub(super) dir_id: DirId,
    pub(super) fitness: Fitness,
    pub(super) log_end: Offset,
    pub(super) flushed_end: Offset,
    pub(super) caught_up: CaughtUp,
    /// What it is to be pushed; `None` while it is not connected. Its progress outlives the connection.
    pub(super) stream: Option<Stream>,
}

/// The leader's side of one accepted handshake.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Stream {
    pub(super) session: u32,
    pub(super) pushed_to: Offset,
    pub(super) told_high_watermark: Offset,
    pub(super) told_log_start: Offset,
}

/// When the follower was last known to have everything.
///
/// Reports come much faster than a record travels, so comparing each with the log end of a moment ago would never find a follower of a
/// busy leader caught up. Instead one place is marked: once the follower has reached it, it had everything at the time of the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CaughtUp {
    pub(super) at: Moment,
    mark: Offset,
    marked_at: Moment,
}

impl Follower {
    pub(super) fn new(node: NodeId, peer: Option<Peer>, now: Moment) -> Self {
        Self { node, peer, progress: Progress::Unheard { since: now } }
    }

    pub(super) fn heard(&self) -> Option<&Heard> {
        match &self.progress {
            Progress::Heard(heard) => Some(heard),
            Progress::Unheard { .. } => None,
        }
    }

    pub(super) fn heard_mut(&mut self) -> Option<&mut Heard> {
        match &mut self.progress {
            Progress::Heard(heard) => Some(heard),
            Progress::Unheard { .. } => None,
        }
    }

    /// The stream of this session, if it is the present one.
    pub(super) fn stream_mut(&mut self, session: u32) -> Option<&mut Stream> {
        self.heard_mut()?.stream.as_mut().filter(|stream| stream.session == session)
    }

    /// The metadata says something else of the replica now. What an earlier session had proves nothing about this one.
    pub(super) fn update(&mut self, peer: Option<Peer>, now: Moment) {
        self.peer = peer;
        let session = peer.map(|peer| peer.broker_epoch);
        if self.heard().is_some_and(|heard| session.is_some_and(|new| heard.broker_epoch < new)) {
            self.progress = Progress::Unheard { since: now };
        }
    }

    /// Since when it has not had everything, as far as is known.
    pub(super) fn behind_since(&self) -> Moment {
        match &self.progress {
            Progress::Unheard { since } => *since,
            Progress::Heard(heard) => heard.caught_up.at,
        }
    }
}

impl CaughtUp {
    /// Of a follower that is heard of for the first time since it was last known to have everything.
    pub(super) fn since(at: Moment, leader_end: Offset, now: Moment) -> Self {
        Self { at, mark: leader_end, marked_at: now }
    }

    /// The follower has everything up to `durable_end`; the leader's log ends at `leader_end`.
    pub(super) fn reached(&mut self, durable_end: Offset, leader_end: Offset, now: Moment) {
        if durable_end >= leader_end {
            self.at = self.at.max(now);
            self.mark = leader_end;
            self.marked_at = now;
        } else if durable_end >= self.mark {
            self.at = self.at.max(self.marked_at);
            self.mark = leader_end;
            self.marked_at = now;
        }
    }
}
