//! A controller over gRPC, and three brokers that are nothing but their registrations.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use thalweg_controller::{Controller, ControllerOptions, Handle};
use thalweg_env::{OsRandom, fs::RealFs};
use thalweg_metadata_core::Partition;
use thalweg_proto::common::v1::ErrorDetail;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_client::ControllerClient;
use thalweg_proto::internal::metadata::v1 as metadata;
use thalweg_rpc::{Error, Routes, ServerHandle, ServerOptions, channel_in_memory};
use thalweg_types::{ErrorCode, PartitionIndex};
use tonic::transport::Channel;

pub(crate) const TOPIC: &str = "orders";

pub(crate) struct Cluster {
    handle: Handle,
    server: ServerHandle,
    pub(crate) client: ControllerClient<Channel>,
    /// Their node ids are 1 and following, in this order.
    pub(crate) brokers: Vec<proto::RegisterNodeResponse>,
}

impl Cluster {
    /// With `count` live brokers.
    pub(crate) async fn start(dir: &Path, count: u8) -> Self {
        let options = ControllerOptions::new(dir, Arc::new(RealFs), Arc::new(OsRandom));
        let handle = Controller::start(options).await.unwrap();
        let routes = Routes::new().with(handle.service());
        let server = thalweg_rpc::Server::new(ServerOptions::default());
        let (server, connector) = server.serve_in_memory(routes);
        let client = ControllerClient::new(channel_in_memory(connector));
        let mut cluster = Self { handle, server, client, brokers: Vec::new() };
        for disk in 1..=count {
            let registered = cluster.register(disk, 1).await;
            assert_eq!(registered.node_id, i32::from(disk));
            cluster.brokers.push(registered);
            assert!(!cluster.beat(disk.into(), false).await.fenced);
        }
        cluster
    }

    /// Begins a session of a disk's node, as another process each life.
    pub(crate) async fn register(&mut self, disk: u8, life: u8) -> proto::RegisterNodeResponse {
        let request = proto::RegisterNodeRequest {
            role: metadata::NodeRole::Broker.into(),
            dir_id: Bytes::from(vec![disk; 16]),
            incarnation: Bytes::from(vec![life; 16]),
            ..Default::default()
        };
        self.client.register_node(request).await.unwrap().into_inner()
    }

    pub(crate) fn epoch(&self, node_id: i32) -> i64 {
        self.brokers[usize::try_from(node_id).unwrap() - 1].broker_epoch
    }

    /// A heartbeat of a broker that has applied everything there is.
    pub(crate) async fn beat(&mut self, node_id: i32, stops: bool) -> proto::HeartbeatResponse {
        let applied = self.applied();
        self.beat_at(node_id, applied, stops).await
    }

    pub(crate) async fn beat_at(
        &mut self,
        node_id: i32,
        applied_index: u64,
        want_shutdown: bool,
    ) -> proto::HeartbeatResponse {
        let heartbeat = proto::HeartbeatRequest {
            node_id,
            broker_epoch: self.epoch(node_id),
            applied_index,
            want_shutdown,
            disk_full: false,
        };
        self.client.heartbeat(heartbeat).await.unwrap().into_inner()
    }

    pub(crate) fn applied(&self) -> u64 {
        self.handle.feed().image().position().index.0
    }

    /// A topic whose partitions have these replicas, with these configs.
    pub(crate) async fn create(&mut self, replicas: &[&[i32]], configs: &[(&str, &str)]) {
        let assignment = |(partition, replicas): (i32, &&[i32])| proto::Assignment {
            partition,
            replicas: replicas.to_vec(),
        };
        let entry = |(name, value): &(&str, &str)| proto::ConfigEntry {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let topic = proto::NewTopic {
            name: TOPIC.to_owned(),
            partition_count: -1,
            replication_factor: -1,
            assignments: (0..).zip(replicas).map(assignment).collect(),
            configs: configs.iter().map(entry).collect(),
        };
        let request = proto::CreateTopicsRequest { topics: vec![topic], validate_only: false };
        let created = self.client.create_topics(request).await.unwrap().into_inner();
        assert!(created.topics[0].error.is_none(), "{created:?}");
    }

    pub(crate) fn partition(&self, index: i32) -> Partition {
        self.handle.feed().image().partition(TOPIC, PartitionIndex(index)).unwrap().clone()
    }

    pub(crate) fn id(&self, partition: i32) -> proto::TopicIdPartition {
        let topic_id = self.handle.feed().image().topic(TOPIC).unwrap().id;
        let topic_id = Bytes::copy_from_slice(topic_id.0.as_bytes());
        proto::TopicIdPartition { topic_id, partition }
    }

    /// What the leader of a partition proposes when it knows the newest state.
    pub(crate) fn proposal(&self, partition: i32, isr: &[i32]) -> proto::Proposal {
        let state = self.partition(partition);
        let member = |node_id: &i32| {
            let known = usize::try_from(*node_id).ok().and_then(|id| self.brokers.get(id - 1));
            let broker_epoch = known.map_or(77, |broker| broker.broker_epoch);
            proto::ProposedMember { node_id: *node_id, broker_epoch }
        };
        proto::Proposal {
            partition: Some(self.id(partition)),
            leader_epoch: state.leader_epoch.0,
            partition_epoch: state.partition_epoch.0,
            isr: isr.iter().map(member).collect(),
            ..Default::default()
        }
    }

    pub(crate) async fn propose(
        &mut self,
        sender: i32,
        proposals: Vec<proto::Proposal>,
    ) -> Vec<Result<metadata::Partition, ErrorCode>> {
        use proto::altered_partition::Result as Altered;
        let (node_id, broker_epoch) = (sender, self.epoch(sender));
        let request = proto::AlterPartitionsRequest { node_id, broker_epoch, proposals };
        let answer = self.client.alter_partitions(request).await.unwrap().into_inner();
        let results = answer.partitions.into_iter().map(|partition| match partition.result {
            Some(Altered::State(state)) => Ok(state),
            error => Err(match error {
                Some(Altered::Error(error)) => code(error),
                _ => panic!("neither a state nor an error"),
            }),
        });
        results.collect()
    }

    pub(crate) async fn stop(self) {
        self.handle.shutdown().await;
        self.server.shutdown().await;
    }
}

/// The code of a refusal, which must say that nothing was changed.
pub(crate) fn code(detail: ErrorDetail) -> ErrorCode {
    let error = Error::from_detail(detail);
    assert_eq!(error.outcome, thalweg_types::Outcome::NotApplied, "{error}");
    error.code
}
