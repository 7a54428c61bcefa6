//! One broker's replica of one partition: the role machine.

use std::collections::VecDeque;

use thalweg_invariants::{EPOCHS, Mutant, check, mutant};
use thalweg_types::{Acks, LeaderEpoch, Moment, NodeId, Offset, PartitionEpoch};

use crate::action::{AckFailure, Action};
use crate::follower::{Follower, PushRefusal};
use crate::leader::{AppendRefusal, HandshakeRefusal, Leader, ReportRefusal, check_epoch};
use crate::log_ends::LogView;
use crate::message::{AlterOutcome, Answer, Fitness, Handshake, Push, PushCursor, Report, Verdict};
use crate::partition::{Identity, Metadata, Partition, Timing};

/// A replica and its role. See the crate's documentation for what the driver must keep.
#[derive(Debug, Clone, Hash)]
pub struct Replica {
    me: Identity,
    timing: Timing,
    fitness: Fitness,
    role: Role,
    lease_is_valid: bool,
    is_stopping: bool,
    /// Handshakes sent by all followers this replica has been, so that no answer fits two of them.
    attempts: u32,
    /// When to say again that the metadata wants a damaged replica to lead: a report may be lost, and nobody else knows of it.
    report_unfit_at: Option<Moment>,
    actions: VecDeque<Action>,
}

/// What the replica is to the partition.
#[derive(Debug, Clone, Hash)]
pub enum Role {
    /// Nobody leads, or nothing is known yet, or the metadata wants a damaged replica to lead.
    Idle {
        epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
    },
    Leader(Box<Leader>),
    Follower(Box<Follower>),
}

impl Replica {
    /// Of a log as recovery found it.
    pub fn new(me: Identity, fitness: Fitness, timing: Timing) -> Self {
        let (epoch, partition_epoch) = (LeaderEpoch::NONE, PartitionEpoch::NONE);
        Self {
            me,
            timing,
            fitness,
            role: Role::Idle { epoch, partition_epoch },
            lease_is_valid: true,
            is_stopping: false,
            attempts: 0,
            report_unfit_at: None,
            actions: VecDeque::new(),
        }
    }

    // ---- Inputs: metadata and machine ----

    /// The metadata changed. Nothing is done before the broker's own registration is in it (R13.5), nor on what is older than what is
    /// known. A new epoch is a new role, even for the same leader.
    pub fn handle_metadata(&mut self, metadata: &Metadata<'_>, log: LogView<'_>, now: Moment) {
        let partition = metadata.partition;
        let is_registered =
            i64::try_from(metadata.applied.0).unwrap_or(i64::MAX) >= self.me.broker_epoch.0;
        if !is_registered || partition.leader_epoch < self.epoch() {
            return;
        }
        if partition.leader_epoch > self.epoch() {
            self.change_role(metadata, log, now);
            return;
        }
        self.check_leader(partition);
        match &mut self.role {
            Role::Leader(leader) => {
                leader.take_over(partition, Some(metadata.peers), now, &mut self.actions);
            }
            Role::Follower(follower) => follower.take_over(partition),
            Role::Idle { partition_epoch, .. } => {
                *partition_epoch = partition.partition_epoch.max(*partition_epoch);
            }
        }
    }

    /// One epoch has one leader.
    fn check_leader(&self, partition: &Partition) {
        let known = match &self.role {
            Role::Leader(_) => Some(self.me.node),
            Role::Follower(follower) => Some(follower.leader()),
            Role::Idle { .. } => return,
        };
        check!(EPOCHS, known == partition.leader, "{known:?} leads, and so does {partition:?}");
    }

    fn change_role(&mut self, metadata: &Metadata<'_>, log: LogView<'_>, now: Moment) {
        let partition = metadata.partition;
        if let Role::Leader(_) = self.role {
            self.actions.push_back(Action::FailWaiting(AckFailure::LeadershipLost));
        }
        self.report_unfit_at = None;
        self.role = match partition.leader {
            Some(leader) if leader == self.me.node => self.lead(metadata, log, now),
            Some(leader) => self.follow(leader, partition, log, now),
            None => idle(partition),
        };
        if let Role::Leader(leader) = &mut self.role {
            leader.handle_deadline(now, &mut self.actions);
        }
    }

    fn lead(&mut self, metadata: &Metadata<'_>, log: LogView<'_>, now: Moment) -> Role {
        let partition = metadata.partition;
        if self.fitness != Fitness::Fit && !mutant!(Mutant::M30) {
            self.report_unfit(now);
            return idle(partition);
        }
        self.actions.push_back(Action::BeginEpoch(partition.leader_epoch));
        let known = (partition, metadata.peers);
        let mut leader = Leader::begin(self.me, self.timing, known, log.ends, now);
        leader.handle_lease(self.lease_is_valid);
        if self.is_stopping {
            leader.handle_shutdown();
        }
        Role::Leader(Box::new(leader))
    }

    fn report_unfit(&mut self, now: Moment) {
        self.actions.push_back(Action::ReportUnfit(self.fitness));
        self.report_unfit_at = Some(now.saturating_add_ms(self.timing.retry_ms * 10));
    }

    fn follow(
        &mut self,
        leader: NodeId,
        partition: &Partition,
        log: LogView<'_>,
        now: Moment,
    ) -> Role {
        if self.fitness == Fitness::HaltedDiverged {
            // The halt was against another leader; whether this one agrees, the handshake tells.
            self.fitness = Fitness::Fit;
        }
        let followed = (leader, partition);
        let since = (now, self.attempts);
        let mut follower =
            Follower::begin(self.me, self.timing, self.fitness, followed, log, since);
        follower.connect(now, &mut self.actions);
        self.attempts = follower.attempts();
        Role::Follower(Box::new(follower))
    }

    /// The log was appended to or flushed. A leader's log is never cut.
    pub fn handle_local(&mut self, log: LogView<'_>, now: Moment) {
        match &mut self.role {
            Role::Leader(leader) => leader.handle_local(log.ends, now, &mut self.actions),
            Role::Follower(follower) => follower.handle_local(log, &mut self.actions),
            Role::Idle { .. } => {}
        }
    }

    /// [`Action::Truncate`] or [`Action::Restart`] was executed and is durable. If the role changed meanwhile, the new one begins with the
    /// log as it was cut, so it must be executed before the next input is given; or not at all, and not reported.
    pub fn handle_cut(&mut self, log: LogView<'_>, now: Moment) {
        if let Role::Follower(follower) = &mut self.role {
            follower.handle_cut(log, now, &mut self.actions);
            self.attempts = follower.attempts();
        }
    }

    /// Damage was found in the log, or has been repaired. A damaged leader resigns and asks to be replaced, until it is.
    pub fn handle_fitness(&mut self, fitness: Fitness) {
        self.fitness = fitness;
        let is_unfit = fitness != Fitness::Fit && !mutant!(Mutant::M30);
        if is_unfit {
            self.actions.push_back(Action::ReportUnfit(fitness));
        }
        match &mut self.role {
            Role::Leader(leader) if is_unfit => {
                self.actions.push_back(Action::FailWaiting(AckFailure::LeadershipLost));
                self.role = idle(leader.partition());
                // At the next occasion; from then on now and again.
                self.report_unfit_at = Some(Moment(0));
            }
            Role::Follower(follower) => follower.set_fitness(fitness),
            Role::Leader(_) | Role::Idle { .. } => {}
        }
    }

    /// The broker's lease with the controller ended or holds again (R11).
    pub fn handle_lease(&mut self, is_valid: bool) {
        self.lease_is_valid = is_valid;
        if let Role::Leader(leader) = &mut self.role {
            leader.handle_lease(is_valid);
        }
    }

    /// The broker wants to stop: nothing is appended any more (R12).
    pub fn handle_shutdown(&mut self) {
        self.is_stopping = true;
        if let Role::Leader(leader) = &mut self.role {
            leader.handle_shutdown();
        }
    }

    pub fn handle_deadline(&mut self, now: Moment) {
        match &mut self.role {
            Role::Leader(leader) => leader.handle_deadline(now, &mut self.actions),
            Role::Follower(follower) => {
                follower.connect(now, &mut self.actions);
                self.attempts = follower.attempts();
            }
            Role::Idle { .. } if self.report_unfit_at.is_some_and(|at| at <= now) => {
                self.report_unfit(now);
            }
            Role::Idle { .. } => {}
        }
    }

    // ---- Inputs as the leader ----

    /// `from` is the authenticated caller (R1).
    pub fn handle_handshake(
        &mut self,
        from: NodeId,
        handshake: &Handshake,
        log: LogView<'_>,
        now: Moment,
    ) -> Answer {
        let current = self.epoch();
        let verdict = match &mut self.role {
            Role::Leader(leader) => {
                leader.handle_handshake(from, handshake, log, now, &mut self.actions)
            }
            Role::Follower(_) | Role::Idle { .. } => {
                let refusal = check_epoch(handshake.leader_epoch, current);
                Verdict::Refused(refusal.err().unwrap_or(HandshakeRefusal::NotLeader))
            }
        };
        let Handshake { leader_epoch, attempt, .. } = *handshake;
        Answer { leader_epoch, attempt, verdict }
    }

    pub fn handle_report(
        &mut self,
        from: NodeId,
        report: &Report,
        now: Moment,
    ) -> Result<(), ReportRefusal> {
        match &mut self.role {
            Role::Leader(leader) => leader.handle_report(from, report, now, &mut self.actions),
            Role::Follower(_) | Role::Idle { .. } => {
                Err(ReportRefusal::UnknownSession(report.session))
            }
        }
    }

    /// The stream to this follower is gone.
    pub fn handle_follower_gone(&mut self, node: NodeId, session: u32) {
        if let Role::Leader(leader) = &mut self.role {
            leader.handle_disconnected(node, session);
        }
    }

    /// What became of [`Action::Propose`] with this attempt in this epoch.
    pub fn handle_alter_outcome(
        &mut self,
        (epoch, attempt): (LeaderEpoch, u32),
        outcome: &AlterOutcome,
        now: Moment,
    ) {
        if let Role::Leader(leader) = &mut self.role
            && leader.epoch() == epoch
        {
            leader.handle_alter_outcome(attempt, outcome, now, &mut self.actions);
        }
    }

    // ---- Inputs as a follower ----

    pub fn handle_answer(&mut self, answer: &Answer, log: LogView<'_>, now: Moment) {
        if let Role::Follower(follower) = &mut self.role {
            follower.handle_answer(answer, log, now, &mut self.actions);
            if follower.halted().is_some() {
                self.fitness = Fitness::HaltedDiverged;
                follower.set_fitness(self.fitness);
            }
        }
    }

    /// Checks what the leader pushed. When it is accepted, append the batches and report the local progress; when it is not, close the
    /// stream it came on: unless that is another stream than the present one, the replica asks anew after a while.
    pub fn handle_push(
        &mut self,
        push: &Push<'_>,
        batch_bytes_max: usize,
        now: Moment,
    ) -> Result<(), PushRefusal> {
        let Role::Follower(follower) = &mut self.role else {
            return Err(PushRefusal::NotFollowing);
        };
        let checked = follower.handle_push(push, batch_bytes_max, &mut self.actions);
        let is_of_another_stream = matches!(
            checked,
            Err(PushRefusal::NotFollowing
                | PushRefusal::OtherEpoch { .. }
                | PushRefusal::UnknownSession(_))
        );
        if checked.is_err() && !is_of_another_stream {
            follower.handle_disconnected(now);
        }
        checked
    }

    /// The stream to the leader is gone.
    pub fn handle_leader_gone(&mut self, now: Moment) {
        if let Role::Follower(follower) = &mut self.role {
            follower.handle_disconnected(now);
        }
    }

    // ---- Outputs ----

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        match &self.role {
            Role::Leader(leader) => leader.next_deadline(now),
            Role::Follower(follower) => follower.next_deadline(),
            Role::Idle { .. } => self.report_unfit_at,
        }
    }

    /// Whether a batch may be appended as the leader, and in which epoch (R4).
    pub fn admit_append(&self, acks: Acks) -> Result<LeaderEpoch, AppendRefusal> {
        match &self.role {
            Role::Leader(leader) => leader.admit_append(acks),
            Role::Follower(follower) => {
                let (leader, epoch) = (Some(follower.leader()), follower.epoch());
                Err(AppendRefusal::NotLeader { leader, epoch })
            }
            Role::Idle { epoch, .. } => {
                Err(AppendRefusal::NotLeader { leader: None, epoch: *epoch })
            }
        }
    }

    /// Whether readers may be answered as by the leader (R11).
    pub fn may_serve_readers(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.may_serve_readers())
    }

    /// The epoch in which readers may be answered with what is committed by a replica that does not lead (KIP-392): its log is a prefix of
    /// the leader's, as far as it goes, and it has not lost its controller. `None`: not that.
    pub fn may_serve_as_follower(&self) -> Option<LeaderEpoch> {
        match &self.role {
            Role::Follower(follower)
                if follower.is_following()
                    && self.lease_is_valid
                    && self.fitness == Fitness::Fit =>
            {
                Some(follower.epoch())
            }
            _ => None,
        }
    }

    /// The leader's high watermark once it lacks nothing that any earlier leader told (R3). `None`: OFFSET_NOT_AVAILABLE, or not the
    /// leader.
    pub fn true_high_watermark(&self) -> Option<Offset> {
        match &self.role {
            Role::Leader(leader) => leader.true_high_watermark(),
            Role::Follower(_) | Role::Idle { .. } => None,
        }
    }

    /// Followers to ask [`Self::next_push`] for.
    pub fn followers(&self) -> impl Iterator<Item = NodeId> {
        let leader = self.as_leader();
        leader.into_iter().flat_map(Leader::followers)
    }

    /// What there is to send to a follower; `None` when it is not connected or knows everything. A cursor below the log start has been
    /// overtaken by retention: close the stream, and the follower's next handshake says so.
    pub fn next_push(&self, node: NodeId) -> Option<PushCursor> {
        self.as_leader()?.next_push(node)
    }

    /// The push of `cursor` was sent with batches up to `end`.
    pub fn pushed(&mut self, node: NodeId, cursor: &PushCursor, end: Offset) {
        if let Role::Leader(leader) = &mut self.role {
            leader.pushed(node, cursor, end);
        }
    }

    /// As a follower: progress that the leader does not know of yet, to be sent now.
    pub fn take_report(&mut self) -> Option<Report> {
        match &mut self.role {
            Role::Follower(follower) => follower.take_report(),
            Role::Leader(_) | Role::Idle { .. } => None,
        }
    }

    pub fn role(&self) -> &Role {
        &self.role
    }

    pub fn as_leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Idle { .. } => None,
        }
    }

    pub fn fitness(&self) -> Fitness {
        self.fitness
    }

    /// The newest leader epoch it was told of.
    pub fn epoch(&self) -> LeaderEpoch {
        match &self.role {
            Role::Idle { epoch, .. } => *epoch,
            Role::Leader(leader) => leader.epoch(),
            Role::Follower(follower) => follower.epoch(),
        }
    }
}

fn idle(partition: &Partition) -> Role {
    let Partition { leader_epoch, partition_epoch, .. } = *partition;
    Role::Idle { epoch: leader_epoch, partition_epoch }
}
