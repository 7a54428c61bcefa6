//! JoinGroup: who may come in, and what coming in does.

use thalweg_types::{ErrorCode, InstanceId, MemberId, Uuid};

use super::Group;
use super::member::{self, Member};
use super::state::State;
use crate::config::{GroupConfig, ID_BYTES_MAX};
use crate::effects::Token;
use crate::request::{Client, Join};
use crate::response::{Joined, JoinedMember, Response, Synced};
use crate::step::Step;

/// What a join may ask for, whoever asks.
pub(crate) fn check(join: &Join, config: &GroupConfig) -> Result<(), ErrorCode> {
    if join.group.is_empty() || join.group.as_str().len() > ID_BYTES_MAX {
        return Err(ErrorCode::InvalidGroupId);
    }
    let range = config.session_timeout_min_ms..=config.session_timeout_max_ms;
    if !range.contains(&join.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let instance = join.instance.as_ref().map_or("", InstanceId::as_str);
    let names = join.protocols.iter().map(|protocol| &*protocol.name);
    let is_long = |text: &str| text.len() > ID_BYTES_MAX;
    if join.protocols.len() > config.member_protocols_max
        || names.chain([instance, &*join.protocol_type]).any(is_long)
    {
        return Err(ErrorCode::InvalidRequest);
    }
    if member::metadata_bytes(&join.protocols) > config.member_metadata_bytes_max {
        return Err(ErrorCode::MessageTooLarge);
    }
    Ok(())
}

/// One call of JoinGroup on its way through the rules.
pub(crate) struct Joining {
    pub(crate) token: Token,
    pub(crate) client: Client,
    pub(crate) fresh: Uuid,
    pub(crate) join: Join,
}

impl Group {
    /// `joining` has passed [`check`].
    pub(crate) fn join(&mut self, step: &mut Step<'_>, mut joining: Joining) {
        joining.join.protocols = member::unique(&joining.join.protocols);
        let is_unknown = joining.join.member.is_empty();
        if !self.has_room(step.config, &joining.join) {
            self.turn_away(step, &joining);
        } else if !self.fits(&joining.join) {
            let member = joining.join.member.clone();
            self.refuse(step, joining.token, member, ErrorCode::InconsistentGroupProtocol);
        } else if is_unknown {
            self.join_new(step, joining);
        } else if self.promised.contains_key(&joining.join.member) {
            self.join_promised(step, joining);
        } else {
            self.join_again(step, joining);
        }
    }

    /// Kafka's rule: while members are called back those count that are back, so that a group above a lowered limit loses who is
    /// last. Ours besides: ids that were only promised, and all metadata together, are limited too.
    fn has_room(&self, config: &GroupConfig, join: &Join) -> bool {
        let members_max = config.group_members_max;
        // A static member that returns is known by its name, and has its place.
        let named = join.instance.as_ref().and_then(|name| self.static_members.get(name));
        let known = self.members.get(named.unwrap_or(&join.member));
        if join.member.is_empty() && self.promised.len() >= members_max {
            return false;
        }
        let before = known.map_or(0, Member::metadata_bytes);
        let after = self.metadata_bytes - before + member::metadata_bytes(&join.protocols);
        if after > config.group_metadata_bytes_max {
            return false;
        }
        match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance(_) => {
                known.is_some_and(|member| member.joining.is_some())
                    || self.members.values().filter(|member| member.joining.is_some()).count()
                        < members_max
            }
            State::CompletingRebalance(_) | State::Stable(_) => {
                known.is_some() || self.members.len() < members_max
            }
        }
    }

    /// A full group. While members are called back, a member without a place loses its membership as well.
    fn turn_away(&mut self, step: &mut Step<'_>, joining: &Joining) {
        let id = &joining.join.member;
        self.refuse(step, joining.token, MemberId::default(), ErrorCode::GroupMaxSizeReached);
        if matches!(self.state, State::PreparingRebalance(_)) {
            self.remove(step, id);
            self.complete_if_all_joined(step);
        }
    }

    fn refuse(&self, step: &mut Step<'_>, token: Token, member: MemberId, error: ErrorCode) {
        step.answer(token, Response::Join(Joined::refused(member, error)));
    }

    /// Somebody without an id.
    fn join_new(&mut self, step: &mut Step<'_>, joining: Joining) {
        let Joining { token, client, fresh, join } = &joining;
        let id = member::make_id(client, join.instance.as_ref(), *fresh);
        if let Some(instance) = &join.instance {
            match self.static_members.get(instance).cloned() {
                Some(old) => self.replace_static(step, joining, &old, id),
                None => self.add(step, joining, id),
            }
        } else if join.requires_known_member {
            let deadline = step.now.moment.saturating_add_ms(join.session_timeout_ms as u64);
            self.promised.insert(id.clone(), deadline);
            self.alarm.no_later_than(deadline);
            self.refuse(step, *token, id, ErrorCode::MemberIdRequired);
        } else {
            self.add(step, joining, id);
        }
    }

    /// Somebody with an id that was made for it a moment ago.
    fn join_promised(&mut self, step: &mut Step<'_>, joining: Joining) {
        let id = joining.join.member.clone();
        if joining.join.instance.is_some() {
            // Ids are promised to dynamic members only.
            return self.refuse(step, joining.token, id, ErrorCode::InvalidRequest);
        }
        self.promised.remove(&id);
        self.add(step, joining, id);
    }

    fn add(&mut self, step: &mut Step<'_>, joining: Joining, id: MemberId) {
        let Joining { token, client, join, .. } = joining;
        let mut member = Member::new(client, &join);
        member.joining = Some(token);
        member.expires_at = step.now.moment.saturating_add_ms(step.config.new_member_timeout_ms);
        self.alarm.no_later_than(member.expires_at);
        if let State::PreparingRebalance(joins) = &mut self.state
            && let Some(initial) = &mut joins.initial
        {
            initial.newcomers = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        if let Some(instance) = &member.instance {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.insert(id, member);
        self.rebalance_or_complete(step);
    }

    /// A member, in whatever state the group is.
    fn join_again(&mut self, step: &mut Step<'_>, joining: Joining) {
        let Joining { token, join, .. } = &joining;
        let id = join.member.clone();
        if let Err(error) = self.check_member(&id, join.instance.as_ref()) {
            return self.refuse(step, *token, id, error);
        }
        let same = self.members.get(&id).is_some_and(|member| member.offers(&join.protocols));
        let must_rebalance = match self.state {
            State::PreparingRebalance(_) => true,
            // Its answer may have been lost; with the same metadata it is told again.
            State::CompletingRebalance(_) => !same,
            // A leader that joins wants to assign anew, for reasons its metadata need not show.
            State::Stable(_) => !same || self.is_leader(&id),
            State::Empty | State::Dead => {
                return self.refuse(step, *token, id, ErrorCode::UnknownMemberId);
            }
        };
        if must_rebalance {
            self.update(step, &id, join, *token);
            self.rebalance_or_complete(step);
        } else {
            let completing = matches!(self.state, State::CompletingRebalance(_));
            self.expire_later(step, &id);
            let members = completing && self.is_leader(&id);
            step.answer(*token, Response::Join(self.joined(&id, members)));
        }
    }

    /// What the member says now, and whom it waits with.
    fn update(&mut self, step: &mut Step<'_>, id: &MemberId, join: &Join, token: Token) {
        let Some(mut member) = self.take(id) else { return };
        member.update(join);
        let before = member.joining.replace(token);
        self.insert(id.clone(), member);
        if let Some(before) = before {
            // Asked twice: the one that waits now is the later one.
            let error = ErrorCode::RebalanceInProgress;
            self.refuse(step, before, id.clone(), error);
        }
    }

    /// A static member is back from a restart: it takes its own place, and whoever still speaks for its former life is fenced.
    fn replace_static(
        &mut self,
        step: &mut Step<'_>,
        joining: Joining,
        old: &MemberId,
        id: MemberId,
    ) {
        let Joining { token, client, join, .. } = joining;
        let leader_before = self.leader.clone();
        self.rename_static(step, old, &id, client);
        self.update(step, &id, &join, token);
        self.expire_later(step, &id);
        match self.state {
            State::Stable(_) if self.protocol == self.select_protocol() => {
                let told = self.rejoined(&id, &join, leader_before);
                if let Some(member) = self.members.get_mut(&id) {
                    member.joining = None;
                }
                self.store(step);
                step.answer(token, Response::Join(told));
            }
            // The leader may have been told the former id, and would assign nothing to the new one.
            State::Stable(_) | State::CompletingRebalance(_) => self.prepare(step),
            State::PreparingRebalance(_) => self.complete_if_all_joined(step),
            State::Empty | State::Dead => {}
        }
    }

    /// The same member under another id.
    fn rename_static(
        &mut self,
        step: &mut Step<'_>,
        old: &MemberId,
        id: &MemberId,
        client: Client,
    ) {
        let Some(mut member) = self.take(old) else { return };
        let error = ErrorCode::FencedInstanceId;
        if let Some(token) = member.joining.take() {
            self.refuse(step, token, old.clone(), error);
        }
        if let Some(token) = member.syncing.take() {
            step.answer(token, Response::Sync(Synced::refused(error)));
        }
        member.client = client;
        if let Some(instance) = &member.instance {
            self.static_members.insert(instance.clone(), id.clone());
        }
        if self.is_leader(old) {
            self.leader = Some(id.clone());
        }
        if let State::CompletingRebalance(syncs) | State::Stable(syncs) = &mut self.state
            && syncs.missing.remove(old)
        {
            syncs.missing.insert(id.clone());
        }
        self.insert(id.clone(), member);
    }

    /// What a static member is told that returns without a rebalance. One that leads would assign unless it can be told not to (KIP-814);
    /// if it cannot, it is told that its former self leads.
    fn rejoined(&self, id: &MemberId, join: &Join, leader_before: Option<MemberId>) -> Joined {
        let leads = self.is_leader(id);
        if join.supports_skipping_assignment {
            return Joined { skips_assignment: leads, ..self.joined(id, leads) };
        }
        Joined { leader: leader_before.unwrap_or_default(), ..self.joined(id, false) }
    }

    /// This generation, as the member is told; the leader with everybody in it.
    pub(super) fn joined(&self, id: &MemberId, with_members: bool) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let describe = |(id, member): (&MemberId, &Member)| JoinedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(&protocol),
        };
        Joined {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skips_assignment: false,
            member: id.clone(),
            members: if with_members {
                self.members.iter().map(describe).collect()
            } else {
                Vec::new()
            },
        }
    }

    // ---- The set of members ----

    pub(super) fn insert(&mut self, id: MemberId, member: Member) {
        self.support.add(&member);
        self.metadata_bytes += member.metadata_bytes();
        self.members.insert(id, member);
    }

    /// Takes a member out to put it back changed. Instance, leader and state still name it.
    fn take(&mut self, id: &MemberId) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.support.remove(&member);
        self.metadata_bytes -= member.metadata_bytes();
        Some(member)
    }

    /// Removes a member, or an id that was promised, with all that names it; somebody else leads then. What it waits for is answered.
    pub(super) fn remove(&mut self, step: &mut Step<'_>, id: &MemberId) {
        self.promised.remove(id);
        let Some(member) = self.take(id) else { return };
        if let Some(instance) = &member.instance
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
        if let State::CompletingRebalance(syncs) | State::Stable(syncs) = &mut self.state {
            syncs.missing.remove(id);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        let error = ErrorCode::UnknownMemberId;
        if let Some(token) = member.joining {
            self.refuse(step, token, MemberId::default(), error);
        }
        if let Some(token) = member.syncing {
            step.answer(token, Response::Sync(Synced::refused(error)));
        }
    }
}
