//! A group of the consumer protocol (KIP-848): its state, and what stored records mean for it.
//!
//! ```text
//!   a subscription or a topic changes      the assignor has run          every member is there
//!            group epoch        ──────►   assignment epoch   ──────►      member epochs
//!
//!   Empty: no members · Assigning: the assignor has to run · Reconciling: members are on their way · Stable · Dead: gone
//! ```
//!
//! Only [`Group::apply`] changes what is stored, live as in replay, so that both come to the same. What a call decides is put into records one after the
//! other, each applied at once ([`Group::emit`]): the next decision sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thalweg_types::{
    AssignmentEpoch, GroupEpoch, GroupId, InstanceId, MemberId, Moment, PartitionIndex, TopicId,
    TopicName,
};

use super::member::{LEAVING, Member};
use super::partitions::PartitionSet;
use super::reconcile::Current;
use crate::alarm::Alarm;
use crate::record::{CurrentAssignment, MemberKey, Record};
use crate::step::Step;

/// A group, or what is known of it while it is replayed.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(super) id: GroupId,
    pub(super) epoch: GroupEpoch,
    /// Of the topics that the group subscribed to when its epoch was last raised.
    pub(super) metadata_hash: i64,
    pub(super) assignment_epoch: AssignmentEpoch,
    pub(super) members: BTreeMap<MemberId, Member>,
    /// Who has which instance id.
    pub(super) instances: BTreeMap<InstanceId, MemberId>,
    /// What each member is to own.
    pub(super) targets: BTreeMap<MemberId, PartitionSet>,
    /// Who owns a partition or has to give it up; everything else is free.
    pub(super) owners: BTreeMap<(TopicId, PartitionIndex), MemberId>,
    /// Regular expressions of members, with the topics they matched.
    pub(super) expressions: BTreeMap<Arc<str>, BTreeSet<TopicName>>,
    /// A record of Kafka before 4.1 says what the topics were; it is deleted with the next epoch.
    pub(super) has_topics_record: bool,

    /// Topics were made, have grown or are gone since the hash was computed. Not stored.
    pub(super) is_metadata_stale: bool,
    pub(super) alarm: Alarm,
}

/// Where a group is, as tools show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Assigning,
    Reconciling,
    Stable,
}

impl Group {
    pub(crate) fn new(id: GroupId) -> Self {
        Self {
            id,
            epoch: GroupEpoch(0),
            metadata_hash: 0,
            assignment_epoch: AssignmentEpoch(0),
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            targets: BTreeMap::new(),
            owners: BTreeMap::new(),
            expressions: BTreeMap::new(),
            has_topics_record: false,
            is_metadata_stale: true,
            alarm: Alarm::default(),
        }
    }

    // ---- Changing ----

    /// Stores a fact, and takes it in.
    pub(super) fn emit(&mut self, step: &mut Step<'_>, record: Record) {
        self.apply(&record);
        step.record(record);
    }

    /// Takes in a stored fact. Facts come in the order of the log, but a compacted log has lost some: none of them is needed before another.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            // That the group is gone is for those to know who keep it.
            Record::ConsumerGroup(_, None) | Record::Offset(..) | Record::Group(..) => {}
            Record::ConsumerGroup(_, Some(value)) => {
                (self.epoch, self.metadata_hash) = (value.epoch, value.metadata_hash);
            }
            Record::ConsumerTopics(_, value) => self.has_topics_record = value.is_some(),
            Record::TargetEpoch(_, value) => {
                self.assignment_epoch = value.unwrap_or(AssignmentEpoch(0));
            }
            Record::Target(key, Some(value)) => {
                self.targets.insert(key.member.clone(), PartitionSet::from(value.as_slice()));
            }
            Record::Target(key, None) => {
                self.targets.remove(&key.member);
            }
            Record::RegularExpression(key, Some(value)) => {
                let topics = value.topics.iter().cloned().collect();
                self.expressions.insert(Arc::clone(&key.regular_expression), topics);
            }
            Record::RegularExpression(key, None) => {
                self.expressions.remove(&key.regular_expression);
            }
            Record::ConsumerMember(..) | Record::CurrentAssignment(..) => self.apply_member(record),
        }
    }

    fn apply_member(&mut self, record: &Record) {
        match record {
            Record::ConsumerMember(key, Some(metadata)) => {
                let member = self.members.entry(key.member.clone()).or_insert_with(Member::new);
                if let Some(instance) = &metadata.instance {
                    self.instances.insert(instance.clone(), key.member.clone());
                }
                member.metadata = metadata.clone();
                // Looked up by binary search; sorted already unless somebody else wrote it.
                member.metadata.subscribed_names.sort_unstable();
            }
            Record::ConsumerMember(key, None) => {
                let Some(member) = self.members.remove(&key.member) else { return };
                self.release(&key.member, &member.current);
                if let Some(instance) = member.instance()
                    && self.instances.get(instance) == Some(&key.member)
                {
                    self.instances.remove(instance);
                }
            }
            Record::CurrentAssignment(key, Some(stored)) => {
                self.set_current(&key.member, Current::from(stored));
            }
            Record::CurrentAssignment(key, None) if self.members.contains_key(&key.member) => {
                let gone = Current { epoch: LEAVING, previous_epoch: LEAVING, ..Current::NEW };
                self.set_current(&key.member, gone);
            }
            _ => {}
        }
    }

    fn set_current(&mut self, id: &MemberId, current: Current) {
        let member = self.members.entry(id.clone()).or_insert_with(Member::new);
        let old = std::mem::replace(&mut member.current, current.clone());
        self.release(id, &old);
        for (topic, partition) in current.assigned.iter().chain(current.revoking.iter()) {
            self.owners.insert((topic, partition), id.clone());
        }
    }

    fn release(&mut self, id: &MemberId, current: &Current) {
        for place in current.assigned.iter().chain(current.revoking.iter()) {
            if self.owners.get(&place) == Some(id) {
                self.owners.remove(&place);
            }
        }
    }

    /// The group's topics may be others than when it last looked.
    pub(crate) fn metadata_changed(&mut self) {
        self.is_metadata_stale = true;
    }

    // ---- Looking ----

    pub(crate) fn state(&self) -> State {
        if self.members.is_empty() {
            State::Empty
        } else if self.epoch.0 > self.assignment_epoch.0 {
            State::Assigning
        } else if self.members.values().all(|m| m.current.is_reconciled_to(self.assignment_epoch)) {
            State::Stable
        } else {
            State::Reconciling
        }
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// When a deadline of a member may have come.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.alarm.at()
    }

    /// Whether somebody else than `member` owns the partition or has to give it up.
    pub(super) fn is_taken(
        &self,
        member: &MemberId,
        topic: TopicId,
        partition: PartitionIndex,
    ) -> bool {
        self.owners.get(&(topic, partition)).is_some_and(|owner| owner != member)
    }

    /// Every topic that a member subscribes to, by name or by expression. Some may not exist.
    pub(crate) fn subscribed_topics(&self) -> BTreeSet<&TopicName> {
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(&member.metadata.subscribed_names);
        }
        for matched in self.expressions.values() {
            topics.extend(matched);
        }
        topics
    }

    pub(crate) fn is_subscribed_to(&self, topic: &TopicName) -> bool {
        self.expressions.values().any(|matched| matched.contains(topic))
            || self
                .members
                .values()
                .any(|member| member.metadata.subscribed_names.binary_search(topic).is_ok())
    }

    // ---- Records ----

    pub(super) fn key(&self, member: &MemberId) -> MemberKey {
        MemberKey::new(&self.id, member)
    }

    pub(super) fn current_record(&self, member: &MemberId, current: &Current) -> Record {
        Record::CurrentAssignment(self.key(member), Some(CurrentAssignment::from(current)))
    }

    /// What removes a member.
    pub(super) fn member_tombstones(&self, member: &MemberId) -> [Record; 3] {
        [
            Record::CurrentAssignment(self.key(member), None),
            Record::Target(self.key(member), None),
            Record::ConsumerMember(self.key(member), None),
        ]
    }

    /// What removes the group.
    pub(crate) fn tombstones(&self) -> Vec<Record> {
        let id = || self.id.clone();
        let ids: BTreeSet<&MemberId> = self.members.keys().chain(self.targets.keys()).collect();
        let mut records: Vec<Record> =
            ids.into_iter().flat_map(|member| self.member_tombstones(member)).collect();
        let expressions = self.expressions.keys();
        records.extend(expressions.map(|expression| self.expression_record(expression, None)));
        if self.has_topics_record {
            records.push(Record::ConsumerTopics(id(), None));
        }
        records.push(Record::TargetEpoch(id(), None));
        records.push(Record::ConsumerGroup(id(), None));
        records
    }
}

impl State {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// The epoch that follows. A group would have to rebalance every second for decades to use them up; it stays at the last one then, and is
/// not rebalanced any more.
pub(super) fn after(epoch: GroupEpoch) -> GroupEpoch {
    epoch.next().unwrap_or(epoch)
}
