//! ConsumerGroupHeartbeat: the one call of a member's life.
//!
//! In order: is the request sound, is the member who it says it is, does it want something else than before, is there a new target, and what may
//! it be told of it. Everything that can be refused is refused before anything changes.

use std::sync::Arc;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{ErrorCode, InstanceId, MemberEpoch, MemberId, Uuid};

use super::group::Group;
use super::member::{AWAY, LEAVING, Member};
use super::partitions::PartitionSet;
use super::reconcile::{Current, MemberState, Report, Target};
use super::refusal::Refusal;
use super::regex::Pattern;
use crate::record::{MemberMetadata, Record};
use crate::request::{Client, ConsumerHeartbeat};
use crate::response::ConsumerHeartbeatAnswer;
use crate::step::Step;

/// Who sends a heartbeat, as far as the group knows it.
enum Sender {
    Known,
    New,
    /// A static member that comes back, under another member id than it had.
    Returning {
        before: MemberId,
    },
}

/// Whether the member's epoch, and what it says it owns, are those of its last answer or of the one before, which may have been the last to arrive.
fn check_epoch(
    member: &Member,
    received: MemberEpoch,
    owned: Option<&PartitionSet>,
) -> Result<(), Refusal> {
    let Current { epoch, previous_epoch, assigned, .. } = &member.current;
    let is_repeated = received == *previous_epoch
        && received < *epoch
        && owned.is_some_and(|owned| owned.is_subset(assigned));
    if received == *epoch || is_repeated || mutant!(Mutant::M21) {
        return Ok(());
    }
    let message = format!(
        "the member's epoch is {epoch}, not {received}: it must give up its partitions and join again"
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

// ---- Deciding ----

impl Group {
    /// Decides a heartbeat that [`check_request`](super::request::check_request) let pass. `fresh` makes the id of a member that comes without one.
    pub(crate) fn heartbeat(
        &mut self,
        request: &ConsumerHeartbeat,
        client: &Client,
        fresh: Uuid,
        step: &mut Step<'_>,
    ) -> Result<ConsumerHeartbeatAnswer, Refusal> {
        if request.member_epoch == LEAVING || request.member_epoch == AWAY {
            return self.leave(request, step);
        }
        let id = match request.member.is_empty() {
            true => MemberId::from(fresh.to_string()),
            false => request.member.clone(),
        };
        let owned = request.owned.as_deref().map(PartitionSet::from);
        let sender = self.check_sender(&id, request, owned.as_ref(), step)?;
        let wish = self.check_wish(&id, &sender, request, client)?;
        self.check_unknown_state(&id, owned.as_ref())?;

        let joins = !matches!(sender, Sender::Known);
        if let Sender::Returning { before } = sender {
            self.replace_member(&before, &id, step);
        }
        let is_subscription_changed = self.take_wish(&id, wish, step);
        self.raise_epoch_if_changed(is_subscription_changed, step);
        self.assign_if_outdated(step);
        let may_take_up = request.member_epoch.0 > 0
            && self.members.get(&id).is_some_and(|m| m.current.epoch == request.member_epoch);
        let report = Report { owned: owned.as_ref(), may_take_up };
        let has_news = self.reconcile(&id, report, step);
        self.heard_of(&id, step);

        let is_full = request.member_epoch.0 == 0
            || request.rebalance_timeout_ms.is_some()
                && (request.subscribed_names.is_some() || request.subscribed_regex.is_some())
                && owned.is_some();
        Ok(self.answer(&id, joins || is_full || has_news, step))
    }

    fn answer(
        &self,
        id: &MemberId,
        with_assignment: bool,
        step: &Step<'_>,
    ) -> ConsumerHeartbeatAnswer {
        let new = Current::NEW;
        let current = self.members.get(id).map_or(&new, |member| &member.current);
        let interval_ms = step.config.consumer_heartbeat_interval_ms;
        ConsumerHeartbeatAnswer {
            error: ErrorCode::None,
            error_message: None,
            member: Some(id.clone()),
            member_epoch: current.epoch,
            heartbeat_interval_ms: i32::try_from(interval_ms).unwrap_or(i32::MAX),
            assignment: with_assignment.then(|| current.assigned.to_lists()),
        }
    }

    // ---- Who is it? ----

    fn check_sender(
        &self,
        id: &MemberId,
        request: &ConsumerHeartbeat,
        owned: Option<&PartitionSet>,
        step: &Step<'_>,
    ) -> Result<Sender, Refusal> {
        let joins = request.member_epoch.0 == 0;
        let members_max = step.config.consumer_members_max;
        if self.members.len() >= members_max && !self.members.contains_key(id) {
            let message = format!("the group has its {members_max} members");
            // A static member that returns takes its own place.
            let instance = request.instance.as_ref();
            if !instance.is_some_and(|instance| self.instances.contains_key(instance)) {
                return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
            }
        }
        match &request.instance {
            Some(instance) => self.check_static(id, instance, request, owned),
            None => match self.members.get(id) {
                Some(member) => {
                    check_epoch(member, request.member_epoch, owned).map(|()| Sender::Known)
                }
                None if joins => Ok(Sender::New),
                None => Err(self.unknown_member(id)),
            },
        }
    }

    fn check_static(
        &self,
        id: &MemberId,
        instance: &InstanceId,
        request: &ConsumerHeartbeat,
        owned: Option<&PartitionSet>,
    ) -> Result<Sender, Refusal> {
        let joins = request.member_epoch.0 == 0;
        let Some((before, member)) = self.static_member(instance) else {
            return match self.members.get(id) {
                // A member that has joined without an instance id, or with another one, is not this one.
                Some(_) => Err(fenced_instance(id, instance)),
                None if joins => Ok(Sender::New),
                None => Err(self.unknown_member(id)),
            };
        };
        if before == id && !(joins && member.is_away()) {
            return check_epoch(member, request.member_epoch, owned).map(|()| Sender::Known);
        }
        if !joins {
            return Err(fenced_instance(id, instance));
        }
        if before != id && self.members.contains_key(id) {
            return Err(fenced_instance(id, instance));
        }
        if !member.is_away() && member.classic().is_none() {
            let message = format!("instance {instance} is another member's, which has not left");
            return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
        }
        Ok(Sender::Returning { before: before.clone() })
    }

    pub(super) fn static_member(&self, instance: &InstanceId) -> Option<(&MemberId, &Member)> {
        let id = self.instances.get(instance)?;
        self.members.get_key_value(id)
    }

    pub(super) fn unknown_member(&self, id: &MemberId) -> Refusal {
        let message = format!("{id:?} is not a member of group {:?}", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    /// The returning member gets everything that the one before had, but not its epoch.
    pub(super) fn replace_member(&mut self, before: &MemberId, id: &MemberId, step: &mut Step<'_>) {
        let Some(old) = self.members.get(before).cloned() else { return };
        let target = self.target(before).clone();
        for record in self.member_tombstones(before) {
            self.emit(step, record);
        }
        let current =
            Current { epoch: MemberEpoch(0), previous_epoch: MemberEpoch(0), ..old.current };
        self.emit(step, Record::ConsumerMember(self.key(id), Some(old.metadata)));
        self.emit(step, Record::Target(self.key(id), Some(target.to_lists())));
        let record = self.current_record(id, &current);
        self.emit(step, record);
    }

    // ---- What does it want? ----

    /// What the member wants from now on, if that is something else than before.
    fn check_wish(
        &self,
        id: &MemberId,
        sender: &Sender,
        request: &ConsumerHeartbeat,
        client: &Client,
    ) -> Result<Option<MemberMetadata>, Refusal> {
        let before = match sender {
            Sender::Known => self.members.get(id),
            Sender::New => None,
            Sender::Returning { before } => self.members.get(before),
        };
        let before = before.map(|member| &member.metadata);
        if before.is_some_and(|before| !is_changed(before, request, client)) {
            return Ok(None);
        }
        let mut wish = before.cloned().unwrap_or_else(|| Member::new().metadata);
        let old_regex = wish.subscribed_regex.clone();
        take_over(&mut wish, request, client);
        if wish.subscribed_regex != old_regex
            && let Some(expression) = &wish.subscribed_regex
        {
            Pattern::new(expression).map_err(|error| {
                let message = format!("the subscription's regular expression: {error}");
                Refusal::new(ErrorCode::InvalidRegularExpression, message)
            })?;
        }
        Ok(Some(wish))
    }

    /// Stores what the member wants; whether that asks for another assignment: another subscription, or another assignor for the whole group.
    pub(super) fn take_wish(
        &mut self,
        id: &MemberId,
        wish: Option<MemberMetadata>,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(wish) = wish else { return false };
        let is_subscription_changed = self.members.get(id).is_none_or(|member| {
            let before = &member.metadata;
            (&before.subscribed_names, &before.subscribed_regex)
                != (&wish.subscribed_names, &wish.subscribed_regex)
        });
        let assignor = self.assignor(step.config.consumer_assignor);
        self.emit(step, Record::ConsumerMember(self.key(id), Some(wish)));
        is_subscription_changed || self.assignor(step.config.consumer_assignor) != assignor
    }

    // ---- What may it be told? ----

    /// A member whose state a later version wrote must come back without partitions.
    fn check_unknown_state(
        &self,
        id: &MemberId,
        owned: Option<&PartitionSet>,
    ) -> Result<(), Refusal> {
        let is_unknown =
            self.members.get(id).is_some_and(|m| m.current.state == MemberState::Unknown);
        if is_unknown && owned.is_none_or(|owned| !owned.is_empty()) {
            let message = "the member is in a state of a later version: it must join again";
            return Err(Refusal::new(ErrorCode::FencedMemberEpoch, message));
        }
        Ok(())
    }

    /// Takes the member a step further; whether that changed what it is to own.
    pub(super) fn reconcile(
        &mut self,
        id: &MemberId,
        report: Report<'_>,
        step: &mut Step<'_>,
    ) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        let target = Target { epoch: self.assignment_epoch, partitions: self.target(id) };
        let is_taken = |topic, partition| self.is_taken(id, topic, partition);
        let Ok(Some(next)) = member.current.reconcile(target, report, is_taken) else {
            return false;
        };
        let has_news = next.assigned != member.current.assigned;
        let speaks_classic = member.classic().is_some();
        let timeout_ms = member.rebalance_timeout_ms();
        let record = self.current_record(id, &next);
        self.emit(step, record);
        let deadline = (next.state == MemberState::UnrevokedPartitions && !speaks_classic)
            .then(|| step.now.moment.saturating_add_ms(timeout_ms));
        if let Some(member) = self.members.get_mut(id) {
            member.deadlines.revocation = deadline;
        }
        if let Some(deadline) = deadline {
            self.alarm.no_later_than(deadline);
        }
        has_news
    }
}

fn fenced_instance(id: &MemberId, instance: &InstanceId) -> Refusal {
    let message = format!("instance {instance} is not member {id:?} any more");
    Refusal::new(ErrorCode::FencedInstanceId, message)
}

/// Whether the request says something about the member that was not known.
fn is_changed(before: &MemberMetadata, request: &ConsumerHeartbeat, client: &Client) -> bool {
    let text = |new: &Option<Arc<str>>, old: &Option<Arc<str>>| new.is_some() && new != old;
    let regex = request.subscribed_regex.as_ref().map(some_text);
    let instance = request.instance.is_some() && request.instance != before.instance;
    let timeout = request.rebalance_timeout_ms;
    instance
        || before.classic.is_some()
        || before.client_id != client.id
        || before.client_host != client.host
        || text(&request.rack, &before.rack)
        || text(&request.server_assignor, &before.server_assignor)
        || timeout.is_some_and(|timeout| timeout != before.rebalance_timeout_ms)
        || regex.is_some_and(|regex| regex != before.subscribed_regex)
        || request.subscribed_names.as_ref().is_some_and(|names| {
            *names != before.subscribed_names && {
                let mut names = names.clone();
                sort(&mut names);
                names != before.subscribed_names
            }
        })
}

/// What the request says takes the place of what was known.
fn take_over(wish: &mut MemberMetadata, request: &ConsumerHeartbeat, client: &Client) {
    wish.client_id = Arc::clone(&client.id);
    wish.client_host = Arc::clone(&client.host);
    wish.classic = None;
    if request.instance.is_some() {
        wish.instance.clone_from(&request.instance);
    }
    if request.rack.is_some() {
        wish.rack.clone_from(&request.rack);
    }
    if request.server_assignor.is_some() {
        wish.server_assignor.clone_from(&request.server_assignor);
    }
    if let Some(timeout) = request.rebalance_timeout_ms {
        wish.rebalance_timeout_ms = timeout;
    }
    if let Some(names) = &request.subscribed_names {
        wish.subscribed_names.clone_from(names);
        sort(&mut wish.subscribed_names);
    }
    if let Some(regex) = &request.subscribed_regex {
        wish.subscribed_regex = some_text(regex);
    }
}

/// An empty expression is none.
fn some_text(text: &Arc<str>) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| Arc::clone(text))
}

fn sort(names: &mut Vec<thalweg_types::TopicName>) {
    names.sort_unstable();
    names.dedup();
}
