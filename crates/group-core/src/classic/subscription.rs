//! What members of consumer groups tell their leader, as far as it concerns us: the topics they want.
//!
//! ```text
//!   version: i16    topics: [string]    then what is for the assignors alone
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;

use thalweg_types::TopicName;

use super::{CONSUMER_PROTOCOL_TYPE, Group};
use crate::record::leading_texts;

/// Topics of one member's metadata; `None` when these bytes are something else.
fn topics(metadata: &Bytes) -> Option<Vec<TopicName>> {
    let texts = leading_texts(metadata).ok()?;
    texts.iter().map(|text| TopicName::new(text).ok()).collect()
}

impl Group {
    /// All members' topics, to be looked up while this generation lasts.
    pub(super) fn read_subscriptions(&self) -> Option<BTreeSet<TopicName>> {
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_ref().filter(|_| self.is_consuming())?;
        let mut subscribed = BTreeSet::new();
        for member in self.members.values() {
            subscribed.extend(topics(&member.metadata(protocol))?);
        }
        Some(subscribed)
    }

    /// Whether members consume topics, in contrast to those that share other work.
    pub(super) fn is_consuming(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether somebody reads the topic, as far as can be known; who cannot be understood might.
    pub(crate) fn is_subscribed(&self, topic: &TopicName) -> bool {
        match &self.subscribed {
            Some(subscribed) => subscribed.contains(topic),
            None => self.is_consuming(),
        }
    }
}
