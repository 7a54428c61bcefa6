//! The coordinator as one of the nodes that answer for the whole cluster.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use thalweg_controller_client::ControllerClient;
use thalweg_kafka_cluster::{Member, Refusal, View, entries_told};
use thalweg_metadata_core::config::{Entry, StaticConfigs, describe_all_brokers, describe_topic};
use thalweg_metadata_core::{ConfigTarget, Image};
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, LogIndex, ProducerId, TopicId};
use tokio::time::timeout;

use crate::coordinator::Coordinator;

/// Longest wait for this node's metadata. One that takes longer is behind for everybody.
const SERVED_WAIT_MAX: Duration = Duration::from_secs(5);

impl Member for Coordinator {
    fn image(&self) -> Arc<Image> {
        self.feed.image()
    }

    fn view<'a>(&'a self, image: &'a Image) -> View<'a> {
        View::direct(image, self.node_id())
    }

    fn controller(&self) -> &ControllerClient {
        &self.controller
    }

    async fn served(&self, index: LogIndex) {
        if timeout(SERVED_WAIT_MAX, self.feed.wait_for(index)).await.is_err() {
            tracing::warn!(%index, "the metadata is taking long to arrive");
        }
    }

    fn auto_create_topics(&self) -> bool {
        self.options.auto_create_topics
    }

    /// What brokers have in their settings files is not known here.
    fn topic_configs(&self, topic: TopicId) -> Vec<Entry> {
        describe_topic(&self.feed.image(), topic, None, &StaticConfigs::default())
    }

    /// From any broker that lives, or of a broker from itself.
    async fn describe_configs(&self, target: &ConfigTarget) -> Result<Vec<Entry>, Refusal> {
        use proto::describe_configs_request::Target;
        let image = self.feed.image();
        let (wire_target, only) = match target {
            ConfigTarget::Topic(name) => (Target::Topic(name.clone()), None),
            ConfigTarget::Broker(id) => (Target::Broker(id.0), Some(*id)),
            ConfigTarget::Cluster => return Ok(describe_all_brokers(&image)),
        };
        let request = proto::DescribeConfigsRequest { target: Some(wire_target) };
        let ask = |mut client: crate::brokers::Client| {
            let request = request.clone();
            async move { client.describe_configs(request).await }.boxed()
        };
        match self.appends.brokers().ask_any(&image, only, ask).await {
            Ok(answer) => Ok(entries_told(target, answer.configs)),
            Err(error) => Err((error.code, error.message)),
        }
    }

    /// Brokers give them out; one of them is asked.
    async fn new_producer_id(&self) -> Result<ProducerId, Error> {
        let ask = |mut client: crate::brokers::Client| {
            async move { client.init_producer(proto::InitProducerRequest {}).await }.boxed()
        };
        let answer = self.appends.brokers().ask_any(&self.feed.image(), None, ask).await?;
        if answer.producer_id < 0 || answer.producer_epoch != 0 {
            let message = format!("a broker gave out producer id {}", answer.producer_id);
            return Err(Error::new(ErrorCode::UnknownServerError, message));
        }
        Ok(ProducerId(answer.producer_id))
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().0
    }
}
