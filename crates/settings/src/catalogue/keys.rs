//! The table of all keys.

use super::{Default, Key, Kind};
use crate::sections::LogFormat;

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;
const SECOND_MS: i64 = 1000;
const HOUR_MS: i64 = 3600 * SECOND_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Positions inside a segment file are 32-bit in its indexes.
const SEGMENT_BYTES_MAX: i64 = i32::MAX as i64;

/// Limits without a technical bound end here, so that sums of a few of them cannot overflow.
const UNBOUNDED: i64 = i64::MAX / 16;

/// All keys, in the order they are printed; keys of one section stand together.
pub const KEYS: &[Key] = &[
    Key::new(
        "standalone.data_dir",
        Kind::Path,
        Default::Required,
        "Directory that holds everything this node keeps: the metadata log and the partition logs. Made when it does not exist.",
    ),
    Key::new(
        "cluster.controllers",
        Kind::Endpoints,
        Default::Required,
        "Where brokers and gateways find the controllers: addresses of some of them, comma-separated, better of all.",
    )
    .in_cluster_only(),
    Key::new(
        "operations.address",
        Kind::Address,
        Default::Text("127.0.0.1:8080"),
        "Address of the HTTP listener with `/metrics`, `/healthz` and `/readyz`.",
    ),
    Key::new(
        "operations.log_format",
        Kind::Choice(LogFormat::NAMES),
        Default::Text("text"),
        "Form of the log lines on standard error: text for people, one JSON object per line for machines.",
    ),
    Key::new(
        "operations.log_filter",
        Kind::Filter,
        Default::Text("info,openraft=warn,sled=warn"),
        "Which log lines are written: a level, or levels per module (`info,thalweg_storage=debug`).",
    ),
    Key::integer(
        "operations.shutdown_timeout_ms",
        30 * SECOND_MS,
        SECOND_MS,
        HOUR_MS,
        "How long a clean shutdown may take before the process gives up and ends with an error.",
    ),
    Key::new(
        "controller.node_id",
        Kind::Integer { min: 1, max: i32::MAX as i64 },
        Default::Required,
        "Which of `controller.voters` this process is. Belongs to its disk: an id is never used again with another one.",
    )
    .in_cluster_only(),
    Key::new(
        "controller.voters",
        Kind::Voters,
        Default::Required,
        "The controllers that vote, as `id@host:port` with the address where the others reach them, comma-separated; the same list for \
         each. Once there is a quorum it remembers its members itself, and the list only finds them.",
    )
    .in_cluster_only(),
    Key::new(
        "controller.data_dir",
        Kind::Path,
        Default::Required,
        "Directory of the metadata log. Made when it does not exist.",
    )
    .in_cluster_only(),
    Key::new(
        "controller.internal.address",
        Kind::Address,
        Default::Text("127.0.0.1:9190"),
        "Address of the gRPC listener for the other controllers, brokers and gateways.",
    )
    .in_cluster_only(),
    Key::integer(
        "controller.snapshot_after_entries",
        5000,
        100,
        1_000_000,
        "Entries of the metadata log after which a snapshot is taken, so that older ones can go.",
    ),
    Key::new(
        "broker.data_dir",
        Kind::Path,
        Default::Required,
        "Directory of the partition logs. Made when it does not exist. `{n}` in it stands for the first number from 1 whose directory no \
         other process has, for several brokers on one disk.",
    )
    .in_cluster_only(),
    Key::new(
        "broker.rack",
        Kind::Name,
        Default::Text(""),
        "Where the broker stands: replicas of a partition are spread over racks. Kafka's `broker.rack`.",
    ),
    Key::integer(
        "broker.heartbeat_interval_ms",
        2 * SECOND_MS,
        100,
        HOUR_MS,
        "How often the broker shows the controller that it is alive.",
    )
    .sets("broker.heartbeat.interval.ms"),
    Key::integer(
        "broker.session_timeout_ms",
        9 * SECOND_MS,
        1000,
        HOUR_MS,
        "How long the controller waits for a sign of life of a broker before it gives what the broker leads to others.",
    )
    .sets("broker.session.timeout.ms"),
    Key::integer(
        "broker.return_timeout_ms",
        SECOND_MS,
        100,
        HOUR_MS,
        "How long the controller waits for a sign of life of a broker whose connection to it has ended, as it does when the process dies.",
    ),
    Key::new(
        "broker.durability",
        Kind::Choice(&["fsync", "replicated"]),
        Default::Text("fsync"),
        "When an acknowledged record counts as safe: on the disk of every in-sync replica, or in their memory.",
    )
    .sets("thalweg.durability"),
    Key::integer(
        "broker.num_partitions",
        1,
        1,
        10_000,
        "Partitions of a topic created without a number.",
    )
    .sets("num.partitions"),
    Key::integer(
        "broker.default_replication_factor",
        1,
        1,
        32_767,
        "Replicas of each partition of a topic created without a number.",
    )
    .sets("default.replication.factor"),
    Key::integer(
        "broker.offsets_topic_partitions",
        50,
        1,
        10_000,
        "Partitions of `__consumer_offsets`, which holds groups and their offsets and is made when it is first used. Coordinators share them.",
    )
    .sets("offsets.topic.num.partitions"),
    Key::integer(
        "broker.offsets_topic_replication_factor",
        3,
        1,
        32_767,
        "Replicas of each partition of `__consumer_offsets`; fewer when it is made while fewer brokers are live.",
    )
    .sets("offsets.topic.replication.factor"),
    Key::new(
        "broker.auto_create_topics",
        Kind::Boolean,
        Default::Boolean(true),
        "Whether a Kafka client that asks for an unknown topic and allows its creation gets it.",
    )
    .sets("auto.create.topics.enable"),
    Key::integer(
        "broker.tail_bytes_max",
        256 * MIB,
        4 * MIB,
        UNBOUNDED,
        "Memory for the newest records of all partitions, from which consumers that keep up are served.",
    ),
    Key::integer(
        "broker.disk_reserve_bytes",
        -1,
        -1,
        UNBOUNDED,
        "What is kept free of the data directory's file system: below it records and new topics are refused, while reads, retention and \
         deletions go on. -1: 2 % of the file system, at least two segments and the journal, at most 5 %.",
    ),
    Key::integer(
        "broker.fetch_bytes_max",
        55 * MIB,
        KIB,
        i32::MAX as i64,
        "Largest answer to one fetch; the first batch is sent even if it is larger.",
    )
    .sets("fetch.max.bytes"),
    Key::integer(
        "broker.fetch_sessions_max",
        1000,
        0,
        100_000,
        "Kafka consumers for which the broker remembers what they read, so that their fetches name only changes.",
    )
    .sets("max.incremental.fetch.session.cache.slots"),
    Key::new(
        "broker.internal.address",
        Kind::Address,
        Default::Text("127.0.0.1:9190"),
        "Address of the gRPC listener for other brokers and gateways.",
    )
    .in_cluster_only(),
    Key::new(
        "broker.internal.advertised_host",
        Kind::Host,
        Default::HostOf("broker.internal.address"),
        "Host that other brokers and gateways are told to connect to.",
    )
    .in_cluster_only(),
    Key::integer(
        "broker.internal.advertised_port",
        0,
        0,
        65_535,
        "Port that other brokers and gateways are told to connect to; 0 is the port listened on.",
    )
    .in_cluster_only(),
    Key::new(
        "broker.kafka.address",
        Kind::Address,
        Default::Text("127.0.0.1:9092"),
        "Address of the Kafka listener.",
    ),
    Key::new(
        "broker.kafka.advertised_host",
        Kind::Host,
        Default::HostOf("broker.kafka.address"),
        "Host that clients are told to connect to.",
    ),
    Key::integer(
        "broker.kafka.advertised_port",
        0,
        0,
        65_535,
        "Port that clients are told to connect to; 0 is the port listened on.",
    ),
    Key::new(
        "broker.kafka.runtimes",
        Kind::Integer { min: 1, max: 1024 },
        Default::Processors,
        "Threads that serve Kafka connections, each with a runtime of its own.",
    ),
    Key::integer(
        "broker.kafka.frame_bytes_max",
        100 * MIB,
        64 * KIB,
        GIB,
        "Largest request a client may send.",
    )
    .sets("socket.request.max.bytes"),
    Key::integer(
        "broker.kafka.in_flight_max",
        16,
        1,
        10_000,
        "Requests of one connection that may be worked on at a time; further ones wait in the socket.",
    ),
    Key::integer(
        "broker.kafka.request_bytes_max",
        256 * MIB,
        64 * KIB,
        4 * GIB - 1,
        "Memory for requests of all connections; at the limit further ones wait in their sockets, in order. One more of the largest size may be over it.",
    ),
    Key::integer(
        "broker.kafka.unsent_bytes_max",
        256 * MIB,
        MIB,
        4 * GIB - 1,
        "Memory for answers that clients have not taken yet; fetches are answered with less as it fills, and at the limit no request is begun.",
    ),
    Key::integer(
        "broker.kafka.connections_max",
        16 * 1024,
        1,
        1_000_000,
        "Kafka connections open at a time; further ones are closed at once.",
    )
    .sets("max.connections"),
    Key::integer(
        "broker.kafka.connections_per_ip_max",
        1_000_000,
        1,
        1_000_000,
        "Kafka connections of one IP address open at a time; further ones are closed at once.",
    )
    .sets("max.connections.per.ip"),
    Key::integer(
        "broker.kafka.idle_timeout_ms",
        600 * SECOND_MS,
        100,
        DAY_MS,
        "A Kafka connection on which nothing moves for this long is closed.",
    )
    .sets("connections.max.idle.ms"),
    Key::integer(
        "broker.log.segment_bytes",
        GIB,
        MIB,
        SEGMENT_BYTES_MAX,
        "A segment file is closed before it grows beyond this.",
    )
    .sets("log.segment.bytes"),
    Key::integer(
        "broker.log.segment_ms",
        7 * DAY_MS,
        1,
        UNBOUNDED,
        "A segment is closed when its first record is this old.",
    )
    .sets("log.roll.ms"),
    Key::integer(
        "broker.log.index_interval_bytes",
        4 * KIB,
        0,
        SEGMENT_BYTES_MAX,
        "Log bytes between two entries of the offset index.",
    )
    .sets("log.index.interval.bytes"),
    Key::integer(
        "broker.log.retention_ms",
        7 * DAY_MS,
        -1,
        UNBOUNDED,
        "Segments whose newest record is older than this are deleted; -1 keeps them for ever.",
    )
    .sets("log.retention.ms"),
    Key::integer(
        "broker.log.retention_bytes",
        -1,
        -1,
        UNBOUNDED,
        "The oldest segments are deleted while a partition is larger than this; -1 sets no bound.",
    )
    .sets("log.retention.bytes"),
    Key::integer(
        "broker.log.max_message_bytes",
        MIB + 12,
        KIB,
        GIB,
        "Largest record batch accepted, as stored.",
    )
    .sets("message.max.bytes"),
    Key::new(
        "broker.log.timestamp_type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        Default::Text("CreateTime"),
        "Whose clock a record's timestamp is from: the producer's or the broker's.",
    )
    .sets("log.message.timestamp.type"),
    Key::integer(
        "broker.log.retention_check_interval_ms",
        300 * SECOND_MS,
        100,
        DAY_MS,
        "How often logs are checked for segments to delete.",
    )
    .sets("log.retention.check.interval.ms"),
    Key::integer(
        "broker.journal.file_bytes",
        32 * MIB,
        MIB,
        GIB,
        "Size of one journal file; files are preallocated and reused.",
    ),
    Key::integer(
        "broker.journal.space_bytes_max",
        512 * MIB,
        4 * MIB,
        UNBOUNDED,
        "Most disk space of the journal, at least four files: what bounds the work after a crash.",
    ),
    Key::new(
        "gateway.rack",
        Kind::Name,
        Default::Text(""),
        "Where the gateway stands, as Kafka clients are told.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.heartbeat_interval_ms",
        2 * SECOND_MS,
        100,
        HOUR_MS,
        "How often the gateway shows the controller that it is alive.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.session_timeout_ms",
        9 * SECOND_MS,
        1000,
        HOUR_MS,
        "How long after its last answered heartbeat the gateway counts as alive; as long as the controllers' `broker.session_timeout_ms`, or less.",
    )
    .in_cluster_only(),
    Key::new(
        "gateway.auto_create_topics",
        Kind::Boolean,
        Default::Boolean(true),
        "Whether a Kafka client that asks this gateway for an unknown topic and allows its creation gets it.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.fetch_bytes_max",
        55 * MIB,
        KIB,
        i32::MAX as i64,
        "Largest answer to one fetch of a Kafka client; the first batch is sent even if it is larger.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.fetch_sessions_max",
        1000,
        0,
        100_000,
        "Kafka consumers for which the gateway remembers what they read, so that their fetches name only changes.",
    )
    .in_cluster_only(),
    Key::new(
        "gateway.kafka.address",
        Kind::Address,
        Default::Text("127.0.0.1:9092"),
        "Address of the Kafka listener.",
    )
    .in_cluster_only(),
    Key::new(
        "gateway.kafka.advertised_host",
        Kind::Host,
        Default::HostOf("gateway.kafka.address"),
        "Host that clients are told to connect to.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.kafka.advertised_port",
        0,
        0,
        65_535,
        "Port that clients are told to connect to; 0 is the port listened on.",
    )
    .in_cluster_only(),
    Key::new(
        "gateway.kafka.runtimes",
        Kind::Integer { min: 1, max: 1024 },
        Default::Processors,
        "Threads that serve Kafka connections, each with a runtime of its own.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.kafka.frame_bytes_max",
        64 * MIB,
        64 * KIB,
        GIB,
        "Largest request a client may send.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.kafka.in_flight_max",
        16,
        1,
        10_000,
        "Requests of one connection that may be worked on at a time; further ones wait in the socket.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.kafka.request_bytes_max",
        96 * MIB,
        64 * KIB,
        4 * GIB - 1,
        "Memory for requests of all connections, which hold it until the brokers have answered; at the limit further ones wait in their sockets, in order. One more of the largest size may be over it.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.kafka.unsent_bytes_max",
        256 * MIB,
        MIB,
        4 * GIB - 1,
        "Memory for answers that clients have not taken yet; fetches are answered with less as it fills, and at the limit no request is begun.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.kafka.connections_max",
        16 * 1024,
        1,
        1_000_000,
        "Kafka connections open at a time; further ones are closed at once.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.kafka.connections_per_ip_max",
        1_000_000,
        1,
        1_000_000,
        "Kafka connections of one IP address open at a time; further ones are closed at once.",
    )
    .in_cluster_only(),
    Key::integer(
        "gateway.kafka.idle_timeout_ms",
        600 * SECOND_MS,
        100,
        DAY_MS,
        "A Kafka connection on which nothing moves for this long is closed.",
    )
    .in_cluster_only(),
    Key::new(
        "gateway.grpc.address",
        Kind::Address,
        Default::Text("127.0.0.1:50051"),
        "Address of the public gRPC listener.",
    ),
    Key::integer(
        "gateway.grpc.connections_max",
        10_000,
        1,
        1_000_000,
        "gRPC connections open at a time; further ones are closed at once.",
    ),
    Key::integer(
        "gateway.grpc.calls_max",
        8192,
        1,
        1_000_000,
        "Calls served at a time, streams included; further ones are refused at once with RESOURCE_EXHAUSTED.",
    ),
    Key::integer(
        "gateway.grpc.request_bytes_max",
        256 * MIB,
        72 * MIB,
        4 * GIB - 1,
        "Memory for request messages of all gRPC calls; one may have half of what is left, or its call is refused with RESOURCE_EXHAUSTED.",
    ),
    Key::new(
        "edge.kafka.address",
        Kind::Address,
        Default::Text("127.0.0.1:9092"),
        "Address of the edge for Kafka clients.",
    )
    .in_cluster_only(),
    Key::new(
        "edge.kafka.gateways",
        Kind::Endpoints,
        Default::Text("gateway:9092"),
        "Where gateways serve Kafka clients: addresses, comma-separated; a host name stands for all the addresses it has.",
    )
    .in_cluster_only(),
    Key::new(
        "edge.grpc.address",
        Kind::Address,
        Default::Text("127.0.0.1:50051"),
        "Address of the edge for gRPC clients.",
    )
    .in_cluster_only(),
    Key::new(
        "edge.grpc.gateways",
        Kind::Endpoints,
        Default::Text("gateway:50051"),
        "Where gateways serve gRPC clients: addresses, comma-separated; a host name stands for all the addresses it has.",
    )
    .in_cluster_only(),
    Key::new(
        "edge.http.address",
        Kind::Address,
        Default::Text("127.0.0.1:8081"),
        "Address of the edge for the HTTP listener of gateways, with metrics and health.",
    )
    .in_cluster_only(),
    Key::new(
        "edge.http.gateways",
        Kind::Endpoints,
        Default::Text("gateway:8080"),
        "Where gateways serve the HTTP listener of gateways, with metrics and health: addresses, comma-separated; a host name stands for all the addresses it has.",
    )
    .in_cluster_only(),
    Key::integer(
        "edge.connections_max",
        10_000,
        1,
        1_000_000,
        "Connections open at a time on each listener of the edge; further ones wait to be accepted.",
    )
    .in_cluster_only(),
    Key::new(
        "coordinator.rack",
        Kind::Name,
        Default::Text(""),
        "Where the coordinator stands, as Kafka clients are told.",
    )
    .in_cluster_only(),
    Key::integer(
        "coordinator.heartbeat_interval_ms",
        2 * SECOND_MS,
        100,
        HOUR_MS,
        "How often the coordinator shows the controller that it is alive.",
    ),
    Key::integer(
        "coordinator.session_timeout_ms",
        9 * SECOND_MS,
        1000,
        HOUR_MS,
        "How long after its last answered heartbeat the coordinator counts as alive; as long as the controllers' `broker.session_timeout_ms`, or less.",
    ),
    Key::new(
        "coordinator.auto_create_topics",
        Kind::Boolean,
        Default::Boolean(true),
        "Whether a Kafka client that asks this coordinator for an unknown topic and allows its creation gets it.",
    )
    .in_cluster_only(),
    Key::new(
        "coordinator.kafka.address",
        Kind::Address,
        Default::Text("127.0.0.1:9092"),
        "Address of the Kafka listener.",
    )
    .in_cluster_only(),
    Key::new(
        "coordinator.kafka.advertised_host",
        Kind::Host,
        Default::HostOf("coordinator.kafka.address"),
        "Host that clients are told to connect to.",
    )
    .in_cluster_only(),
    Key::integer(
        "coordinator.kafka.advertised_port",
        0,
        0,
        65_535,
        "Port that clients are told to connect to; 0 is the port listened on.",
    )
    .in_cluster_only(),
    Key::new(
        "coordinator.internal.address",
        Kind::Address,
        Default::Text("127.0.0.1:9190"),
        "Address of the gRPC listener for gateways.",
    )
    .in_cluster_only(),
    Key::new(
        "coordinator.internal.advertised_host",
        Kind::Host,
        Default::HostOf("coordinator.internal.address"),
        "Host that gateways are told to connect to.",
    )
    .in_cluster_only(),
    Key::integer(
        "coordinator.internal.advertised_port",
        0,
        0,
        65_535,
        "Port that gateways are told to connect to; 0 is the port listened on.",
    )
    .in_cluster_only(),
    Key::integer(
        "coordinator.groups.members_max",
        10_000,
        1,
        1_000_000,
        "Members of one group. Kafka's `group.max.size`.",
    ),
    Key::integer(
        "coordinator.groups.initial_rebalance_delay_ms",
        3 * SECOND_MS,
        0,
        HOUR_MS,
        "How long an empty group of the classic protocol waits for more members when the first one joins. Kafka's `group.initial.rebalance.delay.ms`.",
    ),
    Key::integer(
        "coordinator.groups.session_timeout_min_ms",
        6 * SECOND_MS,
        1,
        DAY_MS,
        "Shortest session timeout that a member of the classic protocol may ask for. Kafka's `group.min.session.timeout.ms`.",
    ),
    Key::integer(
        "coordinator.groups.session_timeout_max_ms",
        1_800 * SECOND_MS,
        1,
        DAY_MS,
        "Longest session timeout that a member of the classic protocol may ask for. Kafka's `group.max.session.timeout.ms`.",
    ),
    Key::integer(
        "coordinator.groups.consumer_heartbeat_interval_ms",
        5 * SECOND_MS,
        100,
        HOUR_MS,
        "How often members of the consumer protocol are told to send heartbeats. Kafka's `group.consumer.heartbeat.interval.ms`.",
    ),
    Key::integer(
        "coordinator.groups.consumer_session_timeout_ms",
        45 * SECOND_MS,
        200,
        DAY_MS,
        "How long a member of the consumer protocol may be silent. Kafka's `group.consumer.session.timeout.ms`.",
    ),
    Key::integer(
        "coordinator.groups.offsets_retention_ms",
        7 * DAY_MS,
        1,
        UNBOUNDED,
        "How long committed offsets outlive the last use of their group. Kafka's `offsets.retention.minutes`.",
    ),
    Key::integer(
        "coordinator.groups.offset_metadata_bytes_max",
        4 * KIB,
        0,
        MIB / 2,
        "Longest text that may be kept with a committed offset. Kafka's `offset.metadata.max.bytes`.",
    ),
];
