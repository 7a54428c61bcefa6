//! The broker as one of the nodes that answer for the whole cluster.

use std::sync::Arc;

use thalweg_controller_client::ControllerClient;
use thalweg_kafka_cluster::{Member, Refusal, View};
use thalweg_metadata_core::config::{Entry, describe_topic};
use thalweg_metadata_core::{ConfigTarget, Image};
use thalweg_rpc::Error;
use thalweg_types::{LogIndex, ProducerId, TopicId};

use crate::broker::Broker;

impl Member for Broker {
    fn image(&self) -> Arc<Image> {
        Self::image(self)
    }

    fn view<'a>(&'a self, image: &'a Image) -> View<'a> {
        View::direct(image, self.node_id())
    }

    fn controller(&self) -> &ControllerClient {
        Self::controller(self)
    }

    /// Until its partitions go by it as well.
    async fn served(&self, index: LogIndex) {
        Self::served(self, index).await;
    }

    fn auto_create_topics(&self) -> bool {
        self.options().auto_create_topics
    }

    fn topic_configs(&self, topic: TopicId) -> Vec<Entry> {
        let settings = &self.options().static_configs;
        describe_topic(&Self::image(self), topic, Some(self.node_id()), settings)
    }

    async fn describe_configs(&self, target: &ConfigTarget) -> Result<Vec<Entry>, Refusal> {
        Self::describe_configs(self, target).map_err(|error| (error.code(), error.to_string()))
    }

    async fn new_producer_id(&self) -> Result<ProducerId, Error> {
        Self::new_producer_id(self).await
    }

    fn now_ms(&self) -> i64 {
        Self::now_ms(self)
    }
}
