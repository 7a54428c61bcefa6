//! Replicas: executing what their cores want, flushing, pushing to followers.

use thalweg_invariants::{Mutant, mutant};
use thalweg_replication_core::{AckFailure, Action, AlterOutcome, Fitness, PushCursor, Role};
use thalweg_types::{Acks, Durability, LeaderEpoch, Moment, Offset, TopicIdPartition};

use super::{Asked, Broker, Cut, Part};
use crate::disk::Batch;
use crate::env::{Env, Event};
use crate::message::{Ask, CallResult, Message, OwnedPush, StreamMessage};
use crate::network::MS;

/// Batches in one push.
const PUSH_BATCHES_MAX: usize = 6;

/// Until an AlterPartition without an answer counts as lost.
const ALTER_TIMEOUT: u64 = 1_000 * MS;

impl Broker {
    /// Does something with a replica and whatever follows from it.
    pub(super) fn with<R>(
        &mut self,
        env: &mut Env,
        id: TopicIdPartition,
        input: impl FnOnce(&mut Self, &mut Env, &mut Part) -> R,
    ) -> Option<R> {
        let mut part = self.parts.remove(&id)?;
        let result = input(self, env, &mut part);
        self.settle(env, id, &mut part);
        self.parts.insert(id, part);
        Some(result)
    }

    /// Executes the actions in order, sends what there is to send, and arranges to be woken.
    pub(super) fn settle(&mut self, env: &mut Env, id: TopicIdPartition, part: &mut Part) {
        loop {
            while let Some(action) = part.replica.poll_action() {
                self.execute(env, id, part, action);
            }
            if !self.push(env, id, part) {
                break;
            }
        }
        if let Some(report) = part.replica.take_report()
            && let Role::Follower(follower) = part.replica.role()
            && let Some(leader) = self.host_of(follower.leader())
            && let Some(connection) = self.streams.get(&leader)
        {
            env.stream(self.host, *connection, StreamMessage::Report(id, report));
        }
        let now = self.moment(env);
        if let Some(deadline) = part.replica.next_deadline(now) {
            let deadline = deadline.max(now.saturating_add_ms(1));
            if part.wake_at.is_none_or(|at| deadline < at) {
                part.wake_at = Some(deadline);
                let (broker, life, at) = (self.host, self.life, self.time_of(deadline));
                env.at(at, Event::Wake { broker, life, partition: id, deadline });
            }
        }
    }

    fn execute(&mut self, env: &mut Env, id: TopicIdPartition, part: &mut Part, action: Action) {
        let host = self.host;
        env.note(|| format!("broker {host} {id} {action:?}"));
        match action {
            Action::BeginEpoch(epoch) => {
                env.mark(&[1, u64::from(epoch.0.cast_unsigned())]);
                env.stats.elections += 1;
                if part.log.core.begin_leader_epoch(epoch).is_err() {
                    env.oracle.violated("I7", || format!("{id}: {host} begins {epoch} too late"));
                }
                env.oracle.leader_begins(id, epoch, (host, self.life), &part.log);
                env.oracle.check_producers(id, host, &part.log);
            }
            Action::Commit(to) => {
                env.mark(&[2, to.0.cast_unsigned()]);
                let from = part.log.high_watermark();
                let epoch = part.replica.epoch();
                env.oracle.committed(id, (host, epoch), &part.log, (from, to));
                part.log.core.advance_high_watermark(to);
                self.answer_waiting(env, part);
            }
            Action::FailWaiting(failure) => self.fail_waiting(env, part, failure),
            Action::Propose(proposal) => {
                let (epoch, attempt) = (proposal.leader_epoch, proposal.attempt);
                let asked = Asked::Alter { partition: id, epoch, attempt };
                let proposal = Box::new(proposal);
                self.ask(env, asked, Ask::Alter { partition: id, proposal });
                let (broker, life) = (host, self.life);
                let timeout = Event::AlterTimeout { broker, life, partition: id, epoch, attempt };
                env.after(ALTER_TIMEOUT, timeout);
            }
            Action::Handshake { leader, handshake } => {
                let Some(leader) = self.host_of(leader) else { return };
                let connection =
                    *self.streams.entry(leader).or_insert_with(|| env.connect(host, leader));
                env.stream(host, connection, StreamMessage::Handshake(id, handshake));
            }
            Action::Truncate { to, unclean } => {
                self.order_cut(env, id, part, Cut::Truncate { to, unclean });
            }
            Action::Restart { at } => self.order_cut(env, id, part, Cut::Restart { at }),
            Action::FollowHighWatermark(to) => {
                part.log.core.follow_high_watermark(to);
                env.oracle.check_positions(id, host, &part.log);
            }
            Action::MoveLogStart(to) => {
                part.log.move_log_start(to);
                env.oracle.check_positions(id, host, &part.log);
            }
            Action::Halt(_) => {
                env.stats.halts += 1;
                if !env.oracle.has_liar {
                    env.oracle.violated("G-HW", || format!("{id}: broker {host} halts"));
                }
                self.report_unfit(env, id);
            }
            Action::ReportUnfit(_) => self.report_unfit(env, id),
        }
    }

    fn report_unfit(&mut self, env: &mut Env, id: TopicIdPartition) {
        if let Some((node, epoch)) = self.session {
            self.ask(env, Asked::Unfit, Ask::Unfit { node, epoch, partition: id });
        }
    }

    /// At once, or, as where cuts wait for the disk, a while later.
    fn order_cut(&mut self, env: &mut Env, id: TopicIdPartition, part: &mut Part, cut: Cut) {
        if !self.faults.late_cuts {
            self.make_cut(env, id, part, cut);
            return;
        }
        part.cut = Some((part.replica.epoch(), cut));
        let delay = self.later_rng.between(0, if self.faults.slow_disk { 900 } else { 30 }) * MS;
        env.after(delay, Event::Cut { broker: self.host, life: self.life, partition: id });
    }

    /// Makes the cut that the replica waits for, if it still does: another leader was told of the log as it is.
    pub(crate) fn handle_cut_due(&mut self, env: &mut Env, id: TopicIdPartition) {
        self.with(env, id, |broker, env, part| {
            let Some((epoch, cut)) = part.cut.take() else { return };
            if part.replica.epoch() == epoch && matches!(part.replica.role(), Role::Follower(_)) {
                broker.make_cut(env, id, part, cut);
            }
        });
    }

    fn make_cut(&mut self, env: &mut Env, id: TopicIdPartition, part: &mut Part, cut: Cut) {
        let (host, wall) = (self.host, self.wall(env));
        let known = (part.log.high_watermark(), self.is_marked(id));
        let who = (host, self.node());
        match cut {
            Cut::Truncate { to, unclean } => {
                env.stats.truncations += 1;
                match part.log.truncate(to, unclean, wall) {
                    Ok(removed) => env.oracle.cut(id, who, &removed, known),
                    Err(error) => env.oracle.violated("I12", || format!("{id}: {host}: {error}")),
                }
                env.oracle.check_producers(id, host, &part.log);
            }
            Cut::Restart { at } => {
                let removed: Vec<_> =
                    part.log.disk.batches().filter(|batch| batch.end() > at).copied().collect();
                env.oracle.cut(id, who, &removed, known);
                part.log.restart_at(at, wall);
            }
        }
        part.replica.handle_cut(part.log.view(), self.moment(env));
    }

    /// Whether an unclean election allows to lose what is committed.
    fn is_marked(&self, id: TopicIdPartition) -> bool {
        self.image.partition_by_id(id).is_some_and(|state| state.unclean_epoch.is_some())
    }

    // ---- Flushes ----

    /// Something was written: it is flushed as soon as the flush before it is over.
    pub(super) fn start_flush(&mut self, env: &mut Env) {
        self.is_dirty = true;
        if self.flushing.is_some() {
            return;
        }
        self.is_dirty = false;
        self.flushing = Some(env.writes);
        let slow = self.faults.slow_disk;
        let took = if slow {
            self.rng.between(100 * MS, 1_500 * MS)
        } else {
            self.rng.between(300, 3 * MS)
        };
        env.after(took, Event::FlushDone { broker: self.host, life: self.life });
    }

    pub(crate) fn handle_flush_done(&mut self, env: &mut Env) {
        let Some(captured) = self.flushing.take() else { return };
        if std::mem::take(&mut self.faults.fail_flush) {
            for part in self.parts.values_mut() {
                part.log.disk.flush_failed(captured);
            }
            if mutant!(Mutant::M9) {
                self.start_flush(env);
                return;
            }
            // D1: nobody knows what is on the disk. The process ends; its next life reads and writes everything anew.
            self.crash(env);
            let delay = self.rng.between(100 * MS, 2_000 * MS);
            env.after(delay, Event::StartBroker { broker: self.host });
            return;
        }
        let ids: Vec<_> = self.parts.keys().copied().collect();
        for id in ids {
            self.with(env, id, |broker, env, part| {
                part.log.flushed(captured, broker.faults.keeps_old_positions);
                part.replica.handle_local(part.log.view(), broker.moment(env));
                broker.answer_waiting(env, part);
            });
        }
        if self.is_dirty {
            self.start_flush(env);
        }
    }

    pub(super) fn retain(&mut self, env: &mut Env) {
        let now = self.wall(env);
        let ids: Vec<_> = self.parts.keys().copied().collect();
        for id in ids {
            self.with(env, id, |broker, env, part| {
                if part.replica.fitness() == Fitness::Fit && part.log.retain(now) {
                    env.oracle.check_positions(id, broker.host, &part.log);
                    part.replica.handle_local(part.log.view(), broker.moment(env));
                }
            });
        }
    }

    // ---- As the leader ----

    /// Pushes what followers lack. Says whether that led to new actions.
    fn push(&mut self, env: &mut Env, id: TopicIdPartition, part: &mut Part) -> bool {
        if part.replica.fitness() == Fitness::Suspect && !mutant!(Mutant::M30) {
            return false;
        }
        let followers: Vec<_> = part.replica.followers().collect();
        for node in followers {
            while let Some(cursor) = part.replica.next_push(node) {
                let Some(push) = read_push(part, &cursor) else {
                    let is_news = part.replica.fitness() != Fitness::Suspect;
                    if is_news {
                        env.stats.suspects += 1;
                        part.replica.handle_fitness(Fitness::Suspect);
                    }
                    return is_news;
                };
                let end = push.batches.last().map_or(cursor.from, Batch::end);
                part.replica.pushed(node, &cursor, end);
                if let Some(connection) = part.sessions.get(&(node, cursor.session)) {
                    env.stream(self.host, *connection, StreamMessage::Push(id, push));
                }
            }
        }
        false
    }

    pub(super) fn answer_waiting(&mut self, env: &mut Env, part: &mut Part) {
        let high_watermark = part.log.high_watermark();
        let offsets = part.log.core.offsets();
        // R11: who may have been replaced acknowledges nothing on its own.
        let has_own = match part.log.core.config().durability {
            _ if !part.replica.may_serve_readers() => Offset::ZERO,
            Durability::Fsync => offsets.recovery_point(),
            Durability::Replicated => offsets.log_end(),
        };
        let (host, epoch) = (self.host, part.replica.epoch());
        part.waiters.retain(|waiter| {
            let is_due = match waiter.acks {
                Acks::All => waiter.end <= high_watermark,
                Acks::Leader | Acks::None => waiter.end <= has_own,
            };
            if is_due {
                let result = CallResult::Produced(waiter.base, epoch);
                env.send(host, waiter.asker, Message::Answered { id: waiter.id, result });
            }
            !is_due
        });
    }

    pub(super) fn fail_waiting(&mut self, env: &mut Env, part: &mut Part, failure: AckFailure) {
        for waiter in std::mem::take(&mut part.waiters) {
            let result = CallResult::Error { code: failure.code(), outcome: failure.outcome() };
            env.send(self.host, waiter.asker, Message::Answered { id: waiter.id, result });
        }
    }

    pub(super) fn alter_ended(
        &mut self,
        env: &mut Env,
        id: TopicIdPartition,
        attempt: (LeaderEpoch, u32),
        outcome: &AlterOutcome,
    ) {
        self.with(env, id, |broker, env, part| {
            part.replica.handle_alter_outcome(attempt, outcome, broker.moment(env));
        });
    }

    pub(crate) fn handle_alter_timeout(
        &mut self,
        env: &mut Env,
        id: TopicIdPartition,
        (epoch, attempt): (LeaderEpoch, u32),
    ) {
        let is_it = |asked: &Asked| {
            matches!(asked, Asked::Alter { partition, epoch: e, attempt: a }
                if *partition == id && *e == epoch && *a == attempt)
        };
        let found = self.asked.iter().find(|(_, asked)| is_it(asked)).map(|(id, _)| *id);
        if let Some(asked) = found {
            self.asked.remove(&asked);
            self.try_another_controller();
            self.alter_ended(env, id, (epoch, attempt), &AlterOutcome::Lost);
        }
    }

    pub(crate) fn handle_wake(&mut self, env: &mut Env, id: TopicIdPartition, deadline: Moment) {
        self.with(env, id, |broker, env, part| {
            // An earlier one may have taken this one's place.
            if part.wake_at == Some(deadline) {
                part.wake_at = None;
                part.replica.handle_deadline(broker.moment(env));
            }
        });
    }
}

/// The batches for a cursor; `None` when one of them is damaged.
fn read_push(part: &Part, cursor: &PushCursor) -> Option<OwnedPush> {
    let mut batches = Vec::new();
    for batch in part.log.disk.batches_from(cursor.from).take(PUSH_BATCHES_MAX) {
        if batch.end() > cursor.log_end {
            break;
        }
        if !batch.is_intact() {
            return None;
        }
        batches.push(*batch);
    }
    if batches.is_empty() && cursor.from < cursor.log_end {
        return None;
    }
    let PushCursor { session, leader_epoch, log_end, high_watermark, log_start, .. } = *cursor;
    Some(OwnedPush { session, leader_epoch, batches, high_watermark, log_start, log_end })
}
