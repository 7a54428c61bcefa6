//! The typed configuration of one log: Kafka's topic configs that its rules depend on, and our durability.
//!
//! Values arrive here validated (the catalogue of names, ranges and spellings belongs to the metadata core); "unlimited", which Kafka
//! writes as -1, is `None`.

use thalweg_types::{CompressionType, Durability, TimestampType};

const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Everything a log's rules read from its topic's configuration. The default is Kafka's default for every field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment file does not grow past this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment older than this ends at the next append.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this much is taken off `segment_ms`, so that partitions created together do not roll together.
    pub segment_jitter_ms: i64,
    /// `index.interval.bytes`: log bytes between two entries of the offset index.
    pub index_interval_bytes: u64,
    /// `segment.index.bytes`: size limit of one index file.
    pub segment_index_bytes: u64,
    /// `retention.ms`; `None` keeps records for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`, per partition; `None` sets no limit.
    pub retention_bytes: Option<u64>,
    /// `max.message.bytes`: limit of one whole batch as it is stored.
    pub max_message_bytes: u64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's timestamp may lie behind the broker's clock.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far it may lie ahead.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`; `None` keeps what the producer chose.
    pub compression_type: Option<CompressionType>,
    /// `thalweg.durability`.
    pub durability: Durability,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `producer.id.expiration.ms`: a producer not heard of for this long is forgotten; the bound of duplicate detection.
    pub producer_id_expiration_ms: i64,
    /// `min.insync.replicas`.
    pub min_in_sync_replicas: u32,
}

/// What may happen to old records; both may be on (`compact,delete`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Whole segments go by age and size.
    pub delete: bool,
    /// Only the last record of each key is kept.
    pub compact: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            // One mebibyte of records and the 12 bytes of base offset and length that frame them.
            max_message_bytes: (1 << 20) + 12,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: HOUR_MS,
            compression_type: None,
            durability: Durability::Fsync,
            cleanup_policy: CleanupPolicy::default(),
            producer_id_expiration_ms: DAY_MS,
            min_in_sync_replicas: 1,
        }
    }
}

impl Default for CleanupPolicy {
    fn default() -> Self {
        Self { delete: true, compact: false }
    }
}
