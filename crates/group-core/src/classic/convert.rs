//! Groups that change from one protocol to the other while they run, as far as the classic protocol goes.

use bytes::Bytes;

use thalweg_types::{ErrorCode, GenerationId, GroupId, InstanceId, MemberId, Moment};

use super::member::Member;
use super::state::{State, Syncs};
use super::{CONSUMER_PROTOCOL_TYPE, Group};
use crate::request::{Client, Protocol};
use crate::response::{Joined, Response};
use crate::step::Step;

/// A member on its way between the protocols.
#[derive(Debug, Clone)]
pub(crate) struct Migrant {
    pub(crate) id: MemberId,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) client: Client,
    /// Its favourite first.
    pub(crate) protocols: Vec<Protocol>,
    /// What it told in the protocol that the group uses.
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
    pub(crate) session_timeout_ms: u64,
    pub(crate) rebalance_timeout_ms: u64,
}

impl Group {
    pub(crate) fn generation(&self) -> GenerationId {
        self.generation
    }

    /// Whether its members could be ones of a group of the consumer protocol.
    pub(crate) fn may_migrate(&self) -> bool {
        self.is_empty() || self.is_consuming()
    }

    /// The members that have been in a generation. The others wait for their first answer, and come again when it is an error.
    pub(crate) fn migrants(&self) -> Vec<Migrant> {
        let chosen = self.protocol.clone().or_else(|| self.select_protocol()).unwrap_or_default();
        let settled = self.members.iter().filter(|(_, member)| !member.is_new);
        let migrant = |(id, member): (&MemberId, &Member)| Migrant {
            id: id.clone(),
            instance: member.instance.clone(),
            client: member.client.clone(),
            protocols: member.protocols.clone(),
            subscription: member.metadata(&chosen),
            assignment: member.assignment.clone(),
            session_timeout_ms: member.session_timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
        };
        settled.map(migrant).collect()
    }

    /// Sends everybody who waits for an answer to join anew: the group is going to be another one.
    pub(crate) fn dismiss(&mut self, step: &mut Step<'_>) {
        let error = ErrorCode::RebalanceInProgress;
        self.fail_syncs(step, error);
        for (id, member) in &mut self.members {
            if let Some(token) = member.joining.take() {
                step.answer(token, Response::Join(Joined::refused(id.clone(), error)));
            }
        }
    }

    /// A group whose members come from the consumer protocol. It is stored, and everybody is called back at once.
    pub(crate) fn of_migrants(
        id: GroupId,
        generation: GenerationId,
        migrants: Vec<Migrant>,
        step: &mut Step<'_>,
    ) -> Self {
        let mut group = Self::new(id, step.now.wall);
        group.generation = generation;
        group.protocol_type = Some(CONSUMER_PROTOCOL_TYPE.into());
        for migrant in migrants {
            group.settle_down(migrant);
        }
        group.protocol = group.select_protocol();
        group.leader = group.members.keys().next().cloned();
        group.state = State::Stable(Syncs::default());
        group.subscribed = group.read_subscriptions();
        group.store(step);
        let members: Vec<MemberId> = group.members.keys().cloned().collect();
        members.iter().for_each(|id| group.expire_later(step, id));
        group.prepare(step);
        group
    }

    fn settle_down(&mut self, migrant: Migrant) {
        if let Some(instance) = &migrant.instance {
            self.static_members.insert(instance.clone(), migrant.id.clone());
        }
        let member = Member {
            instance: migrant.instance,
            client: migrant.client,
            protocols: migrant.protocols,
            session_timeout_ms: migrant.session_timeout_ms,
            rebalance_timeout_ms: migrant.rebalance_timeout_ms,
            assignment: migrant.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            knows_its_id: true,
            expires_at: Moment(u64::MAX),
        };
        self.insert(migrant.id, member);
    }
}
