//! From a call to the group it is about, and what is said when there is none.

use std::collections::BTreeSet;

use thalweg_types::{ErrorCode, GroupId};

use super::{AnyGroup, Groups};
use crate::classic;
use crate::config::ID_BYTES_MAX;
use crate::effects::Token;
use crate::request::{
    CommitOffsets, DeleteOffsets, FetchOffsets, Heartbeat, Leave, ListGroups, Sync,
};
use crate::response::{
    DeletedOffsets, DescribedGroup, FetchedOffsets, Joined, Left, LeftMember, ListedGroup,
    ListedGroups, Response, Synced, TopicErrors,
};
use crate::step::Step;

/// How the state of a group reads that is nothing but its offsets.
const SIMPLE_GROUP_STATE: &str = "Empty";

impl Groups {
    // ---- Membership ----

    pub(super) fn join(&mut self, step: &mut Step<'_>, joining: classic::Joining) {
        let (token, id) = (joining.token, joining.join.group.clone());
        let refused = |error| Response::Join(Joined::refused(joining.join.member.clone(), error));
        if let Err(error) = classic::check_join(&joining.join, step.config) {
            return step.answer(token, refused(error));
        }
        if !self.groups.contains_key(&id) {
            if !joining.join.member.is_empty() {
                return step.answer(token, refused(ErrorCode::UnknownMemberId));
            }
            if self.groups.len() >= step.config.groups_max {
                return step.answer(token, refused(ErrorCode::CoordinatorNotAvailable));
            }
        }
        self.empty_becomes_classic(&id, step);
        let new = || AnyGroup::Classic(classic::Group::new(id.clone(), step.now.wall));
        match self.groups.entry(id.clone()).or_insert_with(new) {
            AnyGroup::Classic(group) => group.join(step, joining),
            AnyGroup::Consumer(group) => {
                let classic::Joining { client, fresh, join, .. } = &joining;
                let joined = group.join_classic(join, client, *fresh, step);
                step.answer(token, Response::Join(joined));
                self.downgrade_if_classic(&id, step);
            }
        }
    }

    pub(super) fn sync(&mut self, step: &mut Step<'_>, token: Token, sync: Sync) {
        match self.groups.get_mut(&sync.group) {
            Some(AnyGroup::Classic(group)) => group.sync(step, token, sync),
            Some(AnyGroup::Consumer(group)) => {
                let synced = group.sync_classic(&sync, step);
                step.answer(token, Response::Sync(synced));
            }
            None => {
                let refused = Synced::refused(ErrorCode::UnknownMemberId);
                step.answer(token, Response::Sync(refused));
            }
        }
    }

    pub(super) fn heartbeat(&mut self, step: &mut Step<'_>, heartbeat: &Heartbeat) -> ErrorCode {
        match self.groups.get_mut(&heartbeat.group) {
            Some(AnyGroup::Classic(group)) => group.heartbeat(step, heartbeat),
            Some(AnyGroup::Consumer(group)) => group.heartbeat_classic(heartbeat, step),
            None => ErrorCode::UnknownMemberId,
        }
    }

    pub(super) fn leave(&mut self, step: &mut Step<'_>, leave: &Leave) -> Left {
        if leave.members.len() > step.config.call_items_max {
            return Left { error: ErrorCode::InvalidRequest, members: Vec::new() };
        }
        match self.groups.get_mut(&leave.group) {
            Some(AnyGroup::Classic(group)) => group.leave(step, leave),
            Some(AnyGroup::Consumer(group)) => {
                let left = group.leave_classic(leave, step);
                self.downgrade_if_classic(&leave.group, step);
                left
            }
            None => {
                let unknown = leave.members.iter().map(|leaving| LeftMember {
                    member: leaving.member.clone(),
                    instance: leaving.instance.clone(),
                    error: ErrorCode::UnknownMemberId,
                });
                Left { error: ErrorCode::None, members: unknown.collect() }
            }
        }
    }

    // ---- Offsets ----

    pub(super) fn commit(
        &mut self,
        step: &mut Step<'_>,
        commit: &CommitOffsets,
    ) -> Vec<TopicErrors> {
        match self.check_commit(step, commit) {
            Ok(()) => self.offsets.commit(step, commit),
            Err(error) => commit.refused(error),
        }
    }

    fn check_commit(&mut self, step: &Step<'_>, commit: &CommitOffsets) -> Result<(), ErrorCode> {
        if commit.group.as_str().len() > ID_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        let partitions: usize = commit.topics.iter().map(|topic| topic.partitions.len()).sum();
        if partitions > step.config.call_partitions_max {
            return Err(ErrorCode::InvalidCommitOffsetSize);
        }
        match self.groups.get_mut(&commit.group) {
            Some(group) => group.check_commit(step, commit),
            // Who does not claim to be a member of anything needs no group.
            None if commit.generation_or_epoch < 0 => Ok(()),
            None if commit.knows_consumer_protocol => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    pub(super) fn fetch(&self, step: &Step<'_>, fetch: &FetchOffsets) -> FetchedOffsets {
        let asked = fetch.topics.iter().flatten();
        let partitions: usize = asked.map(|topic| topic.partitions.len()).sum();
        if partitions > step.config.call_partitions_max {
            return FetchedOffsets { error: ErrorCode::InvalidRequest, topics: Vec::new() };
        }
        // Who asks for a group that is not there gets what it has committed: nothing, or the offsets of a simple group.
        if let Some(Err(error)) =
            self.groups.get(&fetch.group).map(|group| group.check_fetch(fetch))
        {
            return FetchedOffsets { error, topics: Vec::new() };
        }
        FetchedOffsets { error: ErrorCode::None, topics: self.offsets.fetch(step, fetch) }
    }

    pub(super) fn delete_offsets(
        &mut self,
        step: &mut Step<'_>,
        delete: &DeleteOffsets,
    ) -> DeletedOffsets {
        let partitions: usize = delete.topics.iter().map(|topic| topic.partitions.len()).sum();
        let group = self.groups.get(&delete.group);
        let check = match group {
            _ if partitions > step.config.call_partitions_max => Err(ErrorCode::InvalidRequest),
            Some(group) => group.check_offset_delete(),
            None if self.offsets.has(&delete.group) => Ok(()),
            None => Err(ErrorCode::GroupIdNotFound),
        };
        if let Err(error) = check {
            return DeletedOffsets { error, topics: Vec::new() };
        }
        let topics = self
            .offsets
            .delete(step, delete, |topic| group.is_some_and(|group| group.is_subscribed(topic)));
        DeletedOffsets { error: ErrorCode::None, topics }
    }

    // ---- Groups ----

    pub(super) fn list(&self, list: &ListGroups) -> ListedGroups {
        let passes = |filter: &[std::sync::Arc<str>], word: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
        };
        let with_entry = self.groups.iter().map(|(id, group)| group.list(id));
        let simple = self.offsets.group_ids().filter(|id| !self.groups.contains_key(*id));
        let simple = simple.map(|id| ListedGroup {
            group: id.clone(),
            protocol_type: std::sync::Arc::default(),
            state: SIMPLE_GROUP_STATE,
            group_type: classic::GROUP_TYPE,
        });
        let groups = with_entry
            .chain(simple)
            .filter(|group| {
                passes(&list.states, group.state) && passes(&list.types, group.group_type)
            })
            .collect();
        ListedGroups { error: ErrorCode::None, groups }
    }

    pub(super) fn describe(&self, ids: &[GroupId]) -> Vec<DescribedGroup> {
        ids.iter().map(|id| self.describe_one(id)).collect()
    }

    fn describe_one(&self, id: &GroupId) -> DescribedGroup {
        match self.groups.get(id) {
            Some(AnyGroup::Classic(group)) => group.describe(),
            None if self.offsets.has(id) => DescribedGroup {
                error: ErrorCode::None,
                state: SIMPLE_GROUP_STATE,
                ..DescribedGroup::refused(id, ErrorCode::None)
            },
            Some(AnyGroup::Consumer(_)) => DescribedGroup {
                error_message: Some(format!("Group {id} is not a classic group.")),
                ..DescribedGroup::refused(id, ErrorCode::GroupIdNotFound)
            },
            None => DescribedGroup {
                error_message: Some(format!("Group {id} not found.")),
                ..DescribedGroup::refused(id, ErrorCode::GroupIdNotFound)
            },
        }
    }

    /// Each group once, however often it is named.
    pub(super) fn delete(
        &mut self,
        step: &mut Step<'_>,
        ids: Vec<GroupId>,
    ) -> Vec<(GroupId, ErrorCode)> {
        if ids.len() > step.config.call_items_max {
            return ids.into_iter().map(|id| (id, ErrorCode::InvalidRequest)).collect();
        }
        let ids: BTreeSet<GroupId> = ids.into_iter().collect();
        ids.into_iter()
            .map(|id| {
                let error = self.delete_one(step, &id).err().unwrap_or(ErrorCode::None);
                (id, error)
            })
            .collect()
    }

    fn delete_one(&mut self, step: &mut Step<'_>, id: &GroupId) -> Result<(), ErrorCode> {
        match self.groups.get_mut(id) {
            Some(group) => group.delete()?,
            None if self.offsets.has(id) => {}
            None => return Err(ErrorCode::GroupIdNotFound),
        }
        self.offsets.delete_group(step, id);
        self.bury(step, id);
        Ok(())
    }
}
