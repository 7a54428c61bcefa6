//! Members of a group of the consumer protocol that still speak the classic one: what JoinGroup, SyncGroup, Heartbeat and LeaveGroup mean for them.
//!
//! To such a client, its member epoch is the generation. It never leads: the coordinator assigns, and SyncGroup only fetches. Joining is its
//! heartbeat with subscription and owned partitions; the error REBALANCE_IN_PROGRESS is how it is told to do so. Whoever does not in time is removed.

use std::collections::BTreeSet;

use bytes::Bytes;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{ErrorCode, GenerationId, InstanceId, MemberId, Uuid};

use super::group::Group;
use super::member::Member;
use super::partitions::PartitionSet;
use super::reconcile::{MemberState, Report};
use crate::classic::CONSUMER_PROTOCOL_TYPE;
use crate::record::embedded::{self, NamedPartitions, Subscription};
use crate::record::{ClassicMemberMetadata, MemberMetadata};
use crate::request::{Client, Heartbeat, Join, Leave, LeavingMember, Sync};
use crate::response::{Joined, Left, LeftMember, Synced};
use crate::step::Step;
use crate::topics::Topics;

impl Group {
    // ---- JoinGroup ----

    pub(crate) fn join_classic(
        &mut self,
        join: &Join,
        client: &Client,
        fresh: Uuid,
        step: &mut Step<'_>,
    ) -> Joined {
        let joined = self.decide_join(join, client, fresh, step);
        joined.unwrap_or_else(|error| Joined::refused(join.member.clone(), error))
    }

    fn decide_join(
        &mut self,
        join: &Join,
        client: &Client,
        fresh: Uuid,
        step: &mut Step<'_>,
    ) -> Result<Joined, ErrorCode> {
        let given = &join.member;
        let before = join.instance.as_ref().and_then(|instance| self.static_member(instance));
        let before = before.map(|(id, _)| id.clone());
        if self.members.len() >= step.config.consumer_members_max
            && before.is_none()
            && !self.members.contains_key(given)
        {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let favourite = join.protocols.first().filter(|_| self.shares_protocol(join));
        let favourite = favourite.ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let subscription = Subscription::decode(&favourite.metadata)
            .map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        let id = if given.is_empty() { MemberId::from(fresh.to_string()) } else { given.clone() };
        if given.is_empty() && join.instance.is_none() && join.requires_known_member {
            return Ok(Joined::refused(id, ErrorCode::MemberIdRequired));
        }
        let is_known = before.is_some() || self.members.contains_key(given);
        if !is_known && !given.is_empty() && !subscription.owned.is_empty() {
            // It was removed and has not noticed: others may own by now what it thinks it does. This error makes it give that up.
            return Err(ErrorCode::UnknownMemberId);
        }
        match before {
            Some(before) if given.is_empty() => self.replace_member(&before, &id, step),
            Some(before) if before != id => return Err(ErrorCode::FencedInstanceId),
            None if join.instance.is_some() && !given.is_empty() => {
                return Err(ErrorCode::UnknownMemberId);
            }
            _ => {}
        }
        self.join_as(&id, join, &subscription, client, step);
        Ok(self.joined(&id, favourite.name.clone()))
    }

    fn join_as(
        &mut self,
        id: &MemberId,
        join: &Join,
        subscription: &Subscription,
        client: &Client,
        step: &mut Step<'_>,
    ) {
        let before = self.members.get(id).map(|member| member.metadata.clone());
        let mut wish = before.clone().unwrap_or_else(|| Member::new().metadata);
        say(&mut wish, join, subscription, client);
        let wish = (before.as_ref() != Some(&wish)).then_some(wish);
        let is_changed = self.take_wish(id, wish, step);
        self.raise_epoch_if_changed(is_changed, step);
        self.assign_if_outdated(step);
        // While it joins, it takes up nothing: it owns what it says.
        let owned = by_id(&subscription.owned, step.topics);
        self.reconcile(id, Report { owned: Some(&owned), may_take_up: false }, step);
        self.heard_of(id, step);
        let Some(member) = self.members.get_mut(id) else { return };
        let deadline = step.now.moment.saturating_add_ms(member.rebalance_timeout_ms());
        (member.deadlines.join, member.deadlines.sync) = (None, Some(deadline));
        self.alarm.no_later_than(deadline);
    }

    /// Whether the caller has a protocol in common with all other members that have one.
    fn shares_protocol(&self, join: &Join) -> bool {
        let others = self.members.iter().filter(|(id, _)| **id != join.member);
        let others: Vec<_> = others.filter_map(|(_, member)| member.classic()).collect();
        let all_know = |name: &str| {
            others.iter().all(|other| other.protocols.iter().any(|(known, _)| **known == *name))
        };
        *join.protocol_type == *CONSUMER_PROTOCOL_TYPE
            && join.protocols.iter().any(|offered| all_know(&offered.name))
    }

    fn joined(&self, id: &MemberId, protocol: std::sync::Arc<str>) -> Joined {
        let epoch = self.members.get(id).map_or(0, |member| member.current.epoch.0);
        Joined {
            generation: GenerationId(epoch),
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol: Some(protocol),
            ..Joined::refused(id.clone(), ErrorCode::None)
        }
    }

    // ---- SyncGroup ----

    pub(crate) fn sync_classic(&mut self, sync: &Sync, step: &mut Step<'_>) -> Synced {
        match self.check_sync(sync, step) {
            Ok(assignment) => {
                if let Some(member) = self.members.get_mut(&sync.member) {
                    member.deadlines.sync = None;
                }
                self.heard_of(&sync.member, step);
                Synced {
                    error: ErrorCode::None,
                    protocol_type: sync.protocol_type.clone(),
                    protocol: sync.protocol.clone(),
                    assignment,
                }
            }
            Err(error) => Synced::refused(error),
        }
    }

    fn check_sync(&mut self, sync: &Sync, step: &Step<'_>) -> Result<Bytes, ErrorCode> {
        let member = self.check_classic(&sync.member, sync.instance.as_ref(), sync.generation)?;
        let own = member.classic().and_then(|classic| classic.protocols.first());
        let (name, metadata) = own.ok_or(ErrorCode::UnknownMemberId)?;
        let is_other = |given: Option<&str>, own: &str| given.is_some_and(|given| given != own);
        if is_other(sync.protocol_type.as_deref(), CONSUMER_PROTOCOL_TYPE)
            || is_other(sync.protocol.as_deref(), name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_behind = self.epoch.0 > member.current.epoch.0
            && member.current.state != MemberState::UnrevokedPartitions;
        // Its version was readable when the member joined.
        let version = Subscription::decode(metadata).map_or(0, |own| own.version);
        let assigned = by_name(&member.current.assigned, step.topics);
        if is_behind {
            self.call_back(&sync.member, step);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(embedded::encode_assignment(version, &assigned))
    }

    // ---- Heartbeat ----

    pub(crate) fn heartbeat_classic(
        &mut self,
        heartbeat: &Heartbeat,
        step: &mut Step<'_>,
    ) -> ErrorCode {
        let id = &heartbeat.member;
        let check = self.check_classic(id, heartbeat.instance.as_ref(), heartbeat.generation);
        if let Err(error) = check {
            return error;
        }
        self.raise_epoch_if_changed(false, step);
        self.heard_of(id, step);
        if self.members.get(id).is_some_and(|member| self.must_join_again(id, member)) {
            self.call_back(id, step);
            return ErrorCode::RebalanceInProgress;
        }
        ErrorCode::None
    }

    /// There is something for it to give up or to get.
    fn must_join_again(&self, id: &MemberId, member: &Member) -> bool {
        let is_waiting = || {
            let missing = self.target(id).difference(&member.current.assigned);
            missing.iter().any(|(topic, partition)| self.is_taken(id, topic, partition))
        };
        member.current.epoch.0 < self.epoch.0
            || match member.current.state {
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !is_waiting(),
                MemberState::Stable | MemberState::Unknown => false,
            }
    }

    /// From now on it has its rebalance timeout to join again, if it has not been called already.
    fn call_back(&mut self, id: &MemberId, step: &Step<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let deadline = step.now.moment.saturating_add_ms(member.rebalance_timeout_ms());
        let deadline = *member.deadlines.join.get_or_insert(deadline);
        self.alarm.no_later_than(deadline);
    }

    // ---- LeaveGroup ----

    pub(crate) fn leave_classic(&mut self, leave: &Leave, step: &mut Step<'_>) -> Left {
        let mut leaving_ids = BTreeSet::new();
        let mut members = Vec::with_capacity(leave.members.len());
        for leaving in &leave.members {
            let found = self.find_leaving(leaving).and_then(|id| {
                // Who is named twice is gone the second time.
                if leaving_ids.contains(&id) { Err(ErrorCode::UnknownMemberId) } else { Ok(id) }
            });
            let error = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
            let member = leaving.member.clone();
            members.push(LeftMember { member, instance: leaving.instance.clone(), error });
            leaving_ids.extend(found);
        }
        self.remove_members(&leaving_ids, step);
        Left { error: ErrorCode::None, members }
    }

    fn find_leaving(&self, leaving: &LeavingMember) -> Result<MemberId, ErrorCode> {
        let id = match &leaving.instance {
            None => leaving.member.clone(),
            Some(instance) => {
                let found = self.static_member(instance);
                let (id, _) = found.ok_or(ErrorCode::UnknownMemberId)?;
                // Administrators name the instance alone.
                if !leaving.member.is_empty() && leaving.member != *id {
                    return Err(ErrorCode::FencedInstanceId);
                }
                id.clone()
            }
        };
        let speaks_classic = self.members.get(&id).is_some_and(|member| member.classic().is_some());
        if speaks_classic { Ok(id) } else { Err(ErrorCode::UnknownMemberId) }
    }

    // ---- Checks ----

    /// The caller is a member that speaks the classic protocol, in its present generation.
    fn check_classic(
        &self,
        id: &MemberId,
        instance: Option<&InstanceId>,
        generation: GenerationId,
    ) -> Result<&Member, ErrorCode> {
        if let Some(instance) = instance {
            let (owner, _) = self.static_member(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if owner != id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        let member = self.members.get(id).filter(|member| member.classic().is_some());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch.0 != generation.0 && !mutant!(Mutant::M21) {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(member)
    }
}

/// What joining says about a member takes the place of what was known.
fn say(wish: &mut MemberMetadata, join: &Join, subscription: &Subscription, client: &Client) {
    wish.client_id = client.id.clone();
    wish.client_host = client.host.clone();
    wish.subscribed_names = subscription.topics.clone();
    wish.subscribed_names.sort_unstable();
    wish.subscribed_names.dedup();
    wish.subscribed_regex = None;
    wish.rebalance_timeout_ms = join.rebalance_timeout_ms;
    if join.instance.is_some() {
        wish.instance.clone_from(&join.instance);
    }
    if subscription.rack.is_some() {
        wish.rack.clone_from(&subscription.rack);
    }
    wish.classic = Some(ClassicMemberMetadata {
        session_timeout_ms: join.session_timeout_ms,
        // Copies: metadata must not keep the whole request in memory.
        protocols: join
            .protocols
            .iter()
            .map(|offered| (offered.name.clone(), Bytes::copy_from_slice(&offered.metadata)))
            .collect(),
    });
}

/// Partitions of topics that exist.
pub(super) fn by_id(named: &NamedPartitions, topics: &dyn Topics) -> PartitionSet {
    let mut set = PartitionSet::EMPTY;
    for (name, partitions) in named {
        if let Some(facts) = topics.topic(name.as_str()) {
            set.extend_topic(facts.id, partitions.iter().copied());
        }
    }
    set
}

/// The same the other way.
pub(super) fn by_name(set: &PartitionSet, topics: &dyn Topics) -> NamedPartitions {
    let named = set.topics().filter_map(|(topic, partitions)| {
        topics.name_of(topic).map(|name| (name, partitions.to_vec()))
    });
    named.collect()
}
