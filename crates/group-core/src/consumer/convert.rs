//! Groups that change their protocol while they run.
//!
//! A group of the classic protocol becomes one of the consumer protocol when the first member speaks that, and goes back when the last one
//! that does has gone: so clients are upgraded one after the other, and back if need be, while the rest reads on. Members keep their ids, what
//! they own, and their generation as member epoch; classic ones are told to join anew, as in any rebalance. A group without members simply
//! becomes what the next member speaks.

use bytes::Bytes;

use thalweg_types::{
    AssignmentEpoch, ErrorCode, GenerationId, GroupEpoch, GroupId, MemberEpoch, MemberId, Uuid,
};

use super::calls::not_found;
use super::classic_members::{by_id, by_name};
use super::group::Group;
use super::member::Member;
use super::partitions::PartitionSet;
use super::reconcile::{Current, MemberState};
use super::refusal::Refusal;
use crate::classic::{self, Migrant};
use crate::config::GroupConfig;
use crate::groups::{AnyGroup, Groups};
use crate::record::embedded::{self, Subscription};
use crate::record::{
    ClassicMemberMetadata, ConsumerGroupMetadata, DecodeError, MemberMetadata, Record,
};
use crate::request::{Client, ConsumerHeartbeat, Protocol};
use crate::response::ConsumerHeartbeatAnswer;
use crate::step::Step;
use crate::topics::Topics;

impl Groups {
    // ---- To the consumer protocol ----

    /// The first member of the consumer protocol joins a group of the classic one. If it is not let in, nothing has changed.
    pub(super) fn upgrade(
        &mut self,
        request: &ConsumerHeartbeat,
        client: &Client,
        fresh: Uuid,
        step: &mut Step<'_>,
    ) -> Result<ConsumerHeartbeatAnswer, Refusal> {
        let id = &request.group;
        let Some(AnyGroup::Classic(classic)) = self.groups.get_mut(id) else {
            return Err(not_found(id));
        };
        let migrants = classic.migrants();
        check_upgrade(classic, &migrants, step.config)?;
        let mut tried = Step::new(step.config, step.topics, step.now);
        let mut group = Group::of_migrants(id.clone(), classic.generation(), migrants, &mut tried)
            .map_err(|error| {
                let message = format!("a member's metadata cannot be read: {error}");
                Refusal::new(ErrorCode::GroupIdNotFound, message)
            })?;
        let answer = group.heartbeat(request, client, fresh, &mut tried)?;

        classic.dismiss(step);
        if classic.is_stored() {
            step.record(Record::Group(id.clone(), None));
        }
        step.effects.records.append(&mut tried.effects.records);
        self.groups.insert(id.clone(), AnyGroup::Consumer(group));
        Ok(answer)
    }

    // ---- To the classic protocol ----

    /// A group in which only the classic protocol is left becomes one of it.
    pub(crate) fn downgrade_if_classic(&mut self, id: &GroupId, step: &mut Step<'_>) {
        let Some(AnyGroup::Consumer(group)) = self.groups.get(id) else { return };
        if !group.may_downgrade(step.config) {
            return;
        }
        for record in group.tombstones() {
            step.record(record);
        }
        let (generation, migrants) = (GenerationId(group.epoch.0), group.migrants(step.topics));
        let classic = classic::Group::of_migrants(id.clone(), generation, migrants, step);
        self.groups.insert(id.clone(), AnyGroup::Classic(classic));
    }

    /// Nobody is in it, and the next member speaks the classic protocol.
    pub(crate) fn empty_becomes_classic(&mut self, id: &GroupId, step: &mut Step<'_>) {
        let Some(AnyGroup::Consumer(group)) = self.groups.get(id) else { return };
        if group.is_empty() {
            for record in group.tombstones() {
                step.record(record);
            }
            let group = classic::Group::new(id.clone(), step.now.wall);
            self.groups.insert(id.clone(), AnyGroup::Classic(group));
        }
    }
}

fn check_upgrade(
    classic: &classic::Group,
    migrants: &[Migrant],
    config: &GroupConfig,
) -> Result<(), Refusal> {
    let refused = |message: &str| Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
    if classic.is_empty() {
        Ok(())
    } else if !config.consumer_migration.may_upgrade() {
        refused(
            "the group speaks the classic protocol, and may not change that while it has members",
        )
    } else if !classic.may_migrate() {
        refused("the group speaks the classic protocol, and not to consume topics")
    } else if migrants.len() > config.consumer_members_max {
        refused("the group speaks the classic protocol, and has too many members for the other one")
    } else {
        Ok(())
    }
}

impl Group {
    /// The group that members of the classic protocol make. Their generation becomes everybody's epoch, and what they own their target.
    fn of_migrants(
        id: GroupId,
        generation: GenerationId,
        migrants: Vec<Migrant>,
        step: &mut Step<'_>,
    ) -> Result<Self, DecodeError> {
        let mut group = Self::new(id.clone());
        if migrants.is_empty() {
            return Ok(group);
        }
        let value = ConsumerGroupMetadata { epoch: GroupEpoch(generation.0), metadata_hash: 0 };
        group.emit(step, Record::ConsumerGroup(id.clone(), Some(value)));
        for migrant in migrants {
            group.settle_down(migrant, generation, step)?;
        }
        let epoch = AssignmentEpoch(generation.0);
        group.emit(step, Record::TargetEpoch(id, Some(epoch)));
        let members: Vec<MemberId> = group.members.keys().cloned().collect();
        members.iter().for_each(|id| group.heard_of(id, step));
        Ok(group)
    }

    fn settle_down(
        &mut self,
        migrant: Migrant,
        generation: GenerationId,
        step: &mut Step<'_>,
    ) -> Result<(), DecodeError> {
        let subscription = Subscription::decode(&migrant.subscription)?;
        let owned = match embedded::decode_assignment(&migrant.assignment)? {
            // In the middle of a rebalance nothing is assigned, but it may still read what it said when it joined.
            assigned if assigned.is_empty() => by_id(&subscription.owned, step.topics),
            assigned => by_id(&assigned, step.topics),
        };
        let id = migrant.id.clone();
        // Clients assign as they like; here a partition has one owner.
        let owned = owned.filtered(|topic, partition| !self.is_taken(&id, topic, partition));
        let epoch = MemberEpoch(generation.0);
        let current = Current {
            state: MemberState::Stable,
            epoch,
            previous_epoch: epoch,
            assigned: owned.clone(),
            revoking: PartitionSet::EMPTY,
        };
        let metadata = metadata_of(migrant, subscription);
        self.emit(step, Record::ConsumerMember(self.key(&id), Some(metadata)));
        self.emit(step, Record::Target(self.key(&id), Some(owned.to_lists())));
        let record = self.current_record(&id, &current);
        self.emit(step, record);
        Ok(())
    }

    /// Whether only members of the classic protocol are left, and may be a group of it.
    fn may_downgrade(&self, config: &GroupConfig) -> bool {
        config.consumer_migration.may_downgrade()
            && !self.is_empty()
            && self.members.len() <= config.group_members_max
            && self.members.values().all(|member| member.classic().is_some())
    }

    fn migrants(&self, topics: &dyn Topics) -> Vec<Migrant> {
        let migrant = |(id, member): (&MemberId, &Member)| {
            let classic = member.classic()?;
            let first = classic.protocols.first().map(|(_, metadata)| metadata.clone());
            let subscription = first.unwrap_or_default();
            let version = Subscription::decode(&subscription).map_or(0, |own| own.version);
            let assigned = by_name(&member.current.assigned, topics);
            let protocols = classic.protocols.iter();
            Some(Migrant {
                id: id.clone(),
                instance: member.metadata.instance.clone(),
                client: Client {
                    id: member.metadata.client_id.clone(),
                    host: member.metadata.client_host.clone(),
                },
                protocols: protocols
                    .map(|(name, metadata)| Protocol {
                        name: name.clone(),
                        metadata: metadata.clone(),
                    })
                    .collect(),
                subscription,
                assignment: embedded::encode_assignment(version, &assigned),
                session_timeout_ms: u64::try_from(classic.session_timeout_ms).unwrap_or(0),
                rebalance_timeout_ms: member.rebalance_timeout_ms(),
            })
        };
        self.members.iter().filter_map(migrant).collect()
    }
}

fn metadata_of(migrant: Migrant, subscription: Subscription) -> MemberMetadata {
    let clamp = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
    let mut subscribed_names = subscription.topics;
    subscribed_names.sort_unstable();
    subscribed_names.dedup();
    let protocols = migrant.protocols.into_iter();
    MemberMetadata {
        instance: migrant.instance,
        rack: subscription.rack,
        client_id: migrant.client.id,
        client_host: migrant.client.host,
        subscribed_names,
        subscribed_regex: None,
        rebalance_timeout_ms: clamp(migrant.rebalance_timeout_ms),
        server_assignor: None,
        classic: Some(ClassicMemberMetadata {
            session_timeout_ms: clamp(migrant.session_timeout_ms),
            protocols: protocols
                .map(|offered| (offered.name, Bytes::copy_from_slice(&offered.metadata)))
                .collect(),
        }),
    }
}
