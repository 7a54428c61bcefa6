//! What a group subscribes to, and noticing that it is another thing than before.
//!
//! The group remembers a hash of its topics as they are: names, identities, numbers of partitions. When topics were made, grown or deleted, the
//! next heartbeat computes it again, and another hash raises the group epoch. So a thousand new topics cost every group one look at a
//! time of its own choosing, and a group whose topics did not change nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_types::TopicName;

use super::group::{Group, after};
use super::regex::Pattern;
use crate::record::{ConsumerGroupMetadata, Record, RegularExpression, RegularExpressionKey};
use crate::step::Step;
use crate::topics::Topics;

impl Group {
    /// Raises the group epoch if a member subscribes to something else, or if the topics are not what they were.
    pub(super) fn raise_epoch_if_changed(
        &mut self,
        is_subscription_changed: bool,
        step: &mut Step<'_>,
    ) {
        if !is_subscription_changed && !self.is_metadata_stale {
            return;
        }
        self.refresh_expressions(step);
        self.is_metadata_stale = false;
        let metadata_hash = self.current_hash(step.topics);
        if is_subscription_changed || metadata_hash != self.metadata_hash {
            self.raise_epoch(metadata_hash, step);
        }
    }

    fn raise_epoch(&mut self, metadata_hash: i64, step: &mut Step<'_>) {
        if self.has_topics_record {
            self.emit(step, Record::ConsumerTopics(self.id.clone(), None));
        }
        let value = ConsumerGroupMetadata { epoch: after(self.epoch), metadata_hash };
        self.emit(step, Record::ConsumerGroup(self.id.clone(), Some(value)));
    }

    // ---- Regular expressions ----

    /// Resolves the expressions of all members anew, and forgets those that nobody has any more.
    fn refresh_expressions(&mut self, step: &mut Step<'_>) {
        let members = self.members.values();
        let used: BTreeSet<Arc<str>> =
            members.filter_map(|member| member.metadata.subscribed_regex.clone()).collect();
        let unused = self.expressions.keys().filter(|known| !used.contains(*known));
        for expression in unused.cloned().collect::<Vec<_>>() {
            self.emit(step, self.expression_record(&expression, None));
        }
        for expression in used {
            // It was valid when the member came with it; if another version thinks otherwise, it matches nothing.
            let matched = Pattern::new(&expression)
                .map(|pattern| matched(&pattern, step.topics))
                .unwrap_or_default();
            if self.expressions.get(&expression) != Some(&matched) {
                let value = RegularExpression {
                    topics: matched.into_iter().collect(),
                    version: 0,
                    resolved_at: step.now.wall,
                };
                self.emit(step, self.expression_record(&expression, Some(value)));
            }
        }
    }

    pub(super) fn expression_record(
        &self,
        expression: &Arc<str>,
        value: Option<RegularExpression>,
    ) -> Record {
        let (group, regular_expression) = (self.id.clone(), Arc::clone(expression));
        Record::RegularExpression(RegularExpressionKey { group, regular_expression }, value)
    }

    // ---- The hash ----

    /// Of the subscribed topics that exist; 0 without any. Not the number that Kafka would compute of the same topics: a Kafka coordinator that takes
    /// over the group raises its epoch once.
    fn current_hash(&self, topics: &dyn Topics) -> i64 {
        let mut hash = Fnv::new();
        let mut is_any = false;
        for name in self.subscribed_topics() {
            let Some(facts) = topics.topic(name.as_str()) else { continue };
            is_any = true;
            hash.write(name.as_str().as_bytes());
            // No name contains it, so that no two lists of names are the same bytes.
            hash.write(&[0]);
            hash.write(facts.id.0.as_bytes());
            hash.write(&facts.partitions.to_be_bytes());
        }
        // 0 is taken.
        if is_any { hash.finish().max(1) } else { 0 }
    }
}

fn matched(pattern: &Pattern, topics: &dyn Topics) -> BTreeSet<TopicName> {
    let mut matched = BTreeSet::new();
    topics.for_each_name(&mut |name| {
        if pattern.matches(name) {
            matched.insert(name.clone());
        }
    });
    matched
}

/// The FNV-1a hash: stored, so it must be the same in every version and on every machine.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The upper 63 bits: a positive number.
    fn finish(self) -> i64 {
        i64::try_from(self.0 >> 1).unwrap_or(i64::MAX)
    }
}
