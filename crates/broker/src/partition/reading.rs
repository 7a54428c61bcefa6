//! What readers see of a partition here, and who else could answer them.
//!
//! A leader answers with what is committed, and only it knows that as of now. A follower may answer as well (KIP-392), with what it knows to
//! be committed: never something else than the leader would, but later. It refuses what it cannot know yet, so that the reader turns to
//! the leader, and whatever it cannot vouch for: while it does not know that its log agrees with the leader's, or has lost its controller.

use std::cmp::Reverse;

use thalweg_log_core::{EpochEnd, LogOffsets, PartitionLog};
use thalweg_replication_core::Fitness;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, LeaderEpoch, NodeId, Offset};

use super::Partition;
use crate::error::NotLeading;

/// A consistent look at a partition for a reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) offsets: LogOffsets,
    /// The high watermark lacks nothing that any earlier leader told anybody (R3).
    pub(crate) is_current: bool,
    /// Otherwise this is a follower's, and the leader may know more.
    pub(crate) is_leaders: bool,
}

/// What a replica has, whoever leads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holding {
    /// Of the last record below `durable_end`.
    pub(crate) last_epoch: LeaderEpoch,
    pub(crate) durable_end: Offset,
    pub(crate) high_watermark: Offset,
}

impl Partition {
    /// What a reader sees, provided this broker leads and the reader's epoch, if it gave one, is the leader's (KIP-320).
    pub(crate) fn view(&self, reader_epoch: LeaderEpoch) -> Result<View, NotLeading> {
        self.look(reader_epoch, false)
    }

    /// The same, or what a follower may answer with.
    pub(crate) fn any_view(&self, reader_epoch: LeaderEpoch) -> Result<View, NotLeading> {
        self.look(reader_epoch, true)
    }

    fn look(&self, reader_epoch: LeaderEpoch, followers_too: bool) -> Result<View, NotLeading> {
        let inner = self.lock(self.hub.now());
        let following = inner.replica.may_serve_as_follower().filter(|_| followers_too);
        let epoch = following.map_or_else(|| inner.leading(), Ok)?;
        if reader_epoch != LeaderEpoch::NONE {
            if reader_epoch < epoch {
                return Err(NotLeading::FencedEpoch { given: reader_epoch, current: epoch });
            }
            if reader_epoch > epoch {
                return Err(NotLeading::UnknownEpoch { given: reader_epoch, current: epoch });
            }
        }
        let is_current = inner.replica.true_high_watermark().is_some();
        let is_leaders = following.is_none();
        Ok(View { epoch, offsets: self.log.offsets(), is_current, is_leaders })
    }

    /// As the leader: which of `nodes` a reader at `offset` is better served by, an in-sync replica that has what it asks for. The one whose
    /// log goes furthest.
    pub(crate) fn preferred_reader(&self, nodes: &[NodeId], offset: Offset) -> Option<NodeId> {
        let inner = self.inner.lock();
        let ends = inner.replica.as_leader()?.in_sync_ends();
        ends.filter(|(node, end)| nodes.contains(node) && *end >= offset)
            .max_by_key(|(node, end)| (*end, Reverse(*node)))
            .map(|(node, _)| node)
    }

    /// Where `epoch` ends in this leader's log (R1), provided that [`Self::view`] is granted; `None` when the log knows nothing of it.
    pub(crate) fn epoch_end(
        &self,
        epoch: LeaderEpoch,
        reader_epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, NotLeading> {
        self.view(reader_epoch)?;
        Ok(self.log.end_offset_for_epoch(epoch))
    }

    /// What this replica could lead with, if nobody better is left.
    ///
    /// # Errors
    ///
    /// It may not lead at all (R9).
    pub(crate) fn holding(&self) -> Result<Holding, Error> {
        let fitness = self.inner.lock().replica.fitness();
        match fitness {
            Fitness::Fit => Ok(self.log.inspect(holding_of)),
            Fitness::Suspect => {
                Err(Error::new(ErrorCode::KafkaStorageError, "its records are damaged"))
            }
            Fitness::HaltedDiverged => Err(Error::new(
                ErrorCode::IneligibleReplica,
                "it has halted: its last leader contradicted what it knows to be committed",
            )),
        }
    }
}

fn holding_of(log: &PartitionLog) -> Holding {
    let (offsets, epochs) = (log.offsets(), log.epochs());
    let durable_end = offsets.durable_end();
    let last = Offset(durable_end.0 - 1);
    let of_last = (durable_end > offsets.log_start()).then(|| epochs.epoch_at(last)).flatten();
    // Retention may have left nothing but the place where the log goes on, and whose it was.
    let of_end = || (durable_end > Offset::ZERO).then(|| epochs.epoch_at(durable_end)).flatten();
    Holding {
        last_epoch: of_last.or_else(of_end).unwrap_or(LeaderEpoch::NONE),
        durable_end,
        high_watermark: offsets.high_watermark(),
    }
}
