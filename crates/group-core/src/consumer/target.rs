//! The target assignment: computed when the group epoch was raised, by the assignor that most members ask for.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use thalweg_types::{AssignmentEpoch, MemberId, TopicId, TopicName};

use super::assignor::{Assignor, Subscriber};
use super::group::Group;
use super::member::Member;
use super::partitions::PartitionSet;
use crate::record::Record;
use crate::step::Step;
use crate::topics::Topics;

/// A subscription as members state it; many have the same.
type Stated<'a> = (&'a [TopicName], Option<&'a Arc<str>>);

impl Group {
    /// Computes targets for the group's epoch, if those that are there are older. Only those that change are stored.
    pub(super) fn assign_if_outdated(&mut self, step: &mut Step<'_>) {
        if self.epoch.0 <= self.assignment_epoch.0 {
            return;
        }
        for (member, target) in self.new_targets(step.topics, step.config.consumer_assignor) {
            let record = Record::Target(self.key(&member), Some(target.to_lists()));
            self.emit(step, record);
        }
        let epoch = AssignmentEpoch(self.epoch.0);
        self.emit(step, Record::TargetEpoch(self.id.clone(), Some(epoch)));
    }

    /// The targets that are other ones than now.
    fn new_targets(&self, topics: &dyn Topics, default: Assignor) -> Vec<(MemberId, PartitionSet)> {
        let mut resolver = Resolver {
            group: self,
            topics,
            known: BTreeMap::new(),
            partition_counts: BTreeMap::new(),
        };
        let subscribers: Vec<Subscriber<'_>> = self
            .members
            .iter()
            .map(|(id, member)| Subscriber {
                member_id: id.as_str(),
                instance_id: member.instance().map(|instance| instance.as_str()),
                topics: resolver.resolve(member),
                target: self.target(id),
            })
            .collect();
        let assignor = self.assignor(default);
        let targets = assignor.assign(&subscribers, &resolver.partition_counts);
        let changed = self
            .members
            .keys()
            .zip(targets)
            .filter(|(id, target)| self.targets.get(*id) != Some(target));
        changed.map(|(id, target)| (id.clone(), target)).collect()
    }

    pub(super) fn target(&self, member: &MemberId) -> &PartitionSet {
        const NOTHING: &PartitionSet = &PartitionSet::EMPTY;
        self.targets.get(member).unwrap_or(NOTHING)
    }

    /// The assignor that most members ask for; members that ask for none do not vote. At a tie, the first of [`Assignor::ALL`].
    pub(super) fn assignor(&self, default: Assignor) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for member in self.members.values() {
            let wish = member.metadata.server_assignor.as_deref();
            if let Some(assignor) = wish.and_then(|name| name.parse::<Assignor>().ok()) {
                *votes.entry(assignor).or_default() += 1;
            }
        }
        // The last of equals wins in `max_by_key`.
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map_or(default, |(assignor, _)| assignor)
    }
}

/// Turns names and expressions into topics, every different subscription once.
struct Resolver<'a> {
    group: &'a Group,
    topics: &'a dyn Topics,
    known: BTreeMap<Stated<'a>, Rc<[TopicId]>>,
    /// Of every topic that was met.
    partition_counts: BTreeMap<TopicId, i32>,
}

impl<'a> Resolver<'a> {
    /// The topics that a member subscribes to and that exist, ascending.
    fn resolve(&mut self, member: &'a Member) -> Rc<[TopicId]> {
        let metadata = &member.metadata;
        let stated: Stated<'_> = (&metadata.subscribed_names, metadata.subscribed_regex.as_ref());
        if let Some(known) = self.known.get(&stated) {
            return Rc::clone(known);
        }
        let matched = stated.1.and_then(|expression| self.group.expressions.get(expression));
        let mut ids = Vec::new();
        for name in metadata.subscribed_names.iter().chain(matched.into_iter().flatten()) {
            if let Some(facts) = self.topics.topic(name.as_str()) {
                self.partition_counts.insert(facts.id, facts.partitions);
                ids.push(facts.id);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let ids: Rc<[TopicId]> = ids.into();
        self.known.insert(stated, Rc::clone(&ids));
        ids
    }
}
