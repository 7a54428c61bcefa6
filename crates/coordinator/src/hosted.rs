//! The groups of one partition as the runtime hosts them, and the cluster's topics as the groups see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use thalweg_coordinator_runtime as runtime;
use thalweg_coordinator_runtime::{Core, CorruptRecord, KeyValue};
use thalweg_group_core as core;
use thalweg_group_core::{Call, Client, GroupConfig, Groups, Record, TopicFacts, Topics};
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::Feed;
use thalweg_types::{Moment, TopicId, TopicName, Uuid};

/// A call, before it has a token.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) client: Client,
    /// Randomness for a member id.
    pub(crate) fresh: Uuid,
    pub(crate) request: core::Request,
}

/// Topics were made, have grown or are gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicsChanged;

pub(crate) struct Hosted {
    groups: Groups,
    feed: Feed,
    figures: Arc<Figures>,
    figures_due: Moment,
}

/// How much a partition has, as of a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) groups: AtomicU64,
    pub(crate) members: AtomicU64,
    pub(crate) offsets: AtomicU64,
    /// Since the partition was last loaded.
    pub(crate) rebalances: AtomicU64,
    /// Records decided since this node was given the partition.
    pub(crate) records: AtomicU64,
}

/// Counting looks at every group of the partition: not with every call.
const FIGURES_INTERVAL_MS: u64 = 500;

impl Hosted {
    pub(crate) fn new(config: GroupConfig, feed: Feed, figures: Arc<Figures>) -> Self {
        Self { groups: Groups::new(config), feed, figures, figures_due: Moment(0) }
    }

    fn effects(
        &mut self,
        effects: core::Effects,
        now: runtime::Now,
    ) -> runtime::Effects<core::Response> {
        self.count(effects.records.len(), now);
        let stored = |record: &Record| {
            let (key, value) = core::record::encode(record);
            KeyValue { key, value }
        };
        let answers = effects.answers.into_iter();
        runtime::Effects {
            records: effects.records.iter().map(stored).collect(),
            answers: answers.map(|(token, answer)| (runtime::Token(token.0), answer)).collect(),
        }
    }
}

impl Hosted {
    fn count(&mut self, records: usize, now: runtime::Now) {
        let figures = &self.figures;
        figures.records.fetch_add(records as u64, Ordering::Relaxed);
        if now.moment < self.figures_due {
            return;
        }
        self.figures_due = now.moment.saturating_add_ms(FIGURES_INTERVAL_MS);
        let counts = self.groups.counts();
        for (figure, count) in [
            (&figures.groups, counts.groups as u64),
            (&figures.members, counts.members as u64),
            (&figures.offsets, counts.offsets as u64),
            (&figures.rebalances, counts.rebalances),
        ] {
            figure.store(count, Ordering::Relaxed);
        }
    }
}

impl Core for Hosted {
    type Request = Ask;
    type Response = core::Response;
    type Event = TopicsChanged;

    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), CorruptRecord> {
        // Copies: what is kept of a record must not keep the megabytes it was read with.
        let value = value.map(Bytes::copy_from_slice);
        let record = core::record::decode(&Bytes::copy_from_slice(key), value.as_ref());
        if let Some(record) = record.map_err(|error| CorruptRecord(error.to_string()))? {
            self.groups.replay(record);
        }
        Ok(())
    }

    fn start(&mut self, now: runtime::Now) -> runtime::Effects<core::Response> {
        let effects = self.groups.start(&ImageTopics(self.feed.image()), moment(now));
        self.effects(effects, now)
    }

    fn handle(
        &mut self,
        token: runtime::Token,
        ask: Ask,
        now: runtime::Now,
    ) -> runtime::Effects<core::Response> {
        let Ask { client, fresh, request } = ask;
        let call = Call { token: core::Token(token.0), client, fresh, request };
        let effects = self.groups.handle(call, &ImageTopics(self.feed.image()), moment(now));
        self.effects(effects, now)
    }

    fn handle_event(
        &mut self,
        TopicsChanged: TopicsChanged,
        now: runtime::Now,
    ) -> runtime::Effects<core::Response> {
        let effects = self.groups.handle_metadata(&ImageTopics(self.feed.image()), moment(now));
        self.effects(effects, now)
    }

    fn handle_deadline(&mut self, now: runtime::Now) -> runtime::Effects<core::Response> {
        let effects = self.groups.handle_deadline(&ImageTopics(self.feed.image()), moment(now));
        self.effects(effects, now)
    }

    fn next_deadline(&self) -> Option<Moment> {
        self.groups.next_deadline()
    }

    fn cancel(&mut self, token: runtime::Token) {
        self.groups.cancel(core::Token(token.0));
    }

    /// What members ask in their turn is checked again with every call; what is looked at once has to be right.
    fn must_be_current(ask: &Ask) -> bool {
        match &ask.request {
            core::Request::Join(_)
            | core::Request::Sync(_)
            | core::Request::Heartbeat(_)
            | core::Request::ConsumerHeartbeat(_)
            | core::Request::ListGroups(_) => false,
            core::Request::Leave(_)
            | core::Request::CommitOffsets(_)
            | core::Request::FetchOffsets(_)
            | core::Request::DeleteOffsets(_)
            | core::Request::DescribeGroups(_)
            | core::Request::DeleteGroups(_)
            | core::Request::ConsumerDescribe(_) => true,
        }
    }
}

fn moment(now: runtime::Now) -> core::Now {
    core::Now { moment: now.moment, wall: now.wall }
}

/// The topics of one image.
struct ImageTopics(Arc<Image>);

impl Topics for ImageTopics {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        let topic = self.0.topic(name)?;
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        Some(TopicFacts { id: topic.id, partitions })
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        self.0.topic_by_id(id).map(|topic| topic.name.clone())
    }

    fn for_each_name(&self, visit: &mut dyn FnMut(&TopicName)) {
        for topic in self.0.topics() {
            visit(&topic.name);
        }
    }
}
