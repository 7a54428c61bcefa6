//! Every key there is: its name, default, allowed values and meaning.
//!
//! Names are dotted paths of snake-case words, units last. A key that Kafka knows as a broker config carries its name there.

mod keys;

use std::fmt;

pub use keys::KEYS;

/// A process that reads settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// A whole system in one process.
    Standalone,
    Controller,
    Broker,
    Coordinator,
    Gateway,
    /// One address in front of several gateways.
    Edge,
}

/// One configuration key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path, as in the TOML file.
    pub path: &'static str,
    pub kind: Kind,
    pub default: Default,
    /// One or two sentences for the reference.
    pub doc: &'static str,
    /// The broker config of Kafka that this key sets: what admin clients are shown, and what topics take their defaults from.
    pub broker_config: Option<&'static str>,
    /// Only for services that are processes of their own: in one process nobody asks.
    pub in_cluster_only: bool,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within inclusive bounds.
    Integer {
        min: i64,
        max: i64,
    },
    Boolean,
    /// Exactly one of these words.
    Choice(&'static [&'static str]),
    /// IP address and port to listen on; port 0 lets the system choose.
    Address,
    /// A host name or IP address that clients are told to connect to.
    Host,
    /// A path of the file system.
    Path,
    /// Where processes are reached: `host:port`, comma-separated.
    Endpoints,
    /// The controllers that vote: `id@host:port`, comma-separated.
    Voters,
    /// Letters, digits, `.`, `_` and `-`; empty for none.
    Name,
    /// A filter of log lines in the notation of `tracing` (`info`, `thalweg_storage=debug,warn`).
    Filter,
}

/// Where the value comes from when nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// There is none: it must be set for every service that reads the key. The others see it empty, or as 0.
    Required,
    Integer(i64),
    Boolean(bool),
    Text(&'static str),
    /// The number of processors this process may use.
    Processors,
    /// The host of the address under another key, or this machine's host name when that is every interface.
    HostOf(&'static str),
}

impl Key {
    const fn new(path: &'static str, kind: Kind, default: Default, doc: &'static str) -> Self {
        Self { path, kind, default, doc, broker_config: None, in_cluster_only: false }
    }

    const fn integer(
        path: &'static str,
        default: i64,
        min: i64,
        max: i64,
        doc: &'static str,
    ) -> Self {
        Self::new(path, Kind::Integer { min, max }, Default::Integer(default), doc)
    }

    /// Kafka's name of this key.
    const fn sets(mut self, name: &'static str) -> Self {
        self.broker_config = Some(name);
        self
    }

    /// Leaves the key out where all services are one process.
    const fn in_cluster_only(mut self) -> Self {
        self.in_cluster_only = true;
        self
    }

    /// Whether `service` does anything with it. What another service reads may be set all the same, so that one file serves them all.
    pub fn is_read_by(&self, service: Service) -> bool {
        let section = self.path.split('.').next().unwrap_or_default();
        match (service, section) {
            (_, "operations") => true,
            (Service::Standalone, _) => !self.in_cluster_only,
            (Service::Controller, "controller") => true,
            // The defaults of topics and brokers that the controller decides by.
            (Service::Controller, "broker") => self.broker_config.is_some(),
            (Service::Broker, "broker" | "cluster") => true,
            (Service::Coordinator, "coordinator" | "cluster") => true,
            (Service::Gateway, "gateway" | "cluster") => true,
            (Service::Edge, "edge") => true,
            _ => false,
        }
    }

    /// The environment variable that sets this key.
    pub fn variable(&self) -> String {
        format!("{PREFIX}__{}", self.path.replace('.', "__").to_uppercase())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Controller => "controller",
            Self::Broker => "broker",
            Self::Coordinator => "coordinator",
            Self::Gateway => "gateway",
            Self::Edge => "edge",
        })
    }
}

/// What must hold between two keys: `small` times `factor` is at most `large`.
#[derive(Debug, Clone, Copy)]
pub struct Relation {
    pub small: &'static str,
    pub factor: i64,
    pub large: &'static str,
}

impl Relation {
    const fn new(small: &'static str, factor: i64, large: &'static str) -> Self {
        Self { small, factor, large }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.factor {
            1 => write!(f, "at most `{}`", self.large),
            factor => write!(f, "at most 1/{factor} of `{}`", self.large),
        }
    }
}

/// Between values that are each in their own range.
pub const RELATIONS: &[Relation] = &[
    // One lost heartbeat is not the end of a session.
    Relation::new("broker.heartbeat_interval_ms", 2, "broker.session_timeout_ms"),
    Relation::new("broker.return_timeout_ms", 1, "broker.session_timeout_ms"),
    // One file being written, one being flushed, one being emptied, one being prepared.
    Relation::new("broker.journal.file_bytes", 4, "broker.journal.space_bytes_max"),
    // A batch and its frame fit into one journal file.
    Relation::new("broker.log.max_message_bytes", 2, "broker.journal.file_bytes"),
    Relation::new("broker.log.max_message_bytes", 1, "broker.log.segment_bytes"),
    Relation::new("broker.log.max_message_bytes", 1, "broker.kafka.frame_bytes_max"),
    Relation::new("broker.kafka.frame_bytes_max", 1, "broker.kafka.request_bytes_max"),
    Relation::new("coordinator.heartbeat_interval_ms", 2, "coordinator.session_timeout_ms"),
    Relation::new(
        "coordinator.groups.session_timeout_min_ms",
        1,
        "coordinator.groups.session_timeout_max_ms",
    ),
    Relation::new(
        "coordinator.groups.consumer_heartbeat_interval_ms",
        2,
        "coordinator.groups.consumer_session_timeout_ms",
    ),
    Relation::new("gateway.kafka.frame_bytes_max", 1, "gateway.kafka.request_bytes_max"),
    Relation::new("gateway.heartbeat_interval_ms", 2, "gateway.session_timeout_ms"),
];

/// First word of every environment variable.
pub const PREFIX: &str = "THALWEG";

/// The key called `path`.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}
