//! A broker: a disk, and at times a process with its replica.

use std::collections::BTreeMap;

use thalweg_replication_core::{
    BatchSpan, Fitness, Identity, Leader, Metadata, Push, PushCursor, Replica, Role, Timing,
    Verdict,
};
use thalweg_types::{BrokerEpoch, LogIndex, Moment, NodeId, Offset};

use crate::controller::{View, dir_id};
use crate::log::{Entry, Log, index, offset};
use crate::network::{Body, Message};

#[derive(Debug, Clone, Hash)]
pub(crate) struct Broker {
    pub(crate) node: NodeId,
    pub(crate) log: Log,
    pub(crate) process: Option<Process>,
}

#[derive(Debug, Clone, Hash)]
pub(crate) struct Process {
    pub(crate) broker_epoch: BrokerEpoch,
    /// Last entry of the metadata log that it has learned.
    pub(crate) applied: u64,
    /// Once its registration and the partition are known.
    pub(crate) replica: Option<Replica>,
    /// As the leader: the stream of each follower.
    pub(crate) sessions: BTreeMap<NodeId, u32>,
}

impl Broker {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, log: Log::default(), process: None }
    }

    /// What it learns before its own registration is of no use to it (R13.5), so it begins there.
    pub(crate) fn start(&mut self, broker_epoch: BrokerEpoch) {
        let applied = u64::try_from(broker_epoch.0).unwrap_or(0).saturating_sub(1);
        let sessions = BTreeMap::new();
        self.process = Some(Process { broker_epoch, applied, replica: None, sessions });
    }

    pub(crate) fn replica(&mut self) -> Option<&mut Replica> {
        self.process.as_mut()?.replica.as_mut()
    }

    pub(crate) fn as_leader(&self) -> Option<&Leader> {
        self.process.as_ref()?.replica.as_ref()?.as_leader()
    }

    /// Whom it follows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.process.as_ref()?.replica.as_ref()?.role() {
            Role::Follower(follower) => Some(follower.leader()),
            Role::Leader(_) | Role::Idle { .. } => None,
        }
    }

    pub(crate) fn is_halted(&self) -> bool {
        let replica = self.process.as_ref().and_then(|process| process.replica.as_ref());
        match replica.map(Replica::role) {
            Some(Role::Follower(follower)) => follower.halted().is_some(),
            _ => false,
        }
    }

    pub(crate) fn learn(&mut self, view: &View, timing: Timing, now: Moment) {
        let Some(process) = &mut self.process else { return };
        process.applied = view.index;
        let broker_epoch = process.broker_epoch;
        let me = Identity { node: self.node, broker_epoch, dir_id: dir_id(self.node) };
        let replica = process.replica.get_or_insert_with(|| Replica::new(me, Fitness::Fit, timing));
        let metadata = Metadata {
            applied: LogIndex(view.index),
            partition: &view.partition,
            peers: &view.peers,
        };
        replica.handle_metadata(&metadata, self.log.view(), now);
    }

    /// Records are appended, and flushed at once or not.
    pub(crate) fn append(&mut self, entries: &[Entry], flush: bool, now: Moment) {
        entries.iter().for_each(|entry| self.log.append(*entry));
        if flush {
            self.log.flushed = self.log.end();
        }
        self.local(now);
    }

    /// The log was appended to or flushed.
    pub(crate) fn local(&mut self, now: Moment) {
        if let Some(replica) = self.process.as_mut().and_then(|process| process.replica.as_mut()) {
            replica.handle_local(self.log.view(), now);
        }
    }

    /// What there is to push to a follower, marked as pushed.
    pub(crate) fn push(&mut self, to: NodeId) -> Option<Body> {
        let log = &self.log;
        let replica = self.process.as_mut()?.replica.as_mut()?;
        let cursor = replica.next_push(to)?;
        let entries = log.entries.get(index(cursor.from)..).unwrap_or_default().to_vec();
        replica.pushed(to, &cursor, offset(log.end()));
        Some(Body::Push { cursor, entries })
    }

    /// A message arrives; its answer.
    pub(crate) fn receive(&mut self, message: Message, flush: bool, now: Moment) -> Option<Body> {
        let process = self.process.as_mut()?;
        let replica = process.replica.as_mut()?;
        match message.body {
            Body::Handshake(handshake) => {
                let from = message.from;
                let answer = replica.handle_handshake(from, &handshake, self.log.view(), now);
                if let Verdict::Accepted { session, .. } = answer.verdict {
                    process.sessions.insert(from, session);
                }
                return Some(Body::Answer(answer));
            }
            Body::Answer(answer) => replica.handle_answer(&answer, self.log.view(), now),
            Body::Report(report) => {
                // A refusal is what the sender deserves; nothing follows.
                let _ = replica.handle_report(message.from, &report, now);
            }
            Body::Push { cursor, entries } => self.receive_push(&cursor, &entries, flush, now),
        }
        None
    }

    fn receive_push(&mut self, cursor: &PushCursor, entries: &[Entry], flush: bool, now: Moment) {
        let Some(replica) = self.process.as_mut().and_then(|process| process.replica.as_mut())
        else {
            return;
        };
        let span = |(at, entry): (usize, &Entry)| BatchSpan {
            base_offset: offset(at),
            end_offset: offset(at + 1),
            leader_epoch: entry.0,
            size_bytes: 100,
        };
        let spans: Vec<_> = (index(cursor.from)..).zip(entries).map(span).collect();
        let push = Push {
            session: cursor.session,
            leader_epoch: cursor.leader_epoch,
            batches: &spans,
            high_watermark: cursor.high_watermark,
            log_start: Offset::ZERO,
            log_end: cursor.log_end,
        };
        if replica.handle_push(&push, 1_000, now).is_ok() && !entries.is_empty() {
            self.append(entries, flush, now);
        }
    }
}
