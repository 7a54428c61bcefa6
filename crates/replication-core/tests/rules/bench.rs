//! One replica, node 1, of a partition that nodes 2 and 3 have too.

use thalweg_log_core::EpochIndex;
use thalweg_replication_core::{
    Action, AlterOutcome, Answer, BatchSpan, Fitness, Handshake, Identity, LogEnds, LogView,
    Metadata, Partition, Peer, Proposal, Push, PushRefusal, Replica, Report, ReportRefusal, Timing,
    Verdict,
};
use thalweg_types::{
    BrokerEpoch, DirId, Durability, LeaderEpoch, LogIndex, Moment, NodeId, Offset, PartitionEpoch,
    Uuid,
};

pub(crate) const ME: NodeId = NodeId(1);
pub(crate) const LAG_MS: u64 = 1_000;
pub(crate) const RETRY_MS: u64 = 100;
/// In which the bench's leader begins.
pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(5);

pub(crate) struct Bench {
    pub(crate) replica: Replica,
    pub(crate) ends: LogEnds,
    pub(crate) epochs: EpochIndex,
    pub(crate) partition: Partition,
    pub(crate) peers: Vec<Peer>,
    pub(crate) now: Moment,
}

pub(crate) fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

pub(crate) fn dir(node: i32) -> DirId {
    DirId(Uuid::from_bytes([u8::try_from(node).expect("small"); 16]))
}

pub(crate) fn session(node: i32) -> BrokerEpoch {
    BrokerEpoch(10 + i64::from(node))
}

impl Bench {
    /// No role yet, and a log whose records of epoch 2 end at 10, flushed.
    pub(crate) fn new() -> Self {
        let me = Identity { node: ME, broker_epoch: session(1), dir_id: dir(1) };
        let timing = Timing { lag_ms_max: LAG_MS, retry_ms: RETRY_MS };
        let mut epochs = EpochIndex::default();
        epochs.assign(LeaderEpoch(2), Offset(0));
        let peer = |node| Peer {
            node: NodeId(node),
            broker_epoch: session(node),
            dir_id: dir(node),
            live: true,
        };
        Self {
            replica: Replica::new(me, Fitness::Fit, timing),
            ends: LogEnds { flushed_end: Offset(10), log_end: Offset(10), ..LogEnds::default() },
            epochs,
            partition: Partition {
                leader: Some(ME),
                leader_epoch: EPOCH,
                partition_epoch: PartitionEpoch(20),
                replicas: nodes(&[1, 2, 3]),
                isr: nodes(&[1, 2, 3]),
                min_isr: 2,
                durability: Durability::Fsync,
                unproven: Vec::new(),
                recovering: false,
                unclean_epoch: None,
            },
            peers: (1..=3).map(peer).collect(),
            now: Moment(10_000),
        }
    }

    pub(crate) fn leading() -> Self {
        Self::leading_with(|_| {})
    }

    /// The leader of [`EPOCH`] under a registration that the test adapts.
    pub(crate) fn leading_with(adapt: impl FnOnce(&mut Partition)) -> Self {
        let mut bench = Self::new();
        adapt(&mut bench.partition);
        bench.metadata();
        bench
    }

    /// A follower of node 2.
    pub(crate) fn following() -> Self {
        let mut bench = Self::new();
        bench.partition.leader = Some(NodeId(2));
        bench
    }

    /// Gives the replica the metadata as they are, and does what follows with the log.
    pub(crate) fn metadata(&mut self) -> Vec<Action> {
        let metadata =
            Metadata { applied: LogIndex(100), partition: &self.partition, peers: &self.peers };
        let log = LogView { ends: self.ends, epochs: &self.epochs };
        self.replica.handle_metadata(&metadata, log, self.now);
        self.actions()
    }

    /// A newer registration of the same epoch.
    pub(crate) fn change(&mut self, adapt: impl FnOnce(&mut Partition)) -> Vec<Action> {
        self.partition.partition_epoch.0 += 1;
        adapt(&mut self.partition);
        self.metadata()
    }

    /// What follows, executed on the log as far as it concerns it.
    pub(crate) fn actions(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = self.replica.poll_action() {
            match &action {
                Action::BeginEpoch(epoch) => {
                    self.epochs.assign(*epoch, self.ends.log_end);
                }
                Action::Commit(to) | Action::FollowHighWatermark(to) => {
                    self.ends.high_watermark = *to;
                }
                Action::MoveLogStart(to) => self.ends.log_start = *to,
                _ => {}
            }
            actions.push(action);
        }
        actions
    }

    fn log(&self) -> LogView<'_> {
        LogView { ends: self.ends, epochs: &self.epochs }
    }

    // ---- As the leader ----

    pub(crate) fn append(&mut self, records: i64) -> Vec<Action> {
        self.ends.log_end.0 += records;
        self.local()
    }

    pub(crate) fn flush(&mut self) -> Vec<Action> {
        self.ends.flushed_end = self.ends.log_end;
        self.local()
    }

    pub(crate) fn append_and_flush(&mut self, records: i64) {
        self.append(records);
        self.flush();
    }

    pub(crate) fn local(&mut self) -> Vec<Action> {
        let log = LogView { ends: self.ends, epochs: &self.epochs };
        self.replica.handle_local(log, self.now);
        self.actions()
    }

    /// What node `node` asks with its log flushed up to `end`, all of the leader's history.
    pub(crate) fn handshake(&self, node: i32, end: i64) -> Handshake {
        let last = Offset(end - 1);
        Handshake {
            node: NodeId(node),
            broker_epoch: session(node),
            dir_id: dir(node),
            leader_epoch: EPOCH,
            log_end: Offset(end),
            last_epoch: self.epochs.epoch_at(last).unwrap_or(LeaderEpoch::NONE),
            flushed_end: Offset(end),
            fitness: Fitness::Fit,
            attempt: 1,
        }
    }

    pub(crate) fn ask(&mut self, handshake: &Handshake) -> Verdict {
        let log = LogView { ends: self.ends, epochs: &self.epochs };
        let Answer { verdict, .. } =
            self.replica.handle_handshake(handshake.node, handshake, log, self.now);
        verdict
    }

    /// Connects `node` with its log flushed up to `end` and returns its session.
    pub(crate) fn connect(&mut self, node: i32, end: i64) -> u32 {
        match self.ask(&self.handshake(node, end)) {
            Verdict::Accepted { session, .. } => session,
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub(crate) fn report(&mut self, node: i32, report: &Report) -> Result<(), ReportRefusal> {
        self.replica.handle_report(NodeId(node), report, self.now)
    }

    /// The follower has everything up to `end`, flushed.
    pub(crate) fn flushed(&mut self, node: i32, session: u32, end: i64) {
        self.report(node, &report(session, end, end)).expect("a good report");
    }

    pub(crate) fn high_watermark(&self) -> i64 {
        self.replica.as_leader().expect("it leads").high_watermark().0
    }

    pub(crate) fn maximal(&self) -> Vec<NodeId> {
        let mut all: Vec<_> = self.replica.as_leader().expect("it leads").maximal_isr().collect();
        all.sort();
        all
    }

    pub(crate) fn wait(&mut self, ms: u64) -> Vec<Action> {
        self.now = self.now.saturating_add_ms(ms);
        self.replica.handle_deadline(self.now);
        self.actions()
    }

    pub(crate) fn outcome(&mut self, attempt: u32, outcome: &AlterOutcome) -> Vec<Action> {
        self.replica.handle_alter_outcome((EPOCH, attempt), outcome, self.now);
        self.actions()
    }

    // ---- As a follower ----

    pub(crate) fn answer(&mut self, handshake: &Handshake, verdict: Verdict) -> Vec<Action> {
        let Handshake { leader_epoch, attempt, .. } = *handshake;
        let answer = Answer { leader_epoch, attempt, verdict };
        let log = LogView { ends: self.ends, epochs: &self.epochs };
        self.replica.handle_answer(&answer, log, self.now);
        self.actions()
    }

    /// Cuts the log as told.
    pub(crate) fn cut(&mut self, to: i64) -> Vec<Action> {
        let to = Offset(to);
        self.epochs.truncate_from_end(to);
        self.ends.log_end = to;
        self.ends.flushed_end = to;
        self.ends.high_watermark = self.ends.high_watermark.min(to);
        let log = LogView { ends: self.ends, epochs: &self.epochs };
        self.replica.handle_cut(log, self.now);
        self.actions()
    }

    pub(crate) fn push(&mut self, push: &Push<'_>) -> Result<Vec<Action>, PushRefusal> {
        self.replica.handle_push(push, 1 << 20, self.now)?;
        Ok(self.actions())
    }

    pub(crate) fn view(&self) -> LogEnds {
        self.log().ends
    }
}

pub(crate) fn report(session: u32, log_end: i64, flushed_end: i64) -> Report {
    Report {
        session,
        leader_epoch: EPOCH,
        log_end: Offset(log_end),
        flushed_end: Offset(flushed_end),
        fitness: Fitness::Fit,
    }
}

pub(crate) fn batch(from: i64, to: i64, epoch: LeaderEpoch) -> BatchSpan {
    BatchSpan {
        base_offset: Offset(from),
        end_offset: Offset(to),
        leader_epoch: epoch,
        size_bytes: 100,
    }
}

pub(crate) fn proposal_in(actions: &[Action]) -> Option<&Proposal> {
    actions.iter().find_map(|action| match action {
        Action::Propose(proposal) => Some(proposal),
        _ => None,
    })
}

pub(crate) fn handshake_in(actions: &[Action]) -> Handshake {
    let found = actions.iter().find_map(|action| match action {
        Action::Handshake { handshake, .. } => Some(*handshake),
        _ => None,
    });
    found.expect("a handshake is sent")
}

pub(crate) fn members(proposal: &Proposal) -> Vec<NodeId> {
    proposal.isr.iter().map(|(node, _)| *node).collect()
}
