//! Calls that change nothing: they may be made again, and elsewhere, until somebody answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use thalweg_metadata_core::config::Entry;
use thalweg_metadata_core::{ConfigTarget, Image};
use thalweg_metadata_feed::Feed;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{
    ErrorCode, IsolationLevel, LeaderEpoch, LogIndex, NodeId, Offset, ProducerEpoch, ProducerId,
    TopicPartition,
};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Response, Status};

use super::nodes::{Client, Nodes};
use super::{EpochEnd, words};
use crate::port::{ListedOffset, OffsetQuery};

/// Wait before a call is made again when the metadata says nothing new; doubled every time.
const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(10);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(250);

/// Longest time for one broker to answer what it answers from memory.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The way to the brokers for calls that change nothing.
#[derive(Debug)]
pub(super) struct Reads {
    pub(super) feed: Feed,
    pub(super) nodes: Arc<Nodes>,
    leader_wait_max: Duration,
    /// Which broker is asked next when any will do.
    turn: AtomicUsize,
}

impl Reads {
    pub(super) fn new(feed: Feed, nodes: Arc<Nodes>, leader_wait_max: Duration) -> Self {
        Self { feed, nodes, leader_wait_max, turn: AtomicUsize::new(0) }
    }

    /// Finds an offset at the leader, for a reader that believes in `reader_epoch`.
    pub(super) async fn find_offset(
        &self,
        at: TopicPartition,
        query: OffsetQuery,
        isolation: IsolationLevel,
        reader_epoch: LeaderEpoch,
    ) -> Result<Option<ListedOffset>, Error> {
        let (place, timestamp) = words::offset_place(query);
        let request = proto::FindOffsetRequest {
            topic: at.topic.to_string(),
            partition: at.partition.0,
            place: place.into(),
            timestamp_ms: timestamp.0,
            isolation_level: words::isolation_level(isolation).into(),
            leader_epoch: Some(reader_epoch.0).filter(|epoch| *epoch != LeaderEpoch::NONE.0),
        };
        let found = self.ask_until_led(&at, |mut client| {
            let request = request.clone();
            async move { Ok(client.find_offset(request).await?.into_inner()) }.boxed()
        });
        Ok(words::listed_offset(&found.await?))
    }

    /// Where a leader epoch ends; `None` if the leader's log knows nothing of it.
    pub(super) async fn find_epoch_end(
        &self,
        at: TopicPartition,
        epoch: LeaderEpoch,
        reader_epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, Error> {
        let query = proto::EpochQuery {
            topic: at.topic.to_string(),
            partition: at.partition.0,
            epoch: epoch.0,
            leader_epoch: reader_epoch.0,
        };
        let found = self.ask_until_led(&at, |mut client| {
            let request = proto::FindEpochEndsRequest { partitions: vec![query.clone()] };
            let asked = async move { client.find_epoch_ends(request).await };
            asked.map(|answer| words::epoch_end(answer?.into_inner())).boxed()
        });
        found.await
    }

    /// Moves the log start up to `before`; [`Offset::NONE`] asks for everything that is committed. Returns the log start.
    pub(super) async fn delete_records(
        &self,
        at: TopicPartition,
        before: Offset,
    ) -> Result<Offset, Error> {
        let deletion = proto::Deletion {
            topic: at.topic.to_string(),
            partition: at.partition.0,
            before_offset: before.0,
        };
        let deleted = self.ask_until_led(&at, |mut client| {
            let request = proto::DeleteRecordsRequest { partitions: vec![deletion.clone()] };
            let asked = async move { client.delete_records(request).await };
            asked.map(|answer| words::deleted(answer?.into_inner())).boxed()
        });
        deleted.await
    }

    /// Asks the leader of a partition, whoever that comes to be in time, for what may be asked for again.
    async fn ask_until_led<T>(
        &self,
        at: &TopicPartition,
        ask: impl Fn(Client) -> BoxFuture<'static, Result<T, Error>>,
    ) -> Result<T, Error> {
        let end = Instant::now() + self.leader_wait_max;
        let mut pause = RETRY_PAUSE_FIRST;
        loop {
            let mut changed = self.feed.changed();
            changed.mark_unchanged();
            if !exists(&self.feed.image(), at) {
                return Err(words::unknown_partition(at));
            }
            let answer = timeout_at(end, self.ask_leader(at, &ask)).await;
            let error = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => Error::timed_out(self.leader_wait_max),
            };
            if !words::is_read_elsewhere(&error) || Instant::now() + pause >= end {
                return Err(error.not_applied());
            }
            // News or not, the broker may be able to answer by then.
            let _ = timeout(pause, changed.changed()).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    async fn ask_leader<T>(
        &self,
        at: &TopicPartition,
        ask: &impl Fn(Client) -> BoxFuture<'static, Result<T, Error>>,
    ) -> Result<T, Error> {
        let image = self.feed.image();
        let node = leader(&image, at)?;
        let client = self.nodes.reads(&image, node)?;
        tokio::select! {
            answer = ask(client) => answer,
            () = self.moved(at, node) => Err(words::leaderless(at)),
        }
    }

    /// Resolves when somebody else than `node` leads.
    async fn moved(&self, at: &TopicPartition, node: NodeId) {
        let mut changed = self.feed.changed();
        let has_moved = |_: &LogIndex| leader(&self.feed.image(), at).ok() != Some(node);
        if changed.wait_for(has_moved).await.is_err() {
            // No news will come any more.
            std::future::pending::<()>().await;
        }
    }

    /// Configs of a topic from any broker that lives, or of a broker from itself.
    pub(super) async fn describe_configs(&self, target: ConfigTarget) -> Result<Vec<Entry>, Error> {
        use proto::describe_configs_request::Target;
        let (wire_target, only) = match &target {
            ConfigTarget::Topic(name) => (Target::Topic(name.clone()), None),
            ConfigTarget::Broker(id) => (Target::Broker(id.0), Some(*id)),
            ConfigTarget::Cluster => {
                return Err(Error::invalid_request("no broker is asked about all brokers"));
            }
        };
        if let Some(id) = only.filter(|id| self.feed.image().node(*id).is_none()) {
            return Err(Error::invalid_request(format!("there is no broker {id}")));
        }
        let request = proto::DescribeConfigsRequest { target: Some(wire_target) };
        let answer = self
            .ask_any(only, |mut client| {
                let request = request.clone();
                async move { client.describe_configs(request).await }.boxed()
            })
            .await?;
        Ok(thalweg_kafka_cluster::entries_told(&target, answer.configs))
    }

    /// From any broker that lives.
    pub(super) async fn init_producer(&self) -> Result<(ProducerId, ProducerEpoch), Error> {
        let answer = self
            .ask_any(None, |mut client| {
                async move { client.init_producer(proto::InitProducerRequest {}).await }.boxed()
            })
            .await?;
        let epoch = i16::try_from(answer.producer_epoch).ok().filter(|epoch| *epoch >= 0);
        match epoch {
            Some(epoch) if answer.producer_id >= 0 => {
                Ok((ProducerId(answer.producer_id), ProducerEpoch(epoch)))
            }
            _ => Err(Error::new(
                ErrorCode::UnknownServerError,
                format!(
                    "a broker gave out producer id {} with epoch {}",
                    answer.producer_id, answer.producer_epoch
                ),
            )),
        }
    }

    /// Waits until a broker goes by the metadata up to `index`. What hinders it is only logged: the metadata holds in any case.
    pub(super) async fn await_metadata(&self, id: NodeId, index: LogIndex) {
        let request = proto::AwaitMetadataRequest { index: index.0 };
        let answer = match self.nodes.reads(&self.feed.image(), id) {
            Ok(mut client) => client.await_metadata(request).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = answer {
            tracing::debug!(broker = %id, %error, "it does not say how far it goes by the metadata");
        }
    }

    /// Asks one broker after the other, or only the one named, until one answers.
    async fn ask_any<T>(
        &self,
        only: Option<NodeId>,
        ask: impl Fn(Client) -> BoxFuture<'static, Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        let image = self.feed.image();
        let mut brokers: Vec<NodeId> = match only {
            Some(id) => vec![id],
            None => image.live_brokers().map(|node| node.id).collect(),
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % brokers.len().max(1);
        brokers.rotate_left(turn);
        let mut error = words::unavailable("no broker lives at present");
        for id in brokers {
            let answer = match self.nodes.reads(&image, id) {
                Ok(client) => timeout(ANSWER_TIME_MAX, ask(client)).await,
                Err(unreachable) => {
                    error = unreachable;
                    continue;
                }
            };
            error = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::timed_out(ANSWER_TIME_MAX),
            };
            if !words::is_read_elsewhere(&error) {
                break;
            }
        }
        Err(error.not_applied())
    }
}

fn exists(image: &Image, at: &TopicPartition) -> bool {
    image.partition(at.topic.as_str(), at.partition).is_some()
}

/// Who leads a partition now.
/// Who is to be asked for records: an in-sync replica where the reader is, or else the leader.
pub(super) fn nearest(image: &Image, at: &TopicPartition, rack: &str) -> Result<NodeId, Error> {
    let leader = leader(image, at)?;
    let is_there =
        |id: &NodeId| image.node(*id).and_then(|node| node.rack.as_deref()) == Some(rack);
    if rack.is_empty() || is_there(&leader) {
        return Ok(leader);
    }
    let in_sync = image.partition(at.topic.as_str(), at.partition).map(|state| &state.isr);
    let mut nearer = in_sync.into_iter().flatten().filter(|id| image.is_live(**id) && is_there(id));
    Ok(nearer.next().copied().unwrap_or(leader))
}

pub(super) fn leader(image: &Image, at: &TopicPartition) -> Result<NodeId, Error> {
    let partition = image
        .partition(at.topic.as_str(), at.partition)
        .ok_or_else(|| words::unknown_partition(at))?;
    partition.leader.ok_or_else(|| words::leaderless(at))
}
