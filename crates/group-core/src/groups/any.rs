//! A group of either protocol: what can be asked of both.

use std::sync::Arc;

use thalweg_types::{ErrorCode, GroupId, Moment, TopicName};

use crate::effects::Token;
use crate::offsets::Expiry;
use crate::record::Record;
use crate::request::{CommitOffsets, FetchOffsets};
use crate::response::ListedGroup;
use crate::step::Step;
use crate::{classic, consumer};

/// How ListGroups names groups of the consumer protocol, and what they share.
const CONSUMER_GROUP_TYPE: &str = "consumer";

#[derive(Debug)]
pub(crate) enum AnyGroup {
    Classic(classic::Group),
    Consumer(consumer::Group),
}

impl AnyGroup {
    pub(super) fn start(&mut self, step: &mut Step<'_>) {
        match self {
            Self::Classic(group) => group.start(step),
            Self::Consumer(group) => group.start(step),
        }
    }

    pub(super) fn handle_deadline(&mut self, step: &mut Step<'_>) {
        match self {
            Self::Classic(group) => group.handle_deadline(step),
            Self::Consumer(group) => group.handle_deadline(step),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        match self {
            Self::Classic(group) => group.next_deadline(),
            Self::Consumer(group) => group.next_deadline(),
        }
    }

    /// Clients of the classic protocol see the metadata themselves.
    pub(super) fn metadata_changed(&mut self) {
        match self {
            Self::Classic(_) => {}
            Self::Consumer(group) => group.metadata_changed(),
        }
    }

    /// Heartbeats of the consumer protocol are answered at once.
    pub(super) fn cancel(&mut self, token: Token) {
        match self {
            Self::Classic(group) => group.cancel(token),
            Self::Consumer(_) => {}
        }
    }

    /// Whether nothing would be missed if the entry were removed without a word to the log.
    pub(super) fn is_forgettable(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_forgettable(),
            Self::Consumer(_) => false,
        }
    }

    /// Nobody is in it, and nobody has asked to come in.
    pub(super) fn is_deserted(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_deserted(),
            Self::Consumer(group) => group.is_empty(),
        }
    }

    pub(super) fn member_count(&self) -> usize {
        match self {
            Self::Classic(group) => group.member_count(),
            Self::Consumer(group) => group.member_count(),
        }
    }

    // ---- Offsets ----

    pub(super) fn check_commit(
        &mut self,
        step: &Step<'_>,
        commit: &CommitOffsets,
    ) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_commit(step, commit),
            Self::Consumer(group) => group.check_commit(commit),
        }
    }

    /// Members of classic groups have no epoch to be asked for; whoever asks may read.
    pub(super) fn check_fetch(&self, fetch: &FetchOffsets) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(_) => Ok(()),
            Self::Consumer(group) => group.check_fetch(fetch),
        }
    }

    pub(super) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.check_offset_delete(),
            // Topic by topic: what is subscribed to is refused.
            Self::Consumer(_) => Ok(()),
        }
    }

    pub(super) fn is_subscribed(&self, topic: &TopicName) -> bool {
        match self {
            Self::Classic(group) => group.is_subscribed(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    pub(super) fn expiry(&self) -> Expiry {
        match self {
            Self::Classic(group) => group.expiry(),
            Self::Consumer(_) => Expiry::SinceCommit,
        }
    }

    // ---- The group itself ----

    pub(super) fn list(&self, id: &GroupId) -> ListedGroup {
        match self {
            Self::Classic(group) => group.list(),
            Self::Consumer(group) => ListedGroup {
                group: id.clone(),
                protocol_type: Arc::from(CONSUMER_GROUP_TYPE),
                state: group.state().name(),
                group_type: CONSUMER_GROUP_TYPE,
            },
        }
    }

    /// Whether it may be deleted; if so, it is not to be asked any more.
    pub(super) fn delete(&mut self) -> Result<(), ErrorCode> {
        match self {
            Self::Classic(group) => group.delete(),
            Self::Consumer(group) if group.is_empty() => Ok(()),
            Self::Consumer(_) => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// What removes the group from the log.
    pub(super) fn tombstones(&self, id: &GroupId) -> Vec<Record> {
        match self {
            Self::Classic(group) if group.is_stored() => vec![Record::Group(id.clone(), None)],
            Self::Classic(_) => Vec::new(),
            Self::Consumer(group) => group.tombstones(),
        }
    }
}
