//! A broker: a disk, and at times a process.

use thalweg_metadata_core::{Image, Position};
use thalweg_replication_core::{
    BatchSpan, Fitness, Identity, Metadata, Push, Replica, Role, Timing,
};
use thalweg_types::{BrokerEpoch, DirId, LogIndex, Moment, NodeId, Offset};

use super::controller::{Controller, partition_id, peers, translate, uuid};
use super::log::{Entry, Log, offset};
use super::network::{Body, Message};

pub(crate) const TIMING: Timing = Timing { lag_ms_max: 500, retry_ms: 20 };

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) node: NodeId,
    pub(crate) log: Log,
    /// Session named by the marker of a clean shutdown.
    pub(crate) marker: Option<BrokerEpoch>,
    /// Flushed records were lost, and have not been replaced yet.
    pub(crate) is_damaged: bool,
    pub(crate) process: Option<Process>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) image: Image,
    /// Entries of the metadata log in the image.
    pub(crate) applied: usize,
    pub(crate) replica: Option<Replica>,
    pub(crate) wants_shutdown: bool,
}

impl Broker {
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, log: Log::default(), marker: None, is_damaged: false, process: None }
    }

    pub(crate) fn start(&mut self, controller: &mut Controller) {
        let marker = self.marker.take();
        let broker_epoch = controller.register(self.node, marker, self.is_damaged);
        self.process = Some(Process {
            broker_epoch,
            image: Image::default(),
            applied: 0,
            replica: None,
            wants_shutdown: false,
        });
    }

    pub(crate) fn replica(&mut self) -> Option<&mut Replica> {
        self.process.as_mut()?.replica.as_mut()
    }

    pub(crate) fn as_leader(&self) -> Option<&thalweg_replication_core::Leader> {
        self.process.as_ref()?.replica.as_ref()?.as_leader()
    }

    pub(crate) fn applied(&self) -> LogIndex {
        LogIndex(self.process.as_ref().map_or(0, |process| process.applied as u64))
    }

    /// The next entries of the metadata log arrive.
    pub(crate) fn follow_metadata(&mut self, controller: &Controller, count: usize, now: Moment) {
        let Some(process) = &mut self.process else { return };
        let fresh = &controller.entries[process.applied..];
        for records in fresh.iter().take(count) {
            process.applied += 1;
            let index = LogIndex(process.applied as u64);
            let position = Position { index, ..process.image.position() };
            records.iter().for_each(|record| process.image.apply(position, record));
        }
        let Some(state) = process.image.partition_by_id(partition_id()) else { return };
        let is_registered = process.applied as i64 >= process.broker_epoch.0;
        if !is_registered {
            return;
        }
        if !state.replicas.contains(&self.node) {
            // The assignment without this replica is committed, and so is its epoch.
            process.replica = None;
            self.log = Log::default();
            self.is_damaged = false;
            return;
        }
        let me = Identity {
            node: self.node,
            broker_epoch: process.broker_epoch,
            dir_id: DirId(uuid(u128::from(self.node.0.unsigned_abs()))),
        };
        let fitness = if self.is_damaged { Fitness::Suspect } else { Fitness::Fit };
        let replica = process.replica.get_or_insert_with(|| Replica::new(me, fitness, TIMING));
        let (partition, peers) = (translate(state), peers(&process.image, state));
        let applied = LogIndex(process.applied as u64);
        let metadata = Metadata { applied, partition: &partition, peers: &peers };
        replica.handle_metadata(&metadata, self.log.view(), now);
    }

    /// The log has changed.
    pub(crate) fn local(&mut self, now: Moment) {
        if let Some(replica) = self.process.as_mut().and_then(|process| process.replica.as_mut()) {
            replica.handle_local(self.log.view(), now);
        }
    }

    /// What it sends while there is room on its streams.
    pub(crate) fn pump(&mut self, batches_max: usize) -> Vec<Message> {
        let (from, log) = (self.node, &self.log);
        let Some(replica) = self.process.as_mut().and_then(|process| process.replica.as_mut())
        else {
            return Vec::new();
        };
        let mut sent = Vec::new();
        let followers: Vec<_> = replica.followers().collect();
        for to in followers {
            let Some(cursor) = replica.next_push(to) else { continue };
            let entries: Vec<Entry> = (super::log::index(cursor.from)..log.end())
                .take(batches_max)
                .map_while(|at| log.get(at).copied())
                .collect();
            let end = Offset(cursor.from.0 + entries.len() as i64);
            replica.pushed(to, &cursor, end);
            let body = Body::Push { cursor, entries };
            sent.push(Message { from, to, process: None, body });
        }
        let leader = match replica.role() {
            Role::Follower(follower) => Some(follower.leader()),
            _ => None,
        };
        if let (Some(to), Some(report)) = (leader, replica.take_report()) {
            sent.push(Message { from, to, process: None, body: Body::Report(report) });
        }
        sent
    }

    /// A message arrives; its answer.
    pub(crate) fn receive(&mut self, message: Message, now: Moment) -> Option<Message> {
        let process = self.process.as_mut()?;
        if message.process.is_some_and(|process_of| process_of != process.broker_epoch) {
            return None;
        }
        let replica = process.replica.as_mut()?;
        let Message { from, to, body, .. } = message;
        match body {
            Body::Handshake(handshake) => {
                let answer = replica.handle_handshake(from, &handshake, self.log.view(), now);
                let process = Some(handshake.broker_epoch);
                let body = Body::Answer(answer);
                return Some(Message { from: to, to: from, process, body });
            }
            Body::Answer(answer) => replica.handle_answer(&answer, self.log.view(), now),
            Body::Report(report) => {
                // A refusal is what the sender deserves; nothing follows.
                let _ = replica.handle_report(from, &report, now);
            }
            Body::Push { cursor, entries } => {
                let base = super::log::index(cursor.from);
                let span = |(at, entry): (usize, &Entry)| BatchSpan {
                    base_offset: offset(at),
                    end_offset: offset(at + 1),
                    leader_epoch: entry.0,
                    size_bytes: 100,
                };
                let spans: Vec<_> = (base..).zip(&entries).map(span).collect();
                let push = Push {
                    session: cursor.session,
                    leader_epoch: cursor.leader_epoch,
                    batches: &spans,
                    high_watermark: cursor.high_watermark,
                    log_start: cursor.log_start,
                    log_end: cursor.log_end,
                };
                if replica.handle_push(&push, 1_000, now).is_ok() && !entries.is_empty() {
                    entries.into_iter().for_each(|entry| self.log.append(entry));
                    replica.handle_local(self.log.view(), now);
                }
            }
        }
        None
    }
}
