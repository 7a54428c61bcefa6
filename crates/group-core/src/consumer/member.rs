//! One member of a group of the consumer protocol.

use std::sync::Arc;

use thalweg_types::{InstanceId, MemberEpoch, Moment};

use super::partitions::PartitionSet;
use super::reconcile::{Current, MemberState};
use crate::record::{ClassicMemberMetadata, CurrentAssignment, MemberMetadata};

/// Epoch of a member that leaves, and of one whose record is gone.
pub(crate) const LEAVING: MemberEpoch = MemberEpoch(-1);

/// Epoch of a static member that is away for a while, and keeps what it owns until its session ends.
pub(crate) const AWAY: MemberEpoch = MemberEpoch(-2);

/// A member: what it wants, what it has, and until when it is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) metadata: MemberMetadata,
    pub(crate) current: Current,
    pub(crate) deadlines: Deadlines,
}

/// When the patience with a member ends. Not stored: whoever takes the group over begins anew.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deadlines {
    /// Unless it is heard of.
    pub(crate) session: Option<Moment>,
    /// Unless it gives up what it has to.
    pub(crate) revocation: Option<Moment>,
    /// Unless it joins again; members that speak the classic protocol only.
    pub(crate) join: Option<Moment>,
    /// Unless it fetches its assignment; the same.
    pub(crate) sync: Option<Moment>,
}

impl Member {
    /// A member of which nothing is known yet.
    pub(crate) fn new() -> Self {
        let metadata = MemberMetadata {
            instance: None,
            rack: None,
            client_id: Arc::default(),
            client_host: Arc::default(),
            subscribed_names: Vec::new(),
            subscribed_regex: None,
            rebalance_timeout_ms: -1,
            server_assignor: None,
            classic: None,
        };
        Self { metadata, current: Current::NEW, deadlines: Deadlines::default() }
    }

    pub(crate) fn instance(&self) -> Option<&InstanceId> {
        self.metadata.instance.as_ref()
    }

    /// Set while the member speaks the classic protocol.
    pub(crate) fn classic(&self) -> Option<&ClassicMemberMetadata> {
        self.metadata.classic.as_ref()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.current.epoch == AWAY
    }

    /// How long the member may take for what a rebalance asks of it.
    pub(crate) fn rebalance_timeout_ms(&self) -> u64 {
        u64::try_from(self.metadata.rebalance_timeout_ms).unwrap_or(0)
    }
}

impl Deadlines {
    /// The earliest.
    pub(crate) fn next(&self) -> Option<Moment> {
        [self.session, self.revocation, self.join, self.sync].into_iter().flatten().min()
    }
}

// ---- The stored form ----

impl MemberState {
    /// Kafka's numbers.
    fn code(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    fn from_code(code: i8) -> Self {
        match code {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

impl From<&CurrentAssignment> for Current {
    fn from(stored: &CurrentAssignment) -> Self {
        Self {
            state: MemberState::from_code(stored.state),
            epoch: stored.epoch,
            previous_epoch: stored.previous_epoch,
            assigned: PartitionSet::from(stored.assigned.as_slice()),
            revoking: PartitionSet::from(stored.pending_revocation.as_slice()),
        }
    }
}

impl From<&Current> for CurrentAssignment {
    fn from(current: &Current) -> Self {
        Self {
            epoch: current.epoch,
            previous_epoch: current.previous_epoch,
            state: current.state.code(),
            assigned: current.assigned.to_lists(),
            pending_revocation: current.revoking.to_lists(),
        }
    }
}
