//! What clients ask of a broker.

use std::cmp::Ordering;

use thalweg_log_core::{AppendDecision, Continuation};
use thalweg_replication_core::{Fitness, Role};
use thalweg_types::{Acks, CoordinatorEpoch, ErrorCode, Offset, Outcome, TopicIdPartition};

use super::{Broker, Part, Waiter};
use crate::coordinators::standing;
use crate::disk::Batch;
use crate::env::Env;
use crate::message::{Call, CallResult, Host, Message};

/// Batches in one answer to a fetch.
const FETCH_BATCHES_MAX: usize = 16;

impl Broker {
    pub(crate) fn handle_call(
        &mut self,
        env: &mut Env,
        (asker, id): (Host, u64),
        partition: TopicIdPartition,
        call: Call,
    ) {
        self.refresh_lease(env);
        let result = self.with(env, partition, |broker, env, part| match call {
            Call::Produce(batch, acks) => broker.produce(env, (asker, id), part, (batch, acks)),
            Call::Fetch { from } => Some(fetch(part, from)),
            Call::End => Some(end(part)),
            Call::Locate => Some(locate(part)),
            Call::Append { continuation, epoch, batch } => broker
                .check_author(partition, epoch)
                .or_else(|| broker.append(env, (asker, id), part, (continuation, batch))),
        });
        let unknown = error(ErrorCode::UnknownTopicOrPartition);
        if let Some(result) = result.unwrap_or(Some(unknown)) {
            env.send(self.host, asker, Message::Answered { id, result });
        }
        if self.is_dirty {
            self.start_flush(env);
        }
    }

    /// `None`: it will be answered when it is committed.
    fn produce(
        &mut self,
        env: &mut Env,
        (asker, id): (Host, u64),
        part: &mut Part,
        (batch, acks): (Batch, Acks),
    ) -> Option<CallResult> {
        let epoch = match part.replica.admit_append(acks) {
            Ok(epoch) => epoch,
            Err(refusal) => {
                let (code, outcome) = (refusal.code(), refusal.outcome());
                return Some(CallResult::Error { code, outcome });
            }
        };
        if self.faults.disk_full {
            return Some(error(ErrorCode::KafkaStorageError));
        }
        env.writes += 1;
        let (written, wall) = (env.writes, self.wall(env));
        let (base, last) = match part.log.append_produced(batch, epoch, written, wall) {
            Err(refusal) => return Some(error(refusal.code())),
            Ok(AppendDecision::Duplicate { base_offset, last_offset, .. }) => {
                (base_offset, last_offset)
            }
            Ok(AppendDecision::Append { base_offset, last_offset, .. }) => {
                self.is_dirty = true;
                (base_offset, last_offset)
            }
        };
        part.waiters.push(Waiter { asker, id, base, end: Offset(last.0 + 1), acks });
        part.replica.handle_local(part.log.view(), self.moment(env));
        self.answer_waiting(env, part);
        None
    }
}

impl Broker {
    /// As the broker knows the assignment.
    fn check_author(&self, id: TopicIdPartition, given: CoordinatorEpoch) -> Option<CallResult> {
        let current = self.image.coordinator_of(id).map_or(CoordinatorEpoch(0), |c| c.epoch);
        match given.cmp(&current) {
            Ordering::Less => Some(error(ErrorCode::NotCoordinator)),
            Ordering::Greater => Some(error(ErrorCode::UnknownLeaderEpoch)),
            Ordering::Equal => None,
        }
    }

    /// `None`: it will be answered when it is committed.
    fn append(
        &mut self,
        env: &mut Env,
        asker: (Host, u64),
        part: &mut Part,
        (continuation, batch): (Continuation, Option<Batch>),
    ) -> Option<CallResult> {
        let Role::Leader(leader) = part.replica.role() else {
            return Some(error(ErrorCode::NotLeaderOrFollower));
        };
        let (epoch, end) = (leader.epoch(), part.log.end());
        if let Err(wrong) = part.chain.admit(&continuation, epoch, end) {
            let host = self.host;
            env.note(|| format!("broker {host}: {wrong}"));
            return Some(error(ErrorCode::InvalidUpdateVersion));
        }
        let Some(batch) = batch else { return self.wait(env, asker, part, end) };
        let refused = self.produce(env, asker, part, (batch, Acks::All));
        if refused.is_none() {
            part.chain.appended(epoch, continuation.chain);
        }
        refused
    }

    /// A check is answered when everything below the end is committed.
    fn wait(
        &mut self,
        env: &mut Env,
        (asker, id): (Host, u64),
        part: &mut Part,
        end: Offset,
    ) -> Option<CallResult> {
        if !part.replica.may_serve_readers() {
            return Some(error(ErrorCode::NotLeaderOrFollower));
        }
        part.waiters.push(Waiter { asker, id, base: end, end, acks: Acks::All });
        self.answer_waiting(env, part);
        None
    }
}

fn locate(part: &Part) -> CallResult {
    match part.replica.role() {
        Role::Leader(leader) if part.replica.may_serve_readers() => {
            let offsets = part.log.core.offsets();
            let start = leader.epoch_start_offset();
            CallResult::Standing(standing(leader.epoch(), start, offsets))
        }
        _ => error(ErrorCode::NotLeaderOrFollower),
    }
}

fn fetch(part: &mut Part, from: Offset) -> CallResult {
    if !part.replica.may_serve_readers() {
        return error(ErrorCode::NotLeaderOrFollower);
    }
    let (log_start, high_watermark) = (part.log.log_start(), part.log.high_watermark());
    if from < log_start {
        return CallResult::Fetched { batches: Vec::new(), log_start, high_watermark };
    }
    if from > part.log.end() {
        return error(ErrorCode::OffsetOutOfRange);
    }
    let mut batches = Vec::new();
    for batch in part.log.disk.batches_from(from).take(FETCH_BATCHES_MAX) {
        if batch.base() >= high_watermark {
            break;
        }
        if !batch.is_intact() {
            part.replica.handle_fitness(Fitness::Suspect);
            return error(ErrorCode::KafkaStorageError);
        }
        batches.push(*batch);
    }
    CallResult::Fetched { batches, log_start, high_watermark }
}

fn end(part: &Part) -> CallResult {
    if !part.replica.may_serve_readers() {
        return error(ErrorCode::NotLeaderOrFollower);
    }
    match part.replica.true_high_watermark() {
        Some(end) => CallResult::End { end, epoch: part.replica.epoch() },
        None => error(ErrorCode::OffsetNotAvailable),
    }
}

fn error(code: ErrorCode) -> CallResult {
    CallResult::Error { code, outcome: Outcome::NotApplied }
}
