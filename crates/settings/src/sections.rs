//! The typed result: what the services are given.
//!
//! These structs hold no defaults; the catalogue does. A field without a catalogue entry, or the other way round, fails every load,
//! so the two cannot drift apart.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use thalweg_types::{Durability, TimestampType};

use crate::endpoint::{Endpoints, HostPort, Voter, Voters};

/// Everything that can be configured. What must be set, but for another service than the one that was loaded, is empty or 0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub standalone: Standalone,
    pub cluster: Cluster,
    pub operations: Operations,
    pub controller: Controller,
    pub broker: Broker,
    pub gateway: Gateway,
    pub edge: Edge,
    pub coordinator: Coordinator,
}

/// The whole system in one process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standalone {
    pub data_dir: PathBuf,
}

/// What every process of a cluster must know of the others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    #[serde(deserialize_with = "endpoints")]
    pub controllers: Vec<HostPort>,
}

/// What operators see: logs, metrics, health.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    pub address: SocketAddr,
    #[serde(deserialize_with = "from_text")]
    pub log_format: LogFormat,
    pub log_filter: String,
    pub shutdown_timeout_ms: u64,
}

/// The cluster's single source of truth.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// One of the voters' ids.
    pub node_id: i32,
    #[serde(deserialize_with = "voters")]
    pub voters: Vec<Voter>,
    pub data_dir: PathBuf,
    pub internal: Internal,
    pub snapshot_after_entries: u64,
}

/// A gRPC listener for other services.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Internal {
    pub address: SocketAddr,
}

/// The same where others are told the address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvertisedInternal {
    pub address: SocketAddr,
    pub advertised_host: String,
    /// 0 = the port listened on.
    pub advertised_port: u16,
}

/// The node that stores partitions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    pub data_dir: PathBuf,
    /// Empty = none.
    pub rack: String,
    pub heartbeat_interval_ms: u64,
    pub session_timeout_ms: u64,
    pub return_timeout_ms: u64,
    #[serde(deserialize_with = "from_text")]
    pub durability: Durability,
    pub num_partitions: i32,
    pub default_replication_factor: i32,
    pub offsets_topic_partitions: i32,
    pub offsets_topic_replication_factor: i32,
    pub auto_create_topics: bool,
    pub tail_bytes_max: u64,
    /// -1 = automatic.
    pub disk_reserve_bytes: i64,
    pub fetch_bytes_max: usize,
    pub fetch_sessions_max: usize,
    pub internal: AdvertisedInternal,
    pub kafka: Kafka,
    pub log: Log,
    pub journal: Journal,
}

/// The Kafka listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    pub address: SocketAddr,
    pub advertised_host: String,
    /// 0 = the port listened on.
    pub advertised_port: u16,
    pub runtimes: usize,
    pub frame_bytes_max: usize,
    pub in_flight_max: usize,
    pub request_bytes_max: usize,
    pub unsent_bytes_max: usize,
    pub connections_max: usize,
    pub connections_per_ip_max: usize,
    pub idle_timeout_ms: u64,
}

/// Defaults of topic configs, and the upkeep of logs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub index_interval_bytes: u32,
    /// -1 = for ever.
    pub retention_ms: i64,
    /// -1 = no bound.
    pub retention_bytes: i64,
    pub max_message_bytes: u32,
    #[serde(deserialize_with = "from_text")]
    pub timestamp_type: TimestampType,
    pub retention_check_interval_ms: u64,
}

/// The journal of a log directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    pub file_bytes: u64,
    pub space_bytes_max: u64,
}

/// The public edge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Empty: none.
    pub rack: String,
    pub heartbeat_interval_ms: u64,
    pub session_timeout_ms: u64,
    pub auto_create_topics: bool,
    pub fetch_bytes_max: usize,
    pub fetch_sessions_max: usize,
    pub kafka: Kafka,
    pub grpc: Grpc,
}

/// The public gRPC listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grpc {
    pub address: SocketAddr,
    pub connections_max: usize,
    pub calls_max: usize,
    pub request_bytes_max: usize,
}

/// One address in front of several gateways.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    pub kafka: EdgeListener,
    pub grpc: EdgeListener,
    pub http: EdgeListener,
    /// Of each listener.
    pub connections_max: usize,
}

/// Where connections come in, and which gateways they are passed on to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeListener {
    pub address: SocketAddr,
    #[serde(deserialize_with = "endpoints")]
    pub gateways: Vec<HostPort>,
}

/// The node that keeps groups and their offsets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordinator {
    /// Empty = none.
    pub rack: String,
    pub heartbeat_interval_ms: u64,
    pub session_timeout_ms: u64,
    pub auto_create_topics: bool,
    pub kafka: AdvertisedKafka,
    pub internal: AdvertisedInternal,
    pub groups: Groups,
}

/// A Kafka listener of which only the address is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvertisedKafka {
    pub address: SocketAddr,
    pub advertised_host: String,
    /// 0 = the port listened on.
    pub advertised_port: u16,
}

/// Limits and times of groups.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    pub members_max: usize,
    pub initial_rebalance_delay_ms: u64,
    pub session_timeout_min_ms: i32,
    pub session_timeout_max_ms: i32,
    pub consumer_heartbeat_interval_ms: u64,
    pub consumer_session_timeout_ms: u64,
    pub offsets_retention_ms: u64,
    pub offset_metadata_bytes_max: usize,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    pub const NAMES: &'static [&'static str] = &["text", "json"];
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is not one of: text, json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Reads a choice by its config spelling.
fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HostPort>, D::Error> {
    from_text(deserializer).map(|Endpoints(endpoints)| endpoints)
}

fn voters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Voter>, D::Error> {
    from_text(deserializer).map(|Voters(voters)| voters)
}
