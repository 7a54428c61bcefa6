//! The catalogue: every config, with Kafka's names, types, defaults and ranges where Kafka has it; ours begin with `thalweg.`.
//!
//! Both tables are in order of name: look-up is by binary search.

use super::definition::{Allowed, Definition, Kind, Scope, Synonym};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;
const LONG_MAX_TEXT: &str = "9223372036854775807";

const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const POLICIES: &[&str] = &["compact", "delete"];
const SELECTORS: &[&str] = &[super::broker::LEADER_ONLY, super::broker::RACK_AWARE];
const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
const DURABILITIES: &[&str] = &["fsync", "replicated"];

macro_rules! configs {
    ($($name:literal $kind:ident $default:expr, $allowed:expr, [$($synonym:literal $(* $factor:expr)?),*], $scope:ident, $doc:literal;)+) => {
        &[$(Definition {
            name: $name,
            kind: Kind::$kind,
            default: $default,
            allowed: $allowed,
            synonyms: &[$(Synonym { name: $synonym, factor: 1 $(* $factor)? }),*],
            scope: Scope::$scope,
            doc: $doc,
        }),+]
    };
}

pub(super) const TOPIC: &[Definition] = configs! {
    "cleanup.policy" List Some("delete"), Allowed::Among(POLICIES), ["log.cleanup.policy"], Dynamic,
        "What happens to old records: whole segments are deleted by age and size, the last record of every key is kept, or both.";
    "compression.gzip.level" Int Some("-1"), Allowed::RangeOr(1, 9, -1), ["compression.gzip.level"], Dynamic,
        "Level used when the broker compresses with gzip; -1 is the codec's default.";
    "compression.lz4.level" Int Some("9"), Allowed::Range(1, 17), ["compression.lz4.level"], Dynamic,
        "Accepted for compatibility: what the broker compresses with lz4 is written at one level.";
    "compression.type" String Some("producer"), Allowed::OneOf(CODECS), ["compression.type"], Dynamic,
        "Codec of stored batches; producer keeps what the producer chose.";
    "compression.zstd.level" Int Some("3"), Allowed::Range(-131_072, 22), ["compression.zstd.level"], Dynamic,
        "Level used when the broker compresses with zstd.";
    "delete.retention.ms" Long Some("86400000"), Allowed::Range(0, LONG_MAX), ["log.cleaner.delete.retention.ms"], Dynamic,
        "How long a compacted topic keeps tombstones, in milliseconds.";
    "file.delete.delay.ms" Long Some("60000"), Allowed::Range(0, LONG_MAX), ["log.segment.delete.delay.ms"], Dynamic,
        "How long a deleted segment's file stays on disk, in milliseconds.";
    "flush.messages" Long Some(LONG_MAX_TEXT), Allowed::Range(1, LONG_MAX), ["log.flush.interval.messages"], Dynamic,
        "Accepted for compatibility: thalweg.durability decides when records are flushed.";
    "flush.ms" Long Some(LONG_MAX_TEXT), Allowed::Range(0, LONG_MAX), ["log.flush.interval.ms", "log.flush.scheduler.interval.ms"], Dynamic,
        "Accepted for compatibility: thalweg.durability decides when records are flushed.";
    "follower.replication.throttled.replicas" List Some(""), Allowed::Any, [], Dynamic,
        "Replicas, as partition:node pairs or *, whose replication is throttled on the follower.";
    "index.interval.bytes" Int Some("4096"), Allowed::Range(0, INT_MAX), ["log.index.interval.bytes"], Dynamic,
        "Log bytes between two entries of the offset index.";
    "leader.replication.throttled.replicas" List Some(""), Allowed::Any, [], Dynamic,
        "Replicas, as partition:node pairs or *, whose replication is throttled on the leader.";
    "max.compaction.lag.ms" Long Some(LONG_MAX_TEXT), Allowed::Range(1, LONG_MAX), ["log.cleaner.max.compaction.lag.ms"], Dynamic,
        "Longest time a record of a compacted topic stays out of compaction, in milliseconds.";
    "max.message.bytes" Int Some("1048588"), Allowed::Range(0, INT_MAX), ["message.max.bytes"], Dynamic,
        "Largest record batch, as it is stored, in bytes.";
    "message.timestamp.after.max.ms" Long Some("3600000"), Allowed::Range(0, LONG_MAX), ["log.message.timestamp.after.max.ms"], Dynamic,
        "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds.";
    "message.timestamp.before.max.ms" Long Some(LONG_MAX_TEXT), Allowed::Range(0, LONG_MAX), ["log.message.timestamp.before.max.ms"], Dynamic,
        "How far a record's timestamp may lie behind the broker's clock, in milliseconds.";
    "message.timestamp.type" String Some("CreateTime"), Allowed::OneOf(TIMESTAMP_TYPES), ["log.message.timestamp.type"], Dynamic,
        "Whose clock a record's timestamp is from: the producer's or the broker's.";
    "min.cleanable.dirty.ratio" Double Some("0.5"), Allowed::Fraction(0.0, 1.0), ["log.cleaner.min.cleanable.ratio"], Dynamic,
        "Share of a compacted log that must be uncompacted before it is compacted again.";
    "min.compaction.lag.ms" Long Some("0"), Allowed::Range(0, LONG_MAX), ["log.cleaner.min.compaction.lag.ms"], Dynamic,
        "Shortest time a record of a compacted topic stays out of compaction, in milliseconds.";
    "min.insync.replicas" Int Some("1"), Allowed::Range(1, INT_MAX), ["min.insync.replicas"], Dynamic,
        "In-sync replicas without which acks=all is refused; never more than the topic has replicas. By default 2 for topics with three replicas and more.";
    "preallocate" Boolean Some("false"), Allowed::Any, ["log.preallocate"], Dynamic,
        "Whether a segment's file is allocated in full when it is made.";
    "retention.bytes" Long Some("-1"), Allowed::Range(-1, LONG_MAX), ["log.retention.bytes"], Dynamic,
        "Size per partition above which old segments are deleted, in bytes; -1 sets no limit.";
    "retention.ms" Long Some("604800000"), Allowed::Range(-1, LONG_MAX),
        ["log.retention.ms", "log.retention.minutes" * MINUTE_MS, "log.retention.hours" * HOUR_MS], Dynamic,
        "Age above which old segments are deleted, in milliseconds; -1 keeps them for ever.";
    "segment.bytes" Int Some("1073741824"), Allowed::Range(1 << 20, INT_MAX), ["log.segment.bytes"], Dynamic,
        "Largest segment file, in bytes.";
    "segment.index.bytes" Int Some("10485760"), Allowed::Range(4, INT_MAX), ["log.index.size.max.bytes"], Dynamic,
        "Largest index file, in bytes.";
    "segment.jitter.ms" Long Some("0"), Allowed::Range(0, LONG_MAX), ["log.roll.jitter.ms", "log.roll.jitter.hours" * HOUR_MS], Dynamic,
        "Up to this much is taken off segment.ms at random, in milliseconds.";
    "segment.ms" Long Some("604800000"), Allowed::Range(1, LONG_MAX), ["log.roll.ms", "log.roll.hours" * HOUR_MS], Dynamic,
        "Age above which the active segment ends, in milliseconds.";
    "thalweg.durability" String Some("fsync"), Allowed::OneOf(DURABILITIES), ["thalweg.durability"], Dynamic,
        "When a record counts as safe: on the disk (fsync) or in the memory (replicated) of every in-sync replica.";
    "unclean.leader.election.enable" Boolean Some("false"), Allowed::OneOf(&["false"]), ["unclean.leader.election.enable"], Dynamic,
        "Always false: electing a replica that lost records takes an explicit command per partition.";
};

pub(super) const BROKER: &[Definition] = configs! {
    "auto.create.topics.enable" Boolean Some("true"), Allowed::Any, [], ReadOnly,
        "Whether asking for an unknown topic's metadata creates it.";
    "broker.heartbeat.interval.ms" Int Some("2000"), Allowed::Range(1, INT_MAX), [], ReadOnly,
        "Time between two heartbeats of a broker, in milliseconds.";
    "broker.rack" String None, Allowed::Any, [], ReadOnly,
        "Rack of the broker; replicas of a partition are spread over racks.";
    "broker.session.timeout.ms" Int Some("9000"), Allowed::Range(1, INT_MAX), [], ReadOnly,
        "A broker without a heartbeat for this long is fenced, in milliseconds.";
    "compression.gzip.level" Int Some("-1"), Allowed::RangeOr(1, 9, -1), [], Dynamic,
        "Default of the topic config of the same name.";
    "compression.lz4.level" Int Some("9"), Allowed::Range(1, 17), [], Dynamic,
        "Default of the topic config of the same name.";
    "compression.type" String Some("producer"), Allowed::OneOf(CODECS), [], Dynamic,
        "Default of the topic config of the same name.";
    "compression.zstd.level" Int Some("3"), Allowed::Range(-131_072, 22), [], Dynamic,
        "Default of the topic config of the same name.";
    "connections.max.idle.ms" Long Some("600000"), Allowed::Range(1, LONG_MAX), [], ReadOnly,
        "A connection on which nothing moves for this long is closed.";
    "cordoned.log.dirs" List None, Allowed::Among(&["*"]), [], Dynamic,
        "With *, the broker gets no new partitions; what it has stays (KIP-1066).";
    "default.replication.factor" Int Some("1"), Allowed::Range(1, 32_767), [], ReadOnly,
        "Replicas of a topic created without a replication factor.";
    "delete.topic.enable" Boolean Some("true"), Allowed::Any, [], ReadOnly,
        "Whether topics can be deleted.";
    "fetch.max.bytes" Int Some("57671680"), Allowed::Range(1024, INT_MAX), [], ReadOnly,
        "Largest answer to one fetch request, in bytes.";
    "follower.replication.throttled.rate" Long Some(LONG_MAX_TEXT), Allowed::Range(0, LONG_MAX), [], Dynamic,
        "Bytes a second that each leader pushes to this broker's replicas while they are not in sync; the throttled replicas need not be named.";
    "leader.replication.throttled.rate" Long Some(LONG_MAX_TEXT), Allowed::Range(0, LONG_MAX), [], Dynamic,
        "Bytes a second that this broker pushes to all replicas that are not in sync; the throttled replicas need not be named.";
    "log.cleaner.delete.retention.ms" Long Some("86400000"), Allowed::Range(0, LONG_MAX), [], Dynamic,
        "Default of the topic config delete.retention.ms.";
    "log.cleaner.max.compaction.lag.ms" Long Some(LONG_MAX_TEXT), Allowed::Range(1, LONG_MAX), [], Dynamic,
        "Default of the topic config max.compaction.lag.ms.";
    "log.cleaner.min.cleanable.ratio" Double Some("0.5"), Allowed::Fraction(0.0, 1.0), [], Dynamic,
        "Default of the topic config min.cleanable.dirty.ratio.";
    "log.cleaner.min.compaction.lag.ms" Long Some("0"), Allowed::Range(0, LONG_MAX), [], Dynamic,
        "Default of the topic config min.compaction.lag.ms.";
    "log.cleanup.policy" List Some("delete"), Allowed::Among(POLICIES), [], Dynamic,
        "Default of the topic config cleanup.policy.";
    "log.dirs" String None, Allowed::Any, [], ReadOnly,
        "Where the broker keeps its logs.";
    "log.flush.interval.messages" Long Some(LONG_MAX_TEXT), Allowed::Range(1, LONG_MAX), [], Dynamic,
        "Default of the topic config flush.messages.";
    "log.flush.interval.ms" Long None, Allowed::Range(0, LONG_MAX), ["log.flush.interval.ms", "log.flush.scheduler.interval.ms"], Dynamic,
        "Default of the topic config flush.ms.";
    "log.flush.scheduler.interval.ms" Long Some(LONG_MAX_TEXT), Allowed::Range(0, LONG_MAX), [], ReadOnly,
        "Default of the topic config flush.ms when log.flush.interval.ms is not set.";
    "log.index.interval.bytes" Int Some("4096"), Allowed::Range(0, INT_MAX), [], Dynamic,
        "Default of the topic config index.interval.bytes.";
    "log.index.size.max.bytes" Int Some("10485760"), Allowed::Range(4, INT_MAX), [], Dynamic,
        "Default of the topic config segment.index.bytes.";
    "log.message.timestamp.after.max.ms" Long Some("3600000"), Allowed::Range(0, LONG_MAX), [], Dynamic,
        "Default of the topic config message.timestamp.after.max.ms.";
    "log.message.timestamp.before.max.ms" Long Some(LONG_MAX_TEXT), Allowed::Range(0, LONG_MAX), [], Dynamic,
        "Default of the topic config message.timestamp.before.max.ms.";
    "log.message.timestamp.type" String Some("CreateTime"), Allowed::OneOf(TIMESTAMP_TYPES), [], Dynamic,
        "Default of the topic config message.timestamp.type.";
    "log.preallocate" Boolean Some("false"), Allowed::Any, [], Dynamic,
        "Default of the topic config preallocate.";
    "log.retention.bytes" Long Some("-1"), Allowed::Range(-1, LONG_MAX), [], Dynamic,
        "Default of the topic config retention.bytes.";
    "log.retention.check.interval.ms" Long Some("300000"), Allowed::Range(1, LONG_MAX), [], ReadOnly,
        "Time between two looks for segments to delete, in milliseconds.";
    "log.retention.hours" Int Some("168"), Allowed::Range(-1, INT_MAX), [], ReadOnly,
        "Default of the topic config retention.ms, in hours, when neither log.retention.ms nor log.retention.minutes is set.";
    "log.retention.minutes" Int None, Allowed::Range(-1, INT_MAX), [], ReadOnly,
        "Default of the topic config retention.ms, in minutes, when log.retention.ms is not set.";
    "log.retention.ms" Long None, Allowed::RangeOr(1, LONG_MAX, -1),
        ["log.retention.ms", "log.retention.minutes" * MINUTE_MS, "log.retention.hours" * HOUR_MS], Dynamic,
        "Default of the topic config retention.ms.";
    "log.roll.hours" Int Some("168"), Allowed::Range(1, INT_MAX), [], ReadOnly,
        "Default of the topic config segment.ms, in hours, when log.roll.ms is not set.";
    "log.roll.jitter.hours" Int Some("0"), Allowed::Range(0, INT_MAX), [], ReadOnly,
        "Default of the topic config segment.jitter.ms, in hours, when log.roll.jitter.ms is not set.";
    "log.roll.jitter.ms" Long None, Allowed::Range(0, LONG_MAX), ["log.roll.jitter.ms", "log.roll.jitter.hours" * HOUR_MS], Dynamic,
        "Default of the topic config segment.jitter.ms.";
    "log.roll.ms" Long None, Allowed::Range(1, LONG_MAX), ["log.roll.ms", "log.roll.hours" * HOUR_MS], Dynamic,
        "Default of the topic config segment.ms.";
    "log.segment.bytes" Int Some("1073741824"), Allowed::Range(1 << 20, INT_MAX), [], Dynamic,
        "Default of the topic config segment.bytes.";
    "log.segment.delete.delay.ms" Long Some("60000"), Allowed::Range(0, LONG_MAX), [], Dynamic,
        "Default of the topic config file.delete.delay.ms.";
    "max.connections" Int Some("2147483647"), Allowed::Range(0, INT_MAX), [], ReadOnly,
        "Connections open at a time.";
    "max.connections.per.ip" Int Some("2147483647"), Allowed::Range(0, INT_MAX), [], ReadOnly,
        "Connections of one address open at a time.";
    "max.incremental.fetch.session.cache.slots" Int Some("1000"), Allowed::Range(0, INT_MAX), [], ReadOnly,
        "Fetch sessions kept at a time.";
    "message.max.bytes" Int Some("1048588"), Allowed::Range(0, INT_MAX), [], Dynamic,
        "Default of the topic config max.message.bytes.";
    "min.insync.replicas" Int Some("1"), Allowed::Range(1, INT_MAX), [], AllBrokers,
        "Default of the topic config of the same name.";
    "node.id" Int None, Allowed::Any, [], ReadOnly,
        "The node's id; allocated by the controller, never configured.";
    "num.partitions" Int Some("1"), Allowed::Range(1, INT_MAX), [], ReadOnly,
        "Partitions of a topic created without a number of them.";
    "offsets.topic.num.partitions" Int Some("50"), Allowed::Range(1, 10_000), [], ReadOnly,
        "Partitions of the topic that holds groups and their offsets, which is made when it is first used.";
    "offsets.topic.replication.factor" Int Some("3"), Allowed::Range(1, 32_767), [], ReadOnly,
        "Replicas of the topic that holds groups and their offsets; fewer when it is made while fewer brokers are live.";
    "producer.id.expiration.ms" Int Some("86400000"), Allowed::Range(1, INT_MAX), [], Dynamic,
        "An idempotent producer not heard of for this long is forgotten, in milliseconds.";
    "replica.alter.log.dirs.io.max.bytes.per.second" Long Some(LONG_MAX_TEXT), Allowed::Range(0, LONG_MAX), [], Dynamic,
        "Kept for Kafka's tools, which clear it after moves of partitions; there is one log directory.";
    "replica.lag.time.max.ms" Long Some("30000"), Allowed::Range(1, LONG_MAX), [], ReadOnly,
        "A follower that has not caught up for this long leaves the in-sync replicas, in milliseconds.";
    "replica.selector.class" String None, Allowed::OneOf(SELECTORS), [], Dynamic,
        "With RackAwareReplicaSelector, consumers that name their rack are sent to an in-sync replica there; otherwise all read from leaders.";
    "socket.request.max.bytes" Int Some("104857600"), Allowed::Range(1, INT_MAX), [], ReadOnly,
        "Largest request, in bytes.";
    "thalweg.durability" String Some("fsync"), Allowed::OneOf(DURABILITIES), [], AllBrokers,
        "Default of the topic config of the same name.";
    "transaction.max.timeout.ms" Int Some("900000"), Allowed::Range(1, INT_MAX), [], ReadOnly,
        "Longest transaction timeout a producer may ask for, in milliseconds.";
    "unclean.leader.election.enable" Boolean Some("false"), Allowed::OneOf(&["false"]), [], Dynamic,
        "Always false: electing a replica that lost records takes an explicit command per partition.";
};
