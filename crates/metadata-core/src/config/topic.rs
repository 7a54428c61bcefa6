//! The typed configs of one topic.

use thalweg_types::{CompressionType, Durability, NodeId, TimestampType, TopicId};

use super::definition::{boolean, list};
use super::describe::Resolver;
use super::{StaticConfigs, broker_config, topic_config};
use crate::image::Image;

/// What a topic's configs amount to, topic overrides and defaults taken together. "Unlimited", which Kafka writes as -1, is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy` contains `delete`.
    pub cleanup_delete: bool,
    /// `cleanup.policy` contains `compact`.
    pub cleanup_compact: bool,
    /// `compression.type`; `None` keeps what the producer chose.
    pub compression_type: Option<CompressionType>,
    /// The level for `compression_type`; `None` is the codec's default, or there is no level.
    pub compression_level: Option<i32>,
    pub delete_retention_ms: i64,
    pub durability: Durability,
    pub file_delete_delay_ms: i64,
    pub index_interval_bytes: u64,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: u64,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    /// As configured; what binds is [`crate::Partition::min_isr`].
    pub min_in_sync_replicas: u32,
    pub preallocate: bool,
    /// `producer.id.expiration.ms` of the broker: no topic config, but its logs go by it.
    pub producer_id_expiration_ms: i64,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<i64>,
    pub segment_bytes: u64,
    pub segment_index_bytes: u64,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub timestamp_before_max_ms: i64,
    pub timestamp_type: TimestampType,
}

impl TopicConfig {
    /// Of `topic` as it holds on `broker`; an unknown topic has the defaults.
    pub fn resolve(
        image: &Image,
        topic: TopicId,
        broker: Option<NodeId>,
        settings: &StaticConfigs,
    ) -> Self {
        let values = Values(Resolver { image, topic: Some(topic), broker, settings });
        let of_broker = Values(Resolver { image, topic: None, broker, settings });
        let policy = values.text("cleanup.policy");
        let compression_type = values.text("compression.type").parse().ok();
        Self {
            cleanup_delete: list(&policy).any(|item| item == "delete"),
            cleanup_compact: list(&policy).any(|item| item == "compact"),
            compression_type,
            compression_level: values.compression_level(compression_type),
            delete_retention_ms: values.number("delete.retention.ms"),
            // What coordinators write they answer for, whatever is configured.
            durability: match image.topic_by_id(topic).is_some_and(|topic| topic.name.is_internal())
            {
                true => Durability::Fsync,
                false => values.text("thalweg.durability").parse().unwrap_or_default(),
            },
            file_delete_delay_ms: values.number("file.delete.delay.ms"),
            index_interval_bytes: values.size("index.interval.bytes").unwrap_or(0),
            max_compaction_lag_ms: values.number("max.compaction.lag.ms"),
            max_message_bytes: values.size("max.message.bytes").unwrap_or(0),
            min_cleanable_dirty_ratio: values
                .text("min.cleanable.dirty.ratio")
                .parse()
                .unwrap_or(0.5),
            min_compaction_lag_ms: values.number("min.compaction.lag.ms"),
            min_in_sync_replicas: values.number("min.insync.replicas").try_into().unwrap_or(1),
            preallocate: boolean(&values.text("preallocate")).unwrap_or(false),
            producer_id_expiration_ms: of_broker.number("producer.id.expiration.ms"),
            retention_bytes: values.size("retention.bytes"),
            retention_ms: Some(values.number("retention.ms")).filter(|ms| *ms >= 0),
            segment_bytes: values.size("segment.bytes").unwrap_or(1 << 30),
            segment_index_bytes: values.size("segment.index.bytes").unwrap_or(10 << 20),
            segment_jitter_ms: values.number("segment.jitter.ms"),
            segment_ms: values.number("segment.ms"),
            timestamp_after_max_ms: values.number("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: values.number("message.timestamp.before.max.ms"),
            timestamp_type: values.text("message.timestamp.type").parse().unwrap_or_default(),
        }
    }
}

/// Values by name. Only valid ones are ever committed; should another be met all the same (a newer version's), the config's default
/// stands in for it.
pub(super) struct Values<'a>(pub(super) Resolver<'a>);

impl Values<'_> {
    pub(super) fn text(&self, name: &'static str) -> String {
        let definition = match self.0.topic {
            Some(_) => topic_config(name),
            None => broker_config(name),
        }
        .expect("only configs of the catalogue are resolved");
        let default = || definition.default.unwrap_or_default().to_owned();
        self.0
            .value(definition)
            .filter(|value| definition.check(value).is_ok())
            .unwrap_or_else(default)
    }

    pub(super) fn number(&self, name: &'static str) -> i64 {
        self.text(name).trim().parse().expect("checked values of numeric configs are numbers")
    }

    /// gzip's -1 stands for the codec's own default; snappy has no levels and lz4 is written at one level only.
    fn compression_level(&self, codec: Option<CompressionType>) -> Option<i32> {
        let level = match codec? {
            CompressionType::Gzip => self.number("compression.gzip.level"),
            CompressionType::Zstd => self.number("compression.zstd.level"),
            CompressionType::None | CompressionType::Snappy | CompressionType::Lz4 => return None,
        };
        i32::try_from(level)
            .ok()
            .filter(|level| codec != Some(CompressionType::Gzip) || *level >= 0)
    }

    /// `None` when negative.
    fn size(&self, name: &'static str) -> Option<u64> {
        u64::try_from(self.number(name)).ok()
    }
}
