//! What clients ask of a broker.

use thalweg_log_core::AppendDecision;
use thalweg_replication_core::Fitness;
use thalweg_types::{Acks, ErrorCode, Offset, Outcome, TopicIdPartition};

use super::{Broker, Part, Waiter};
use crate::disk::Batch;
use crate::env::Env;
use crate::message::{CLIENTS, Call, CallResult, Message};

/// Batches in one answer to a fetch.
const FETCH_BATCHES_MAX: usize = 16;

impl Broker {
    pub(crate) fn handle_call(
        &mut self,
        env: &mut Env,
        id: u64,
        partition: TopicIdPartition,
        call: Call,
    ) {
        self.refresh_lease(env);
        let result = self.with(env, partition, |broker, env, part| match call {
            Call::Produce(batch, acks) => broker.produce(env, id, part, (batch, acks)),
            Call::Fetch { from } => Some(fetch(part, from)),
            Call::End => Some(end(part)),
        });
        let unknown = error(ErrorCode::UnknownTopicOrPartition);
        if let Some(result) = result.unwrap_or(Some(unknown)) {
            env.send(self.host, CLIENTS, Message::Answered { id, result });
        }
        if self.is_dirty {
            self.start_flush(env);
        }
    }

    /// `None`: it will be answered when it is committed.
    fn produce(
        &mut self,
        env: &mut Env,
        id: u64,
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
        part.waiters.push(Waiter { id, base, end: Offset(last.0 + 1), acks });
        part.replica.handle_local(part.log.view(), self.moment(env));
        self.answer_waiting(env, part);
        None
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
