//! Which brokers are alive, as the active controller hears it.
//!
//! Not part of the image: a controller that takes over has heard of nobody yet, and gives every broker a whole timeout. Times are the
//! controller's own monotonic clock; being late only delays a fencing, and fencing somebody who is alive only costs a new registration.
//!
//! ```text
//!  heard of ──────────────────────────── a whole timeout ────────────────────────────► over
//!      ▲          hold ends ── time to come back ─► over
//!      └── heartbeat ──┘
//! ```
//!
//! A node holds its session as well, by a stream to the controller that ends when its process does. That is a hint, not a proof: who is
//! heard of again in time goes on as before. Without it, or when it comes late, the timeout counts.

use std::collections::BTreeMap;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{BrokerEpoch, LogIndex, Moment, NodeId};

use crate::decide::RegisterNode;
use crate::error::Error;
use crate::image::{Image, Node};

/// The sessions of all unfenced brokers and of everyone heard of.
#[derive(Debug, Clone)]
pub struct Sessions {
    timing: SessionTiming,
    by_node: BTreeMap<NodeId, Session>,
    /// What each node holds its session by: the newest, should it have several. Also of nodes that were fenced.
    holds: BTreeMap<NodeId, HoldId>,
}

/// How long a node may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTiming {
    pub timeout_ms: u64,
    /// After the end of what it held its session by.
    pub return_ms: u64,
}

/// One stream by which a node holds its session. Later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldId(pub u64);

#[derive(Debug, Clone, Copy)]
struct Session {
    broker_epoch: BrokerEpoch,
    /// When it was last heard of, or granted a first timeout.
    since: Moment,
    /// `None` while it was only granted a timeout.
    applied: Option<LogIndex>,
    /// When its hold ended, if it was not heard of since.
    left_at: Option<Moment>,
}

impl Session {
    fn granted(broker_epoch: BrokerEpoch, now: Moment) -> Self {
        Self { broker_epoch, since: now, applied: None, left_at: None }
    }

    fn ends_at(&self, timing: SessionTiming) -> Moment {
        let times_out = self.since.saturating_add_ms(timing.timeout_ms);
        let given_up = self.left_at.map(|at| at.saturating_add_ms(timing.return_ms));
        given_up.map_or(times_out, |given_up| given_up.min(times_out))
    }
}

impl Sessions {
    /// Of a controller that takes over at `now`.
    pub fn take_over(image: &Image, timing: SessionTiming, now: Moment) -> Self {
        let held = image.nodes().filter(|node| has_session(node));
        let granted = held.map(|node| (node.id, Session::granted(node.broker_epoch, now)));
        Self { timing, by_node: granted.collect(), holds: BTreeMap::new() }
    }

    /// A heartbeat of a node's present session, which has applied the metadata up to `applied`.
    pub fn heard(
        &mut self,
        node: NodeId,
        broker_epoch: BrokerEpoch,
        applied: LogIndex,
        now: Moment,
    ) {
        let mut session = Session { applied: Some(applied), ..Session::granted(broker_epoch, now) };
        let known = self.by_node.entry(node).or_insert(session);
        if broker_epoch >= known.broker_epoch {
            if mutant!(Mutant::M31) {
                session.left_at = known.left_at;
            }
            *known = session;
        }
    }

    /// A node that keeps no data registers: unless it is heard of within a timeout, it is forgotten, and nothing is left of it.
    pub fn expect(&mut self, image: &Image, request: &RegisterNode, now: Moment) {
        if request.role.keeps_data() {
            return;
        }
        let node_id = image.node_id_of(request.dir_id).unwrap_or_else(|| image.next_node_id());
        self.by_node.insert(node_id, Session::granted(BrokerEpoch::NONE, now));
    }

    /// A node's present session is held from now on: whatever held it before may end unnoticed.
    pub fn held(&mut self, node: NodeId, broker_epoch: BrokerEpoch, hold: HoldId) {
        let known = self.holds.entry(node).or_insert(hold);
        *known = hold.max(*known);
        // It has come back.
        if let Some(session) = self.by_node.get_mut(&node)
            && session.broker_epoch == broker_epoch
        {
            session.left_at = None;
        }
    }

    /// A hold has ended without anybody's wish, as it does when the node's process dies.
    pub fn let_go(&mut self, node: NodeId, broker_epoch: BrokerEpoch, hold: HoldId, now: Moment) {
        if self.holds.get(&node) != Some(&hold) {
            return;
        }
        self.holds.remove(&node);
        if let Some(session) = self.by_node.get_mut(&node)
            && session.broker_epoch == broker_epoch
        {
            session.left_at = Some(now);
        }
    }

    /// Nodes whose sessions are over, to be fenced; they are forgotten. Those fenced already need nothing.
    ///
    /// Whoever is unfenced without a session is granted a timeout: it may have been fenced, and so forgotten, while the decision to
    /// unfence it was still under way, and nobody else would ever fence it.
    pub fn take_expired(&mut self, image: &Image, now: Moment) -> Vec<NodeId> {
        for node in image.nodes().filter(|node| has_session(node)) {
            let granted = Session::granted(node.broker_epoch, now);
            self.by_node.entry(node.id).or_insert(granted);
        }
        let timing = self.timing;
        let is_over = |session: &Session| session.ends_at(timing) <= now;
        let over = self.by_node.iter().filter(|(_, session)| is_over(session));
        let over: Vec<_> = over.map(|(node, _)| *node).collect();
        self.by_node.retain(|_, session| !is_over(session));
        over.into_iter()
            .filter(|id| image.node(*id).is_some_and(|node| has_session(node)))
            .collect()
    }

    /// When the next session ends unless its node is heard of.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.by_node.values().map(|session| session.ends_at(self.timing)).min()
    }

    /// R12: the metadata log entry that every live broker but `node` has applied. `None`: there is no other. A broker that was not heard
    /// of yet may have applied nothing.
    pub fn others_applied(&self, image: &Image, node: NodeId) -> Option<LogIndex> {
        let others = image.live_brokers().filter(|other| other.id != node);
        others
            .map(|other| {
                let session = self.by_node.get(&other.id);
                session
                    .filter(|session| session.broker_epoch == other.broker_epoch)
                    .and_then(|session| session.applied)
                    .unwrap_or(LogIndex::ZERO)
            })
            .min()
    }

    /// R13.4: refuses a registration while another process holds a session of the same node. Only a session that was heard of counts.
    pub fn check_registration(
        &self,
        image: &Image,
        request: &RegisterNode,
        now: Moment,
    ) -> Result<(), Error> {
        let node = image.node_id_of(request.dir_id).and_then(|id| image.node(id));
        let Some(node) = node.filter(|node| node.incarnation != request.incarnation) else {
            return Ok(());
        };
        let is_held = self.by_node.get(&node.id).is_some_and(|session| {
            session.broker_epoch == node.broker_epoch
                && session.applied.is_some()
                && now < session.ends_at(self.timing)
        });
        if is_held && node.is_live() { Err(Error::SessionHeld(node.id)) } else { Ok(()) }
    }
}

/// Whether the end of its session changes anything: a broker is fenced by it, and whoever keeps no data is forgotten.
fn has_session(node: &Node) -> bool {
    !node.fenced || !node.role.keeps_data()
}

#[cfg(test)]
mod tests;
