//! Groups of the classic protocol: their clients agree among themselves, here it is seen to that all agree on the same.
//!
//! ```text
//!   Empty ──join──► PreparingRebalance ──all are back, or time is up──► CompletingRebalance ──the leader has assigned──► Stable
//!     ▲              │    ▲      ▲                                             │  (a member is missing)                 │
//!     └──all left────┘    │      └─────────────────────────────────────────────┘                                         │
//!                         └──────────────────────── join, leave, silence, new metadata ──────────────────────────────────┘
//! ```
//!
//! PreparingRebalance collects JoinGroup, each waiting for its answer. When it ends, a new *generation* begins: one protocol is chosen, one
//! member leads, and all are answered. CompletingRebalance collects SyncGroup until the leader's brings everybody's share; only that
//! makes a record. So a coordinator that fails before goes back to the generation stored last, whose assignment nobody has replaced yet.
//!
//! A new count of partitions makes no rebalance here: clients see it in their metadata, and the leader joins anew.

mod commit;
mod convert;
mod deadline;
mod describe;
mod heartbeat;
mod join;
mod leave;
mod member;
mod protocols;
mod rebalance;
mod state;
mod stored;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thalweg_types::{
    ErrorCode, GenerationId, GroupId, InstanceId, MemberId, Moment, Timestamp, TopicName,
};

use crate::alarm::Alarm;
pub(crate) use convert::Migrant;
pub(crate) use describe::GROUP_TYPE;
pub(crate) use join::{Joining, check as check_join};
use member::Member;
use protocols::Support;
use state::State;

/// The protocol type of groups that consume topics; only of these it is known what members tell each other.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Clients may ask not to be waited for at all. No call would be in time then, and a group of members that are away would be looked at
/// without end.
const REBALANCE_TIMEOUT_MS_MIN: u64 = 1_000;

/// One group of the classic protocol.
#[derive(Debug)]
pub(crate) struct Group {
    id: GroupId,
    state: State,
    /// Since when, by the wall clock: what is stored, and what offsets expire by.
    state_since: Timestamp,
    generation: GenerationId,
    /// Of the members there are, or the last there were.
    protocol_type: Option<Arc<str>>,
    /// Chosen for this generation.
    protocol: Option<Arc<str>>,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    static_members: BTreeMap<InstanceId, MemberId>,
    /// Ids that were given out to be joined with, and until when.
    promised: BTreeMap<MemberId, Moment>,
    /// How many members could use which protocol.
    support: Support,
    /// Of all members' protocols together.
    metadata_bytes: usize,
    /// Topics that members subscribe to in this generation; `None` when that cannot be known.
    subscribed: Option<BTreeSet<TopicName>>,
    alarm: Alarm,
    /// A record of this group is in the log, so forgetting it takes a tombstone.
    is_stored: bool,
}

impl Group {
    /// A group of which nothing is known yet.
    pub(crate) fn new(id: GroupId, now: Timestamp) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since: now,
            generation: GenerationId(0),
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            promised: BTreeMap::new(),
            support: Support::default(),
            metadata_bytes: 0,
            subscribed: Some(BTreeSet::new()),
            alarm: Alarm::default(),
            is_stored: false,
        }
    }

    /// When a deadline may have come.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.alarm.at()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.state, State::Empty)
    }

    /// Nobody is in it or about to be, and nothing of it was ever stored: it can be forgotten without a trace.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.is_empty() && self.promised.is_empty() && !self.is_stored
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.is_stored
    }

    fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// The caller is who it says it is, in this life and under this name.
    fn check_member(
        &self,
        member: &MemberId,
        instance: Option<&InstanceId>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if !self.members.contains_key(member) {
            return Err(ErrorCode::UnknownMemberId);
        }
        Ok(())
    }

    /// The longest that any member wants to be waited for.
    fn rebalance_timeout_ms(&self) -> u64 {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout_ms);
        timeouts.max().unwrap_or_default().max(REBALANCE_TIMEOUT_MS_MIN)
    }
}
