//! The controller's end of what brokers hold their sessions by, and the judgement of whom it gives up.

use std::collections::BTreeMap;

use thalweg_metadata_core::HoldId;
use thalweg_types::{BrokerEpoch, Moment, NodeId};

use super::{Quorum, RETURN_MS, SESSION_MS};
use crate::env::{Env, ms};

/// When an active controller had contact with whom, kept without any rule.
pub(super) struct Contacts {
    since_ms: u64,
    heard_ms: BTreeMap<NodeId, u64>,
    /// When the first of its streams ended since.
    left_ms: BTreeMap<NodeId, u64>,
    /// Every stream that was ever opened here.
    holds: BTreeMap<HoldId, (NodeId, BrokerEpoch)>,
}

impl Contacts {
    pub(super) fn since(since_ms: u64) -> Self {
        let (heard_ms, left_ms) = (BTreeMap::new(), BTreeMap::new());
        Self { since_ms, heard_ms, left_ms, holds: BTreeMap::new() }
    }

    pub(super) fn heard(&mut self, node: NodeId, now: Moment) {
        self.heard_ms.insert(node, now.0);
        self.left_ms.remove(&node);
    }

    pub(super) fn held(&mut self, node: NodeId, epoch: BrokerEpoch, hold: HoldId) {
        self.holds.insert(hold, (node, epoch));
    }

    /// R11: who is given up has been silent for a session, or since its stream ended, and that was long enough ago.
    pub(super) fn check_silent(&self, env: &mut Env, node: NodeId) {
        let now = ms(env.now);
        let heard = self.heard_ms.get(&node).copied().unwrap_or(self.since_ms);
        let left = self.left_ms.get(&node);
        if now < heard + SESSION_MS && left.is_none_or(|left| now < left + RETURN_MS) {
            env.oracle.violated("R11", || {
                format!("node {node} is given up at {now} ms, and was heard of at {heard} ms")
            });
        }
    }
}

impl Quorum {
    pub(crate) fn handle_hold_ended(&mut self, env: &mut Env, at: usize, hold: HoldId) {
        let controller = &mut self.controllers[at];
        let Some(active) = controller.active.as_mut().filter(|_| controller.is_up) else { return };
        let Some((node, epoch)) = active.contacts.holds.remove(&hold) else { return };
        let now = Moment(ms(env.now));
        env.note(|| format!("controller {at} sees that node {node} has let go of {hold:?}"));
        active.contacts.left_ms.entry(node).or_insert(now.0);
        active.sessions.let_go(node, epoch, hold, now);
    }
}
