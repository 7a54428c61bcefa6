//! When offsets expire (KIP-211): not while they are used, and long after.

use thalweg_types::{GroupId, Timestamp, TopicName};

use super::Offsets;
use crate::record::{CommittedOffset, OffsetKey};
use crate::step::Step;

/// What the time until expiry is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Somebody may be using any of them.
    Never,
    /// From when each was committed, except for topics that the group subscribes to.
    SinceCommit,
    /// From when the last member left, however old the commit.
    SinceEmpty(Timestamp),
}

/// What one look at a group found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) offsets: usize,
    pub(crate) expired: usize,
}

impl Offsets {
    /// Removes what has expired of one group, at most so many at once.
    pub(crate) fn expire(
        &mut self,
        step: &mut Step<'_>,
        group: &GroupId,
        expiry: Expiry,
        expired_max: usize,
        is_subscribed: impl Fn(&TopicName) -> bool,
    ) -> Looked {
        let Some(topics) = self.groups.get(group) else { return Looked { offsets: 0, expired: 0 } };
        let mut offsets = 0;
        let mut expired = Vec::new();
        for (topic, partitions) in topics {
            offsets += partitions.len();
            if is_subscribed(topic) {
                continue;
            }
            for (partition, offset) in partitions {
                if expired.len() < expired_max && is_expired(offset, expiry, step) {
                    let (group, topic) = (group.clone(), topic.clone());
                    expired.push(OffsetKey { group, topic, partition: *partition });
                }
            }
        }
        let looked = Looked { offsets, expired: expired.len() };
        for key in expired {
            let record = self.tombstone(key);
            step.record(record);
        }
        looked
    }
}

/// An expiry that the client asked for holds by itself, but not against a group in use.
fn is_expired(offset: &CommittedOffset, expiry: Expiry, step: &Step<'_>) -> bool {
    let since = match expiry {
        Expiry::Never => return false,
        Expiry::SinceCommit => offset.committed_at,
        Expiry::SinceEmpty(since) => since,
    };
    let now = step.now.wall;
    match offset.expires_at {
        Some(expires_at) => now >= expires_at,
        None => u64::try_from(now.ms_since(since))
            .is_ok_and(|age_ms| age_ms >= step.config.offsets_retention_ms),
    }
}
