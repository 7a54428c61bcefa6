//! The typed configs of one broker, those that are not defaults of topics.

use thalweg_types::NodeId;

use super::StaticConfigs;
use super::describe::Resolver;
use super::topic::Values;
use crate::image::Image;

/// Kafka's name of the selector that goes by racks.
pub(super) const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
/// Kafka's name of the selector that knows the leader only.
pub(super) const LEADER_ONLY: &str = "org.apache.kafka.common.replica.LeaderSelector";

/// What a broker's configs amount to, as they hold now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerConfig {
    /// `replica.selector.class`: readers are sent to an in-sync replica in their rack (KIP-392).
    pub reads_by_rack: bool,
    /// `leader.replication.throttled.rate`: bytes a second that this broker pushes to replicas that are catching up.
    pub leader_catch_up_rate: u64,
    /// `follower.replication.throttled.rate`: bytes a second that replicas here take in while they are catching up.
    pub follower_catch_up_rate: u64,
}

impl BrokerConfig {
    pub fn resolve(image: &Image, broker: NodeId, settings: &StaticConfigs) -> Self {
        let resolver = Resolver { image, topic: None, broker: Some(broker), settings };
        let values = Values(resolver);
        let rate = |name| u64::try_from(values.number(name)).unwrap_or(0);
        Self {
            reads_by_rack: values.text("replica.selector.class") == RACK_AWARE,
            leader_catch_up_rate: rate("leader.replication.throttled.rate"),
            follower_catch_up_rate: rate("follower.replication.throttled.rate"),
        }
    }
}

impl Default for BrokerConfig {
    /// As where nothing is set.
    fn default() -> Self {
        Self::resolve(&Image::default(), NodeId::NONE, &StaticConfigs::default())
    }
}
