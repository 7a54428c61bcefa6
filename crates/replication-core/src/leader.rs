//! The leader of one partition, for one epoch.
//!
//! It knows of each follower how far it got in this epoch and in its present session ([`progress`]), goes by the in-sync replicas
//! ([`isr`]) and by what counts as durable ([`durable`]), and after every input does the same two things: move the high watermark as far
//! as it may ([`high_watermark`]) and propose what should change ([`membership`]). It never cuts its log.

mod admission;
mod durable;
mod handshake;
mod high_watermark;
mod isr;
mod membership;
mod progress;

use std::collections::VecDeque;

use thalweg_invariants::{OFFSETS, check};
use thalweg_types::{LeaderEpoch, Moment, NodeId, Offset};

pub use admission::AppendRefusal;
use durable::DurableRule;
pub(crate) use handshake::check_epoch;
pub use handshake::{HandshakeRefusal, ReportRefusal};
use isr::Isr;
use progress::Follower;

use crate::action::{AckFailure, Action};
use crate::log_ends::LogEnds;
use crate::message::PushCursor;
use crate::partition::{Identity, Partition, Peer, Timing};

/// Begins with the epoch and ends with it; see the module for where its rules are.
#[derive(Debug, Clone, Hash)]
pub struct Leader {
    me: Identity,
    timing: Timing,
    epoch: LeaderEpoch,
    /// LESO: log end when this leader began.
    epoch_start_offset: Offset,
    ends: LogEnds,
    durable: DurableRule,
    partition: Partition,
    isr: Isr,
    followers: Vec<Follower>,
    /// Numbers accepted handshakes.
    sessions: u32,
    lease_is_valid: bool,
    is_stopping: bool,
}

impl Leader {
    /// Begins `partition.leader_epoch` at the log's end. Nothing of what followers had before counts: joiners' progress was measured
    /// against another history. The high watermark begins at most at the own durable end: above it only a leader of an unclean election
    /// can have heard of any.
    pub(crate) fn begin(
        me: Identity,
        timing: Timing,
        (partition, peers): (&Partition, &[Peer]),
        ends: LogEnds,
        now: Moment,
    ) -> Self {
        let durable = DurableRule::new(partition.durability);
        let durable_end = durable.end(ends.flushed_end, ends.log_end);
        let high_watermark = ends.high_watermark.min(durable_end);
        let mut leader = Self {
            me,
            timing,
            epoch: partition.leader_epoch,
            epoch_start_offset: ends.log_end,
            ends: LogEnds { high_watermark, ..ends },
            durable,
            isr: Isr::new(partition.isr.clone(), partition.partition_epoch, now),
            partition: partition.clone(),
            followers: Vec::new(),
            sessions: 0,
            lease_is_valid: true,
            is_stopping: false,
        };
        leader.update_followers(peers, now);
        leader
    }

    // ---- Inputs ----

    /// What the log's owner appended or flushed.
    pub(crate) fn handle_local(
        &mut self,
        ends: LogEnds,
        now: Moment,
        actions: &mut VecDeque<Action>,
    ) {
        let grown = ends.log_end > self.ends.log_end;
        check!(
            OFFSETS,
            ends.log_end >= self.ends.log_end && ends.flushed_end <= ends.log_end,
            "a leader's log went from {:?} to {ends:?}",
            self.ends
        );
        if grown {
            self.note_caught_up(ends.log_end, now);
        }
        self.ends = LogEnds { high_watermark: self.ends.high_watermark, ..ends };
        self.advance(now, actions);
        self.propose_changes(now, actions);
    }

    /// Who had everything until now is behind only from now on, however long ago its last report was.
    fn note_caught_up(&mut self, log_end: Offset, now: Moment) {
        let (before, durable) = (self.ends.log_end, self.durable);
        for heard in self.followers.iter_mut().filter_map(Follower::heard_mut) {
            if durable.end(heard.flushed_end, heard.log_end) >= before {
                heard.caught_up = progress::CaughtUp::since(now, log_end, now);
            }
        }
    }

    /// A registration of this epoch, from the metadata (with `peers`) or as the answer to a proposal. Older ones change nothing.
    pub(crate) fn take_over(
        &mut self,
        partition: &Partition,
        peers: Option<&[Peer]>,
        now: Moment,
        actions: &mut VecDeque<Action>,
    ) {
        if partition.leader_epoch != self.epoch {
            return;
        }
        if partition.partition_epoch > self.isr.partition_epoch() {
            let had_enough = self.partition.has_enough_in_sync();
            self.durable.change(partition.durability, self.ends.log_end);
            self.isr.commit(&partition.isr, partition.partition_epoch, now);
            self.partition.clone_from(partition);
            if had_enough && !self.partition.has_enough_in_sync() {
                actions.push_back(Action::FailWaiting(AckFailure::NotEnoughReplicas));
            }
        }
        if let Some(peers) = peers {
            self.update_followers(peers, now);
        }
        self.advance(now, actions);
        self.propose_changes(now, actions);
    }

    /// Brings the followers in line with the registration and with who is registered.
    fn update_followers(&mut self, peers: &[Peer], now: Moment) {
        let replicas = &self.partition.replicas;
        self.followers.retain(|follower| replicas.contains(&follower.node));
        for node in replicas.iter().copied().filter(|node| *node != self.me.node) {
            let peer = peers.iter().find(|peer| peer.node == node).copied();
            match self.followers.iter_mut().find(|follower| follower.node == node) {
                Some(follower) => follower.update(peer, now),
                None => self.followers.push(Follower::new(node, peer, now)),
            }
        }
    }

    /// The stream of the session is gone. What the follower had, it still has.
    pub(crate) fn handle_disconnected(&mut self, node: NodeId, session: u32) {
        let follower = self.followers.iter_mut().find(|follower| follower.node == node);
        if let Some(heard) = follower.and_then(Follower::heard_mut)
            && heard.stream.is_some_and(|stream| stream.session == session)
        {
            heard.stream = None;
        }
    }

    pub(crate) fn handle_lease(&mut self, is_valid: bool) {
        self.lease_is_valid = is_valid;
    }

    /// Nothing is appended any more; who waits goes on waiting until the leadership is moved away.
    pub(crate) fn handle_shutdown(&mut self) {
        self.is_stopping = true;
    }

    pub(crate) fn handle_deadline(&mut self, now: Moment, actions: &mut VecDeque<Action>) {
        self.advance(now, actions);
        self.propose_changes(now, actions);
    }

    // ---- Outputs ----

    pub(crate) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let proposal = self.isr.next_deadline().filter(|at| *at > now || self.isr.is_pending());
        [proposal, self.lag_deadline(now)].into_iter().flatten().min()
    }

    /// See [`crate::Replica::next_push`].
    pub(crate) fn next_push(&self, node: NodeId) -> Option<PushCursor> {
        let follower = self.followers.iter().find(|follower| follower.node == node)?;
        let stream = follower.heard()?.stream?;
        let LogEnds { log_start, high_watermark, log_end, .. } = self.ends;
        let is_due = stream.pushed_to < log_end
            || stream.told_high_watermark < high_watermark
            || stream.told_log_start < log_start;
        is_due.then_some(PushCursor {
            session: stream.session,
            leader_epoch: self.epoch,
            from: stream.pushed_to,
            log_end,
            high_watermark,
            log_start,
        })
    }

    /// Followers that may have something to be sent, in the order of the assignment.
    pub(crate) fn followers(&self) -> impl Iterator<Item = NodeId> {
        self.followers.iter().map(|follower| follower.node)
    }

    /// The cursor's push was sent with batches up to `end`.
    pub(crate) fn pushed(&mut self, node: NodeId, cursor: &PushCursor, end: Offset) {
        let follower = self.followers.iter_mut().find(|follower| follower.node == node);
        if let Some(stream) = follower.and_then(|follower| follower.stream_mut(cursor.session)) {
            stream.pushed_to = stream.pushed_to.max(end);
            stream.told_high_watermark = stream.told_high_watermark.max(cursor.high_watermark);
            stream.told_log_start = stream.told_log_start.max(cursor.log_start);
        }
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn epoch_start_offset(&self) -> Offset {
        self.epoch_start_offset
    }

    pub fn high_watermark(&self) -> Offset {
        self.ends.high_watermark
    }

    /// The registration it goes by.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// In-sync followers that are connected, and where their logs end, as they have said in this epoch.
    pub fn in_sync_ends(&self) -> impl Iterator<Item = (NodeId, Offset)> {
        let in_sync = |node: &NodeId| self.partition.isr.contains(node);
        self.followers.iter().filter(move |follower| in_sync(&follower.node)).filter_map(
            |follower| {
                let heard = follower.heard()?;
                heard.stream.map(|_| (follower.node, heard.log_end))
            },
        )
    }

    /// Everyone for whom the high watermark waits.
    pub fn maximal_isr(&self) -> impl Iterator<Item = NodeId> {
        self.isr.maximal()
    }

    pub fn has_pending_proposal(&self) -> bool {
        self.isr.is_pending()
    }
}
