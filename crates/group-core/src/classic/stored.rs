//! A group as its record has it, and back.

use thalweg_types::{GroupId, Moment, Timestamp};

use super::Group;
use super::member::Member;
use super::state::{State, Syncs};
use crate::offsets::Expiry;
use crate::record::{ClassicMember, GroupMetadata, Record};
use crate::request::{Client, Protocol};
use crate::step::Step;

impl Group {
    /// The group of a stored record: stable if anybody is in it.
    pub(crate) fn from_stored(id: GroupId, stored: GroupMetadata) -> Self {
        let mut group = Self::new(id, stored.state_since);
        group.is_stored = true;
        group.generation = stored.generation;
        group.protocol_type = Some(stored.protocol_type).filter(|name| !name.is_empty());
        group.protocol = stored.protocol;
        group.leader = stored.leader;
        for stored in stored.members {
            group.restore(stored);
        }
        if !group.members.is_empty() {
            group.state = State::Stable(Syncs::default());
        }
        group.subscribed = group.read_subscriptions();
        group
    }

    fn restore(&mut self, stored: ClassicMember) {
        let session_timeout_ms = stored.session_timeout_ms.max(0) as u64;
        let protocol = self.protocol.clone().unwrap_or_default();
        let member = Member {
            instance: stored.instance.clone(),
            client: Client { id: stored.client_id, host: stored.client_host },
            protocols: vec![Protocol { name: protocol, metadata: stored.subscription }],
            session_timeout_ms,
            // The oldest versions did not store it.
            rebalance_timeout_ms: u64::try_from(stored.rebalance_timeout_ms)
                .unwrap_or(session_timeout_ms),
            assignment: stored.assignment,
            joining: None,
            syncing: None,
            is_new: false,
            knows_its_id: true,
            // Sessions begin when everything is loaded.
            expires_at: Moment(u64::MAX),
        };
        if let Some(instance) = stored.instance {
            self.static_members.insert(instance, stored.member.clone());
        }
        self.insert(stored.member, member);
    }

    /// The record of the group as it is now.
    pub(super) fn record(&self) -> Record {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| ClassicMember {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client.id.clone(),
            client_host: member.client.host.clone(),
            rebalance_timeout_ms: clamp(member.rebalance_timeout_ms),
            session_timeout_ms: clamp(member.session_timeout_ms),
            subscription: member.metadata(&protocol),
            assignment: member.assignment.clone(),
        });
        let stored = GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since: self.state_since,
            members: members.collect(),
        };
        Record::Group(self.id.clone(), Some(stored))
    }

    pub(super) fn store(&mut self, step: &mut Step<'_>) {
        self.is_stored = true;
        step.record(self.record());
    }

    /// What the group's offsets expire by.
    pub(crate) fn expiry(&self) -> Expiry {
        match self.state {
            // Only ever used to commit, without members.
            _ if self.protocol_type.is_none() => Expiry::SinceCommit,
            // Records of Kafka's oldest versions do not say since when.
            State::Empty if self.state_since == Timestamp::NONE => Expiry::SinceCommit,
            State::Empty => Expiry::SinceEmpty(self.state_since),
            // Topics that no member reads any more; which these are must be known, and settled.
            State::Stable(_) if self.is_consuming() && self.subscribed.is_some() => {
                Expiry::SinceCommit
            }
            _ => Expiry::Never,
        }
    }

    /// Nobody is in it, and nobody has asked to come in.
    pub(crate) fn is_deserted(&self) -> bool {
        self.is_empty() && self.promised.is_empty()
    }
}

fn clamp(ms: u64) -> i32 {
    i32::try_from(ms).unwrap_or(i32::MAX)
}
