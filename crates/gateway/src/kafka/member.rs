//! The gateway as one of the nodes that answer for the whole cluster. Its clients are shown gateways only.

use std::sync::Arc;

use thalweg_controller_client::ControllerClient;
use thalweg_kafka_cluster::{Listed, Member, Refusal, View};
use thalweg_metadata_core::config::{Entry, describe_topic};
use thalweg_metadata_core::{ConfigTarget, Image, NodeRole, StaticConfigs};
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, LogIndex, ProducerId, TopicId};

use super::{Advertised, KafkaBackend};
use crate::port::BrokerPort as _;

impl Member for KafkaBackend {
    fn image(&self) -> Arc<Image> {
        self.parts.feed.image()
    }

    fn view<'a>(&'a self, image: &'a Image) -> View<'a> {
        let Advertised { host, port, rack } = &self.parts.advertised;
        let me = Listed {
            id: self.node_id(),
            host: host.into(),
            port: *port,
            rack: rack.as_deref().map(Into::into),
            fenced: false,
        };
        View::through_gateways(image, me)
    }

    fn controller(&self) -> &ControllerClient {
        &self.parts.controller
    }

    /// Until the brokers go by it: what was created can be written to by the client's next request.
    async fn served(&self, index: LogIndex) {
        self.parts.brokers.served(index).await;
    }

    fn auto_create_topics(&self) -> bool {
        self.options.auto_create_topics
    }

    /// As the cluster decides them; what a single broker's settings file adds is known to that broker.
    fn topic_configs(&self, topic: TopicId) -> Vec<Entry> {
        describe_topic(&self.image(), topic, None, &StaticConfigs::default())
    }

    async fn describe_configs(&self, target: &ConfigTarget) -> Result<Vec<Entry>, Refusal> {
        if let ConfigTarget::Broker(id) = target
            && self.image().node(*id).is_some_and(|node| node.role == NodeRole::Gateway)
        {
            let message = format!("node {id} is a gateway and has no configs: ask for a broker's");
            return Err((ErrorCode::InvalidRequest, message));
        }
        let entries = self.parts.brokers.describe_configs(target.clone()).await;
        entries.map_err(|error| (error.code, error.message))
    }

    async fn new_producer_id(&self) -> Result<ProducerId, Error> {
        // A new id begins with epoch 0, whoever hands it out.
        self.parts.brokers.init_producer().await.map(|(id, _)| id)
    }

    fn now_ms(&self) -> i64 {
        self.parts.clock.now().0
    }
}
