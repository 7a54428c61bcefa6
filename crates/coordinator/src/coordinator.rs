//! The coordinator as a whole: started, asked, stopped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use thalweg_controller_client::{ControllerClient, NewTopic, NodeSession, Standing};
use thalweg_env::{Clock, Random};
use thalweg_group_core::request::ListGroups;
use thalweg_group_core::response::ListedGroups;
use thalweg_group_core::{Client, GroupConfig, Request, Response};
use thalweg_kafka_cluster as kafka_cluster;
use thalweg_metadata_feed::Feed;
use thalweg_types::{ErrorCode, GroupId, NodeId, TopicId, Uuid};
use tokio::task::JoinHandle;

use crate::brokers::Brokers;
use crate::hosted::Ask;
use crate::log_port::Appends;
use crate::metrics::Snapshot;
use crate::shards::{OFFSETS_TOPIC, Resources, Shards};

/// Longest wait for a group's partition to be loaded, and how often it is looked at: a start, or a first use.
const READY_WAIT_MAX: Duration = Duration::from_secs(10);
const READY_CHECK_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Default)]
pub struct CoordinatorOptions {
    /// Limits and times of groups.
    pub groups: GroupConfig,
    /// Whether asking for the metadata of a topic may create it.
    pub auto_create_topics: bool,
}

/// What a coordinator is made of.
pub struct Parts {
    pub options: CoordinatorOptions,
    pub feed: Feed,
    pub controller: ControllerClient,
    pub session: Arc<NodeSession>,
    pub brokers: Brokers,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

/// Serves the groups of the partitions that its session's node was given, until it is stopped or dropped.
pub struct Coordinator {
    pub(crate) options: CoordinatorOptions,
    pub(crate) feed: Feed,
    pub(crate) controller: ControllerClient,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) appends: Arc<Appends>,
    session: Arc<NodeSession>,
    random: Arc<dyn Random>,
    shards: Arc<Shards>,
    follower: JoinHandle<()>,
}

impl Coordinator {
    /// Must be called within a tokio runtime, on which the partitions then run.
    pub fn start(parts: Parts) -> Arc<Self> {
        let Parts { options, feed, controller, session, brokers, clock, random } = parts;
        let appends = Arc::new(Appends::new(brokers));
        let lease_of = Arc::clone(&session);
        let shards = Arc::new(Shards::new(Resources {
            feed: feed.clone(),
            appends: Arc::clone(&appends),
            config: options.groups.clone(),
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
            lease: Arc::new(move || lease_of.lease_until()),
        }));
        let follower = tokio::spawn(Arc::clone(&shards).follow(session.standing()));
        Arc::new(Self {
            options,
            feed,
            controller,
            clock,
            appends,
            session,
            random,
            shards,
            follower,
        })
    }

    /// Hands the partitions over to others and gives up those that nobody takes. The caller bounds the wait.
    pub async fn leave(&self) {
        self.session.leave().await;
        self.stop();
    }

    /// Gives everything up at once.
    pub fn stop(&self) {
        self.follower.abort();
        self.shards.clear();
    }

    /// Answers a Kafka call about groups for whoever `client` is; `None` for every other call.
    pub async fn answer(
        &self,
        client: &Client,
        version: i16,
        request: thalweg_kafka::Request,
    ) -> Option<thalweg_kafka::Response> {
        crate::kafka::answer(self, client, version, request).await
    }

    /// Waits, within bounds, until the group is served here: the first time its topic is made.
    pub async fn ready(&self, group: &str) {
        if self.feed.image().topic(OFFSETS_TOPIC).is_none() {
            let topics = vec![NewTopic::with_defaults(OFFSETS_TOPIC)];
            if let Err(error) = self.controller.create_topics(topics, false).await {
                tracing::warn!(%error, topic = OFFSETS_TOPIC, "could not be created");
            }
        }
        let served = async {
            while !self.shards.serves(group) {
                tokio::time::sleep(READY_CHECK_INTERVAL).await;
            }
        };
        if tokio::time::timeout(READY_WAIT_MAX, served).await.is_err() {
            tracing::debug!(group, "is not served here yet");
        }
    }

    /// This node, as the cluster knows it; [`NodeId::NONE`] while it does not.
    pub fn node_id(&self) -> NodeId {
        match &*self.session.standing().borrow() {
            Standing::Held(registered) => registered.node_id,
            _ => NodeId::NONE,
        }
    }

    /// Asks for one group.
    pub(crate) async fn ask_group(
        &self,
        client: &Client,
        group: &str,
        request: Request,
    ) -> Response {
        let refused = |error| Response::refused(&request, error);
        if group.is_empty() && needs_name(&request) {
            return refused(ErrorCode::InvalidGroupId);
        }
        let ask = self.ask(client, request.clone());
        match self.shards.ask(group, ask).await {
            Ok(response) => response,
            Err(error) => refused(error),
        }
    }

    /// Asks for several groups, each where it is: `make` makes the request for some of them. Answers come in no particular order.
    pub(crate) async fn ask_groups(
        &self,
        client: &Client,
        groups: Vec<GroupId>,
        make: impl Fn(Vec<GroupId>) -> Request,
    ) -> Vec<Response> {
        let mut by_partition = std::collections::BTreeMap::<_, Vec<GroupId>>::new();
        for group in groups {
            by_partition.entry(self.shards.partition_of(group.as_str())).or_default().push(group);
        }
        let answers = by_partition.into_iter().map(|(partition, groups)| {
            let request = make(groups);
            async move {
                let Some(partition) = partition else {
                    return Response::refused(&request, ErrorCode::CoordinatorNotAvailable);
                };
                let ask = self.ask(client, request.clone());
                let answer = self.shards.ask_partition(partition, ask).await;
                answer.unwrap_or_else(|error| Response::refused(&request, error))
            }
        });
        join_all(answers).await
    }

    /// The groups of all partitions that are this coordinator's.
    pub(crate) async fn list_groups(&self, client: &Client, filter: ListGroups) -> ListedGroups {
        let asked = self.shards.partitions().into_iter().map(|partition| {
            let ask = self.ask(client, Request::ListGroups(filter.clone()));
            self.shards.ask_partition(partition, ask)
        });
        let mut listed = ListedGroups { error: ErrorCode::None, groups: Vec::new() };
        for answer in join_all(asked).await {
            match answer {
                Ok(Response::ListGroups(some)) if some.error == ErrorCode::None => {
                    listed.groups.extend(some.groups);
                }
                Ok(Response::ListGroups(refused)) => listed.error = refused.error,
                // It went to another coordinator meanwhile, which lists its groups.
                Err(ErrorCode::NotCoordinator) | Ok(_) => {}
                Err(error) => listed.error = error,
            }
        }
        if listed.error != ErrorCode::None {
            listed.groups.clear();
        }
        listed
    }

    pub(crate) fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.feed.image().topic(name).map(|topic| topic.id)
    }

    fn ask(&self, client: &Client, request: Request) -> Ask {
        let fresh = Uuid::from_random_bits(self.random.next_u128());
        Ask { client: client.clone(), fresh, request }
    }

    /// Figures of this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let counts = self.shards.counts();
        Snapshot {
            partitions: self.shards.count(),
            loading: self.shards.loading_count(),
            loads: counts.loads.load(Ordering::Relaxed),
            loads_failed: counts.loads_failed.load(Ordering::Relaxed),
            loaded_ms: counts.loaded_ms.load(Ordering::Relaxed),
            loaded_records: counts.loaded_records.load(Ordering::Relaxed),
            appends: counts.appends.load(Ordering::Relaxed),
            checks: counts.checks.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
            groups: self.shards.sum(|figures| &figures.groups),
            members: self.shards.sum(|figures| &figures.members),
            offsets: self.shards.sum(|figures| &figures.offsets),
            rebalances: self.shards.sum(|figures| &figures.rebalances),
            records: self.shards.sum(|figures| &figures.records),
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Consumers that assign their partitions themselves may commit and fetch under the empty name, which older clients do.
fn needs_name(request: &Request) -> bool {
    !matches!(
        request,
        Request::CommitOffsets(_) | Request::FetchOffsets(_) | Request::DeleteOffsets(_)
    )
}

/// The calls that every node answers.
pub(crate) const CLUSTER_APIS: &[thalweg_kafka::ApiKey] = kafka_cluster::APIS;
