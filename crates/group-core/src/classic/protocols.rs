//! Which protocols a group could use, and which one it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Group;
use super::member::Member;
use crate::request::Join;

/// How many members offer each protocol.
#[derive(Debug, Default)]
pub(super) struct Support(BTreeMap<Arc<str>, usize>);

impl Support {
    pub(super) fn add(&mut self, member: &Member) {
        for protocol in &member.protocols {
            *self.0.entry(Arc::clone(&protocol.name)).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, member: &Member) {
        for protocol in &member.protocols {
            if let Some(members) = self.0.get_mut(&protocol.name) {
                *members -= 1;
                if *members == 0 {
                    self.0.remove(&protocol.name);
                }
            }
        }
    }

    fn of(&self, protocol: &str) -> usize {
        self.0.get(protocol).copied().unwrap_or_default()
    }
}

impl Group {
    /// Whether the caller speaks of the same thing as the members there are, and has a way in common with all of them.
    pub(super) fn fits(&self, join: &Join) -> bool {
        if self.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let everybody = self.members.len();
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|offered| self.support.of(&offered.name) == everybody)
    }

    /// The protocol that all members offer and most of them like best. Equal votes: the first by name.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let everybody = self.members.len();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let mut liked = member.protocols.iter().map(|protocol| &protocol.name);
            if let Some(choice) = liked.find(|name| self.support.of(name) == everybody) {
                *votes.entry(choice).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| Arc::clone(name))
    }
}
