//! Which brokers are alive, as the active controller hears it.
//!
//! Not part of the image: a controller that takes over has heard of nobody yet, and gives every broker a whole timeout. Times are the
//! controller's own monotonic clock; being late only delays a fencing, and fencing somebody who is alive only costs a new registration.

use std::collections::BTreeMap;

use thalweg_types::{BrokerEpoch, LogIndex, Moment, NodeId};

use crate::decide::RegisterNode;
use crate::error::Error;
use crate::image::{Image, Node};

/// The sessions of all unfenced brokers and of everyone heard of.
#[derive(Debug, Clone)]
pub struct Sessions {
    timeout_ms: u64,
    by_node: BTreeMap<NodeId, Session>,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    broker_epoch: BrokerEpoch,
    /// When it was last heard of, or granted a first timeout.
    since: Moment,
    /// `None` while it was only granted a timeout.
    applied: Option<LogIndex>,
}

impl Sessions {
    /// Of a controller that takes over at `now`.
    pub fn take_over(image: &Image, timeout_ms: u64, now: Moment) -> Self {
        let granted = |broker_epoch| Session { broker_epoch, since: now, applied: None };
        let held = image.nodes().filter(|node| has_session(node));
        let by_node = held.map(|node| (node.id, granted(node.broker_epoch))).collect();
        Self { timeout_ms, by_node }
    }

    /// A heartbeat of a node's present session, which has applied the metadata up to `applied`.
    pub fn heard(
        &mut self,
        node: NodeId,
        broker_epoch: BrokerEpoch,
        applied: LogIndex,
        now: Moment,
    ) {
        let session = Session { broker_epoch, since: now, applied: Some(applied) };
        let known = self.by_node.entry(node).or_insert(session);
        if broker_epoch >= known.broker_epoch {
            *known = session;
        }
    }

    /// A node that keeps no data registers: unless it is heard of within a timeout, it is forgotten, and nothing is left of it.
    pub fn expect(&mut self, image: &Image, request: &RegisterNode, now: Moment) {
        if request.role.keeps_data() {
            return;
        }
        let node_id = image.node_id_of(request.dir_id).unwrap_or_else(|| image.next_node_id());
        let granted = Session { broker_epoch: BrokerEpoch::NONE, since: now, applied: None };
        self.by_node.insert(node_id, granted);
    }

    /// Nodes whose sessions are over, to be fenced; they are forgotten. Those fenced already need nothing.
    ///
    /// Whoever is unfenced without a session is granted a timeout: it may have been fenced, and so forgotten, while the decision to
    /// unfence it was still under way, and nobody else would ever fence it.
    pub fn take_expired(&mut self, image: &Image, now: Moment) -> Vec<NodeId> {
        let timeout_ms = self.timeout_ms;
        for node in image.nodes().filter(|node| has_session(node)) {
            let broker_epoch = node.broker_epoch;
            let granted = Session { broker_epoch, since: now, applied: None };
            self.by_node.entry(node.id).or_insert(granted);
        }
        let is_over = |session: &Session| now.ms_since(session.since) >= timeout_ms;
        let over = self.by_node.iter().filter(|(_, session)| is_over(session));
        let over: Vec<_> = over.map(|(node, _)| *node).collect();
        self.by_node.retain(|_, session| !is_over(session));
        over.into_iter()
            .filter(|id| image.node(*id).is_some_and(|node| has_session(node)))
            .collect()
    }

    /// When the next session ends unless its node is heard of.
    pub fn next_deadline(&self) -> Option<Moment> {
        let ends = |session: &Session| session.since.saturating_add_ms(self.timeout_ms);
        self.by_node.values().map(ends).min()
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
                && now.ms_since(session.since) < self.timeout_ms
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
