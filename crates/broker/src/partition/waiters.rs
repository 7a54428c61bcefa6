//! Who waits for a partition's positions to move, and how they are told.
//!
//! Two kinds of waiting, both without polling: an *ack waiter* waits once for one position and learns the verdict; a *reader* waits
//! for anything new and then looks again. Waking never happens under a partition's lock: the lock's holder collects who is due and
//! wakes them after releasing it.

use std::collections::VecDeque;
use std::sync::Arc;

use thalweg_replication_core::AckFailure;
use thalweg_types::{NodeId, Offset, Outcome};
use tokio::sync::{Notify, oneshot};

use super::Partition;
use crate::replication::FollowerStream;

/// Which position must reach the end of the appended batch before its producer is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckPosition {
    /// Flushed on this leader (`acks=1`).
    DurableEnd,
    /// Committed on every in-sync replica (`acks=all`).
    HighWatermark,
}

/// The append happened, but its acknowledgement will not come. Whether the records stay in the log is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    #[error("this broker stopped leading the partition before the records were committed")]
    LeadershipLost,
    #[error("the records were not committed in the time the producer gave")]
    TimedOut,
    #[error("the log directory failed before the records were flushed")]
    LogDirFailed,
    #[error("the broker is shutting down")]
    ShuttingDown,
    #[error("the records were appended, but fewer replicas than min.insync.replicas are in sync")]
    NotEnoughReplicas,
}

impl AckError {
    /// Always unknown: the records are in the local log, and may yet be committed by a later leader.
    pub fn outcome(self) -> Outcome {
        Outcome::Unknown
    }
}

impl From<AckFailure> for AckError {
    fn from(failure: AckFailure) -> Self {
        match failure {
            AckFailure::LeadershipLost => Self::LeadershipLost,
            AckFailure::NotEnoughReplicas => Self::NotEnoughReplicas,
        }
    }
}

/// What an ack waiter is told.
pub(crate) type AckVerdict = Result<(), AckError>;

#[derive(Debug)]
struct AckWaiter {
    position: AckPosition,
    end: Offset,
    verdict: oneshot::Sender<AckVerdict>,
}

/// The producers waiting for one partition, in the order of the ends they wait for.
#[derive(Debug, Default)]
pub(crate) struct AckWaiters {
    waiting: VecDeque<AckWaiter>,
}

/// Waiters whose verdict is decided, to be told outside the lock.
#[derive(Debug, Default)]
#[must_use = "dropping the due waiters unwoken loses their answers"]
pub(crate) struct Due {
    acks: Vec<(oneshot::Sender<AckVerdict>, AckVerdict)>,
    readers: Vec<Arc<Notify>>,
    /// Streams of followers that have something to be told of the partition.
    streams: Vec<Arc<FollowerStream>>,
    /// The leader that has something to be told of it.
    leader: Option<NodeId>,
    /// The replica waits for a cut.
    cut: bool,
}

impl AckWaiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn add(
        &mut self,
        position: AckPosition,
        end: Offset,
    ) -> oneshot::Receiver<AckVerdict> {
        let (verdict, receiver) = oneshot::channel();
        // New batches end last; only a duplicate waits for an older end, so the search from the back is short.
        let place =
            self.waiting.iter().rposition(|other| other.end <= end).map_or(0, |before| before + 1);
        self.waiting.insert(place, AckWaiter { position, end, verdict });
        receiver
    }

    /// Takes everyone whose position has reached their end.
    pub(crate) fn reached(&mut self, durable_end: Offset, high_watermark: Offset, due: &mut Due) {
        let furthest = durable_end.max(high_watermark);
        let mut index = 0;
        while let Some(waiter) = self.waiting.get(index) {
            if waiter.end > furthest {
                break;
            }
            let reached = match waiter.position {
                AckPosition::DurableEnd => durable_end,
                AckPosition::HighWatermark => high_watermark,
            };
            if waiter.end > reached {
                index += 1;
                continue;
            }
            if let Some(waiter) = self.waiting.remove(index) {
                due.acks.push((waiter.verdict, Ok(())));
            }
        }
    }

    /// Takes everyone: their acknowledgement will not come.
    pub(crate) fn fail_all(&mut self, error: AckError, due: &mut Due) {
        due.acks.extend(self.waiting.drain(..).map(|waiter| (waiter.verdict, Err(error))));
    }
}

impl Due {
    pub(crate) fn readers(&mut self, readers: &[Arc<Notify>]) {
        self.readers.extend(readers.iter().cloned());
    }

    pub(crate) fn stream(&mut self, stream: &Arc<FollowerStream>) {
        self.streams.push(Arc::clone(stream));
    }

    pub(crate) fn leader(&mut self, leader: NodeId) {
        self.leader = Some(leader);
    }

    pub(crate) fn cut(&mut self) {
        self.cut = true;
    }

    /// Tells everyone of `partition`. Call without holding any lock.
    pub(super) fn wake(self, partition: &Partition) {
        if self.cut || self.leader.is_some() || !self.streams.is_empty() {
            self.wake_replicas(partition);
        }
        for (waiter, verdict) in self.acks {
            // The producer may have given up meanwhile: then nobody is there to be told.
            let _ = waiter.send(verdict);
        }
        for reader in self.readers {
            reader.notify_one();
        }
    }

    fn wake_replicas(&self, partition: &Partition) {
        // A partition that is going away has nothing to say any more.
        let Some(itself) = partition.this.upgrade() else { return };
        for stream in &self.streams {
            stream.list(Arc::clone(&itself));
        }
        if let Some(leader) = self.leader {
            partition.hub.upstream(leader).outbox.put(Arc::clone(&itself));
        }
        if self.cut {
            partition.hub.cuts.put(itself);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(receiver: &mut oneshot::Receiver<AckVerdict>) -> Option<AckVerdict> {
        receiver.try_recv().ok()
    }

    fn wake(due: Due) {
        let bench = crate::bench::Bench::stepped();
        due.wake(&bench.partition());
    }

    #[test]
    fn each_waiter_is_told_when_its_own_position_reaches_its_end() {
        let mut waiters = AckWaiters::default();
        let mut committed = waiters.add(AckPosition::HighWatermark, Offset(5));
        let mut durable = waiters.add(AckPosition::DurableEnd, Offset(7));

        let mut due = Due::default();
        waiters.reached(Offset(7), Offset(4), &mut due);
        wake(due);

        assert_eq!(told(&mut committed), None);
        assert_eq!(told(&mut durable), Some(Ok(())));

        let mut due = Due::default();
        waiters.reached(Offset(7), Offset(5), &mut due);
        wake(due);
        assert_eq!(told(&mut committed), Some(Ok(())));
    }

    #[test]
    fn a_duplicate_waits_for_the_original_end_among_later_ones() {
        let mut waiters = AckWaiters::default();
        let mut later = waiters.add(AckPosition::HighWatermark, Offset(20));
        let mut duplicate = waiters.add(AckPosition::HighWatermark, Offset(10));

        let mut due = Due::default();
        waiters.reached(Offset(15), Offset(15), &mut due);
        wake(due);

        assert_eq!(told(&mut duplicate), Some(Ok(())));
        assert_eq!(told(&mut later), None);
    }

    #[test]
    fn a_failure_reaches_everyone_still_waiting() {
        let mut waiters = AckWaiters::default();
        let mut waiting = waiters.add(AckPosition::HighWatermark, Offset(1));

        let mut due = Due::default();
        waiters.fail_all(AckError::LeadershipLost, &mut due);
        wake(due);

        assert_eq!(told(&mut waiting), Some(Err(AckError::LeadershipLost)));
    }
}
