//! What people are shown of a group.

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{ErrorCode, MemberId};

use super::Group;
use super::member::Member;
use super::state::State;
use crate::response::{DescribedGroup, DescribedMember, ListedGroup};

/// How ListGroups names groups of this protocol.
pub(crate) const GROUP_TYPE: &str = "classic";

impl Group {
    pub(crate) fn describe(&self) -> DescribedGroup {
        // Between generations, what members offer and what they were given belongs to different ones.
        let stable = matches!(self.state, State::Stable(_));
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let describe = |(id, member): (&MemberId, &Member)| DescribedMember {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: Arc::clone(&member.client.id),
            client_host: Arc::clone(&member.client.host),
            metadata: if stable { member.metadata(&protocol) } else { Bytes::new() },
            assignment: if stable { member.assignment.clone() } else { Bytes::new() },
        };
        DescribedGroup {
            group: self.id.clone(),
            error: ErrorCode::None,
            error_message: None,
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: self.members.iter().map(describe).collect(),
            protocol,
        }
    }

    pub(crate) fn list(&self) -> ListedGroup {
        ListedGroup {
            group: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state.name(),
            group_type: GROUP_TYPE,
        }
    }
}
