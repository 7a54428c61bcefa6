//! The log of one partition, at whichever broker leads it at the time.

mod appends;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use thalweg_coordinator_runtime::{Condition, LogEnds, LogPort, PortError};
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::Feed;
use thalweg_proto::common::v1::IsolationLevel;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, LeaderEpoch, NodeId, Offset, Outcome, TopicPartition};
use tokio::time::timeout;

pub(crate) use appends::Appends;

use crate::brokers::{Client, unavailable};

/// Longest time for the leader to say where the log stands, or to begin to send what is in it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest time for an append to be committed. After that its outcome is unknown, and the partition is loaded anew: groups wait no longer.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(10);

/// Of one read while loading. Records of it are replayed in one go: some milliseconds.
const READ_BYTES_MAX: u32 = 2 << 20;

/// The way to one partition.
pub(crate) struct RoutedLog {
    at: TopicPartition,
    feed: Feed,
    appends: Arc<Appends>,
}

impl RoutedLog {
    pub(crate) fn new(at: TopicPartition, feed: Feed, appends: Arc<Appends>) -> Self {
        Self { at, feed, appends }
    }

    fn leader(&self, image: &Image) -> Result<NodeId, Error> {
        let partition = image
            .partition(self.at.topic.as_str(), self.at.partition)
            .ok_or_else(|| unavailable(format!("there is no partition {}", self.at)))?;
        partition.leader.ok_or_else(|| unavailable(format!("{} has no leader at present", self.at)))
    }

    fn client(&self) -> Result<Client, PortError> {
        let image = self.feed.image();
        let client =
            self.leader(&image).and_then(|node| self.appends.brokers().client(&image, node));
        client.map(|(_, client)| client).map_err(refused)
    }
}

impl LogPort for RoutedLog {
    fn locate(&self) -> impl Future<Output = Result<LogEnds, PortError>> + Send + 'static {
        let client = self.client();
        let request = proto::DescribeLogRequest {
            topic: self.at.topic.to_string(),
            partition: self.at.partition.0,
        };
        async move {
            let mut client = client?;
            let answer = timeout(ANSWER_TIME_MAX, client.describe_log(request)).await;
            let ends = answer.map_err(|_| late())?.map_err(|status| refused(status.into()))?;
            Ok(log_ends(&ends.into_inner()))
        }
    }

    fn read(
        &self,
        from: Offset,
    ) -> impl Future<Output = Result<Vec<Bytes>, PortError>> + Send + 'static {
        let client = self.client();
        let request = proto::FetchRequest {
            partitions: vec![proto::FetchPartition {
                topic: self.at.topic.to_string(),
                partition: self.at.partition.0,
                offset: from.0,
                max_bytes: READ_BYTES_MAX,
                leader_epoch: LeaderEpoch::NONE.0,
            }],
            min_bytes: 0,
            max_bytes: READ_BYTES_MAX,
            max_wait_ms: 0,
            isolation_level: IsolationLevel::ReadUncommitted.into(),
            followers_too: false,
        };
        async move {
            let client = client?;
            timeout(ANSWER_TIME_MAX, fetch(client, request)).await.map_err(|_| late())?
        }
    }

    fn append(
        &self,
        condition: Condition,
        batch: Bytes,
    ) -> impl Future<Output = Result<(), PortError>> + Send + 'static {
        let request = proto::AppendRequest {
            topic: self.at.topic.to_string(),
            partition: self.at.partition.0,
            batch,
            acks: proto::AppendAcks::All.into(),
            timeout_ms: COMMIT_TIME_MAX.as_millis() as u32,
            round: 0,
            condition: Some(proto::append_request::Condition::Coordinator(
                proto::CoordinatorCondition {
                    leader_epoch: condition.leader_epoch.0,
                    expected_end: condition.expected_end.0,
                    coordinator_epoch: condition.coordinator_epoch.0,
                    chain: condition.chain,
                    opens_chain: condition.opens_chain,
                },
            )),
        };
        let image = self.feed.image();
        let appended =
            self.leader(&image).and_then(|node| self.appends.append(&image, node, request));
        // The broker's own time is up first.
        let patience = COMMIT_TIME_MAX + ANSWER_TIME_MAX;
        async move {
            let answer = appended.map_err(refused)?;
            match timeout(patience, answer).await {
                Ok(Ok(answer)) => answer.map_err(refused),
                Ok(Err(_)) => Err(PortError::Unknown("the stream to the leader has ended".into())),
                Err(_) => Err(late()),
            }
        }
        .boxed()
    }
}

async fn fetch(mut client: Client, request: proto::FetchRequest) -> Result<Vec<Bytes>, PortError> {
    let to_error = |status: tonic::Status| refused(status.into());
    let mut pieces = client.fetch(request).await.map_err(to_error)?.into_inner();
    let mut batches = Vec::new();
    while let Some(piece) = pieces.message().await.map_err(to_error)? {
        for partition in piece.partitions {
            if let Some(refusal) = partition.refusal {
                return Err(refused(appends::error(refusal)));
            }
            batches.extend(partition.batches);
        }
    }
    Ok(batches)
}

fn log_ends(answer: &proto::DescribeLogResponse) -> LogEnds {
    LogEnds {
        leader_epoch: LeaderEpoch(answer.leader_epoch),
        epoch_start_offset: Offset(answer.epoch_start_offset),
        log_start_offset: Offset(answer.log_start_offset),
        high_watermark: Offset(answer.high_watermark),
        log_end_offset: Offset(answer.log_end_offset),
    }
}

fn late() -> PortError {
    PortError::Unknown("the leader did not answer in time".into())
}

fn refused(error: Error) -> PortError {
    match (error.outcome, error.code) {
        (Outcome::NotApplied, ErrorCode::NotCoordinator) => PortError::Deposed(error.message),
        (Outcome::NotApplied, _) => PortError::Refused(error.message),
        (Outcome::Unknown, _) => PortError::Unknown(error.message),
    }
}
