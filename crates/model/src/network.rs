//! What is under way between replicas, and between leaders and the controller.
//!
//! Between two replicas messages keep their order, as on a stream; a broken stream loses all of them. A copy of a message may be kept
//! back and come at any later time, to whichever process is there then: late, twice, or out of order.

use thalweg_replication_core::{AlterOutcome, Answer, Handshake, Proposal, PushCursor, Report};
use thalweg_types::{BrokerEpoch, NodeId};

use crate::log::Entry;

#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Network {
    /// In the order of sending.
    pub(crate) messages: Vec<Message>,
    /// Copies that come some time.
    pub(crate) late: Vec<Message>,
    /// Proposals and their answers.
    pub(crate) asks: Vec<Ask>,
}

#[derive(Debug, Clone, Hash)]
pub(crate) struct Message {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, Hash)]
pub(crate) enum Body {
    Handshake(Handshake),
    Answer(Answer),
    Push { cursor: PushCursor, entries: Vec<Entry> },
    Report(Report),
}

/// A proposal on its way to the controller, or the answer on its way back.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Ask {
    pub(crate) leader: NodeId,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) proposal: Proposal,
    /// The leader counts it as lost already; its answer will find nobody.
    pub(crate) given_up: bool,
    /// The controller has decided.
    pub(crate) outcome: Option<AlterOutcome>,
}

impl Network {
    pub(crate) fn send(&mut self, from: NodeId, to: NodeId, body: Body) {
        self.messages.push(Message { from, to, body });
    }

    pub(crate) fn count(&self, from: NodeId, to: NodeId) -> usize {
        self.messages.iter().filter(|message| (message.from, message.to) == (from, to)).count()
    }

    /// The place of the next message of a direction.
    pub(crate) fn next(&self, from: NodeId, to: NodeId) -> Option<usize> {
        self.messages.iter().position(|message| (message.from, message.to) == (from, to))
    }

    /// A copy of the next message of a direction comes some time.
    pub(crate) fn keep(&mut self, from: NodeId, to: NodeId) {
        let next = self.next(from, to).and_then(|at| self.messages.get(at)).cloned();
        self.late.extend(next);
    }

    /// Directions in which something is under way, each once.
    pub(crate) fn directions(&self) -> Vec<(NodeId, NodeId)> {
        let mut directions: Vec<_> = self.messages.iter().map(|m| (m.from, m.to)).collect();
        directions.sort_unstable();
        directions.dedup();
        directions
    }

    /// The stream between two is gone, and what was on it.
    pub(crate) fn clear_between(&mut self, a: NodeId, b: NodeId) {
        self.messages.retain(|message| {
            let ends = (message.from, message.to);
            ends != (a, b) && ends != (b, a)
        });
    }
}
