//! What a broker is told at its start.

use std::time::Duration;

use thalweg_metadata_core::{Endpoint, StaticConfigs};
use thalweg_types::IncarnationId;

#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// This life of the process.
    pub incarnation: IncarnationId,
    /// Where clients and other nodes reach this broker, as they are told.
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    /// Broker configs from the settings, under Kafka's names: the defaults of topic configs.
    pub static_configs: StaticConfigs,
    /// Whether asking for the metadata of a topic may create it (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Bound of one fetch answer (`fetch.max.bytes`).
    pub fetch_bytes_max: usize,
    /// Bytes of records in answers to Kafka consumers that these have not taken yet.
    pub fetch_memory_bytes_max: usize,
    /// Fetch sessions of Kafka consumers kept at a time (`max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions_max: usize,
    /// How long a producer waits for room in the journal before it is refused.
    pub room_patience: Duration,
    pub heartbeat_interval: Duration,
    /// How long the controller waits for a heartbeat before it counts this broker as dead; the broker itself waits a little less (R11).
    pub session_timeout: Duration,
    /// How long the controller waits for one after its connection to this broker has ended.
    pub return_timeout: Duration,
    /// How long an in-sync replica may lack records before the leader wants it out (`replica.lag.time.max.ms`).
    pub replica_lag_time_max: Duration,
    /// Between two looks for what retention takes (`log.retention.check.interval.ms`).
    pub retention_check_interval: Duration,
}

impl BrokerOptions {
    /// Kafka's default of `fetch.max.bytes`.
    pub const FETCH_BYTES_MAX: usize = 55 * 1024 * 1024;
    /// Three quarters of the listener's bound of all answers.
    pub const FETCH_MEMORY_BYTES_MAX: usize = 192 * 1024 * 1024;
    /// Kafka's default of `max.incremental.fetch.session.cache.slots`.
    pub const FETCH_SESSIONS_MAX: usize = 1000;
    /// Half of the 30 s a Kafka client waits for an answer by default, so that it still hears the refusal.
    pub const ROOM_PATIENCE: Duration = Duration::from_secs(15);
    pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
    /// Kafka's default.
    pub const SESSION_TIMEOUT: Duration = Duration::from_secs(9);
    pub const RETURN_TIMEOUT: Duration = Duration::from_secs(1);
    /// Kafka's default.
    pub const REPLICA_LAG_TIME_MAX: Duration = Duration::from_secs(30);
    /// Kafka's default.
    pub const RETENTION_CHECK_INTERVAL: Duration = Duration::from_secs(300);

    pub fn new(incarnation: IncarnationId, endpoints: Vec<Endpoint>) -> Self {
        Self {
            incarnation,
            endpoints,
            rack: None,
            static_configs: StaticConfigs::default(),
            auto_create_topics: true,
            fetch_bytes_max: Self::FETCH_BYTES_MAX,
            fetch_memory_bytes_max: Self::FETCH_MEMORY_BYTES_MAX,
            fetch_sessions_max: Self::FETCH_SESSIONS_MAX,
            room_patience: Self::ROOM_PATIENCE,
            heartbeat_interval: Self::HEARTBEAT_INTERVAL,
            session_timeout: Self::SESSION_TIMEOUT,
            return_timeout: Self::RETURN_TIMEOUT,
            replica_lag_time_max: Self::REPLICA_LAG_TIME_MAX,
            retention_check_interval: Self::RETENTION_CHECK_INTERVAL,
        }
    }
}
