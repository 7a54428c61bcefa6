//! Unclean elections by command (R14): ask every live replica what it has, then let the one lead that has most.
//!
//! ```text
//!  look ─► partitions without a leader, their live replicas ─► asked, broker by broker ─► decide: nothing has changed since ─► commit
//! ```
//!
//! Brokers are asked outside of the deciding task, so other calls go on meanwhile. What they say holds as long as nobody leads: they answer
//! only when they know that nobody does, and the decision is refused when the partition's registration has changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use thalweg_metadata_core::{
    Candidate, Decision, ElectUnclean, ElectedUnclean, Endpoint, Error as Refusal, Image,
    ItemResult, PartitionReference,
};
use thalweg_metadata_feed::codec::uuid_to_proto;
use thalweg_proto::internal::broker::v1 as broker;
use thalweg_proto::internal::broker::v1::broker_client::BrokerClient;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_rpc::Error as RpcError;
use thalweg_types::{
    BrokerEpoch, ErrorCode, LeaderEpoch, LogIndex, NodeId, Offset, PartitionEpoch, TopicIdPartition,
};
use tonic::{Request, Status};

use super::Server;
use super::replicas::reference;
use super::translate::missing;
use crate::error::refused;

/// Partitions of one call: an operator looks at each, and a broker answers for all of them at once.
const PARTITIONS_MAX: usize = 1_000;

/// How long a broker may take to answer: it may have to take over metadata first.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(8);

/// A partition that nobody leads.
struct Leaderless {
    id: TopicIdPartition,
    partition_epoch: PartitionEpoch,
    replicas: Vec<NodeId>,
}

/// What is to be asked of whom.
struct Survey {
    /// In the order of the request; `None`: nobody has to be asked to refuse it.
    partitions: Vec<Option<Leaderless>>,
    /// Addresses of the brokers that have replicas of them, or why a broker cannot be asked.
    brokers: BTreeMap<NodeId, Result<String, RpcError>>,
    /// At which nobody leads them.
    index: LogIndex,
}

/// A replica, as it says of itself.
#[derive(Debug, Clone, Copy)]
struct Found {
    candidate: Candidate,
    high_watermark: Offset,
}

type Replies = BTreeMap<(TopicIdPartition, NodeId), Result<Found, RpcError>>;

pub(super) async fn elect(
    server: &Server,
    request: proto::ElectUncleanLeadersRequest,
) -> Result<proto::ElectUncleanLeadersResponse, Status> {
    let validate_only = request.validate_only;
    let references = read(request.partitions)?;
    let asked = references.clone();
    let look =
        move |image: &Image| Ok(Decision { records: Vec::new(), response: survey(image, &asked) });
    let (_, survey) = server.calls.decide(look).await.map_err(|error| server.status(error))?;
    let replies = ask(&survey).await;
    let wanted: Vec<_> = references
        .iter()
        .zip(&survey.partitions)
        .map(|(partition, leaderless)| wanted(partition.clone(), leaderless.as_ref(), &replies))
        .collect();
    let decide = move |image: &Image| Ok(decide(image, &wanted, validate_only));
    let decided = server.calls.decide(decide).await;
    let (index, results) = decided.map_err(|error| server.status(error))?;
    let known = references.into_iter().zip(&survey.partitions).zip(results);
    let partitions = known.map(|((partition, leaderless), result)| {
        if let (Ok(elected), false) = (&result, validate_only) {
            tell(elected);
        }
        let replicas = leaderless.as_ref().map(|it| reported(it, &replies)).unwrap_or_default();
        election(partition, result, replicas)
    });
    Ok(proto::ElectUncleanLeadersResponse { partitions: partitions.collect(), index: index.0 })
}

pub(super) fn read(
    partitions: Vec<proto::PartitionName>,
) -> Result<Vec<PartitionReference>, Status> {
    let count = partitions.len();
    if count > PARTITIONS_MAX {
        let message = format!("a call is about at most {PARTITIONS_MAX} partitions, not {count}");
        return Err(RpcError::invalid_request(message).not_applied().into());
    }
    let references: Vec<_> = partitions.into_iter().map(reference).collect();
    match references.iter().collect::<BTreeSet<_>>().len() < count {
        true => Err(missing("each partition may be named once only")),
        false => Ok(references),
    }
}

// ---- Looking --------------------------------------------------------------------------------------------------------------------

fn survey(image: &Image, references: &[PartitionReference]) -> Survey {
    let leaderless = |wanted: &PartitionReference| {
        let topic = image.topic(&wanted.topic)?;
        let state = topic.partitions.get(&wanted.partition).filter(|it| it.leader.is_none())?;
        Some(Leaderless {
            id: TopicIdPartition { topic_id: topic.id, partition: wanted.partition },
            partition_epoch: state.partition_epoch,
            replicas: state.replicas.clone(),
        })
    };
    let partitions: Vec<_> = references.iter().map(leaderless).collect();
    let replicas = partitions.iter().flatten().flat_map(|it| &it.replicas);
    let brokers = replicas.map(|id| (*id, address(image, *id))).collect();
    Survey { partitions, brokers, index: image.position().index }
}

fn address(image: &Image, id: NodeId) -> Result<String, RpcError> {
    let unreachable = |what: &str| RpcError::new(ErrorCode::BrokerNotAvailable, what).not_applied();
    let node = image.node(id).ok_or_else(|| unreachable("it is not registered"))?;
    if !node.is_live() {
        return Err(unreachable("it is not live"));
    }
    let endpoint = node.endpoint(Endpoint::INTERNAL);
    Ok(endpoint.ok_or_else(|| unreachable("it has no address for other nodes"))?.address())
}

// ---- Asking ---------------------------------------------------------------------------------------------------------------------

async fn ask(survey: &Survey) -> Replies {
    let each = survey.brokers.iter().map(|(node, address)| async move {
        let here = survey.partitions.iter().flatten().filter(|it| it.replicas.contains(node));
        let ids: Vec<_> = here.map(|leaderless| leaderless.id).collect();
        let answer = match address {
            Ok(address) => ask_one(address, *node, &ids, survey.index).await,
            Err(error) => Err(error.clone()),
        };
        let found = answer.unwrap_or_else(|error| vec![Err(error); ids.len()]);
        ids.into_iter().zip(found).map(|(id, found)| ((id, *node), found)).collect::<Vec<_>>()
    });
    join_all(each).await.into_iter().flatten().collect()
}

async fn ask_one(
    address: &str,
    node: NodeId,
    ids: &[TopicIdPartition],
    index: LogIndex,
) -> Result<Vec<Result<Found, RpcError>>, RpcError> {
    let unreachable =
        |error: String| RpcError::new(ErrorCode::BrokerNotAvailable, error).not_applied();
    let channel = thalweg_rpc::channel(address).map_err(|error| unreachable(error.to_string()))?;
    let name = |id: &TopicIdPartition| broker::ReplicaName {
        topic_id: uuid_to_proto(id.topic_id.0),
        partition: id.partition.0,
    };
    let message = broker::DescribeReplicasRequest {
        replicas: ids.iter().map(name).collect(),
        index: index.0,
    };
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIME_MAX);
    let mut client = BrokerClient::new(channel);
    let answered = tokio::time::timeout(ANSWER_TIME_MAX, client.describe_replicas(request)).await;
    // A question: nothing was changed, whatever became of it.
    let answer = answered
        .map_err(|_| RpcError::timed_out(ANSWER_TIME_MAX).not_applied())?
        .map_err(|status| RpcError::from(status).not_applied())?
        .into_inner();
    if answer.replicas.len() != ids.len() {
        return Err(unreachable("it answered for another number of replicas".to_owned()));
    }
    let broker_epoch = BrokerEpoch(answer.broker_epoch);
    Ok(answer.replicas.into_iter().map(|state| found(node, broker_epoch, state)).collect())
}

fn found(
    node: NodeId,
    broker_epoch: BrokerEpoch,
    state: broker::ReplicaState,
) -> Result<Found, RpcError> {
    if let Some(refusal) = state.refusal {
        return Err(refusal.detail.map_or_else(
            || RpcError::new(ErrorCode::ReplicaNotAvailable, "it says no reason").not_applied(),
            RpcError::from_detail,
        ));
    }
    let candidate = Candidate {
        node,
        broker_epoch,
        last_epoch: LeaderEpoch(state.last_epoch),
        durable_end: Offset(state.flushed_end),
    };
    Ok(Found { candidate, high_watermark: Offset(state.high_watermark) })
}

// ---- Deciding -------------------------------------------------------------------------------------------------------------------

fn wanted(
    partition: PartitionReference,
    leaderless: Option<&Leaderless>,
    replies: &Replies,
) -> ElectUnclean {
    let Some(Leaderless { id, partition_epoch, replicas }) = leaderless else {
        // Unknown, or with a leader: refused for that.
        let partition_epoch = PartitionEpoch(-1);
        return ElectUnclean { partition, partition_epoch, candidates: Vec::new() };
    };
    let heard = replicas.iter().filter_map(|node| replies.get(&(*id, *node))?.as_ref().ok());
    let candidates = heard.map(|found| found.candidate).collect();
    ElectUnclean { partition, partition_epoch: *partition_epoch, candidates }
}

/// The partitions are different ones, so each is decided on the same image.
fn decide(
    image: &Image,
    wanted: &[ElectUnclean],
    validate_only: bool,
) -> Decision<Vec<ItemResult<ElectedUnclean>>> {
    let mut records = Vec::new();
    let elected = wanted.iter().map(|election| {
        let decision = image.decide_elect_unclean(election)?;
        records.extend(decision.records);
        Ok(decision.response)
    });
    let response = elected.collect();
    if validate_only {
        records.clear();
    }
    Decision { records, response }
}

fn tell(elected: &ElectedUnclean) {
    tracing::warn!(
        topic = %elected.topic, partition = %elected.partition, leader = %elected.leader,
        log_end = %elected.log_end, abandoned = ?elected.abandoned,
        "an unclean leader was elected by command: records from the log end on are given up"
    );
}

// ---- Answering ------------------------------------------------------------------------------------------------------------------

fn election(
    PartitionReference { topic, partition }: PartitionReference,
    result: ItemResult<ElectedUnclean>,
    replicas: Vec<proto::ReplicaLog>,
) -> proto::UncleanElection {
    let partition = Some(proto::PartitionName { topic, partition: partition.0 });
    let ElectedUnclean { leader, leader_epoch, log_end, abandoned, .. } = match result {
        Ok(elected) => elected,
        Err(refusal) => {
            let error = Some(explained(&refusal, &replicas).to_detail());
            return proto::UncleanElection { partition, error, replicas, ..Default::default() };
        }
    };
    proto::UncleanElection {
        partition,
        error: None,
        leader: leader.0,
        leader_epoch: leader_epoch.0,
        log_end: log_end.0,
        abandoned: abandoned.iter().map(|id| id.0).collect(),
        replicas,
    }
}

/// Says of each replica why it cannot lead, if none can.
fn explained(refusal: &Refusal, replicas: &[proto::ReplicaLog]) -> RpcError {
    let error = refused(refusal);
    if *refusal != Refusal::EligibleLeadersNotAvailable {
        return error;
    }
    let reason = |replica: &proto::ReplicaLog| {
        let reason = replica.error.as_ref().map(|error| error.message.as_str());
        format!("node {}: {}", replica.node_id, reason.unwrap_or("has another session by now"))
    };
    let reasons: Vec<_> = replicas.iter().map(reason).collect();
    RpcError::new(error.code, format!("{refusal} ({})", reasons.join("; "))).not_applied()
}

fn reported(leaderless: &Leaderless, replies: &Replies) -> Vec<proto::ReplicaLog> {
    let one = |node: &NodeId| match replies.get(&(leaderless.id, *node))? {
        Ok(Found { candidate, high_watermark }) => Some(proto::ReplicaLog {
            node_id: node.0,
            last_epoch: candidate.last_epoch.0,
            flushed_end: candidate.durable_end.0,
            high_watermark: high_watermark.0,
            error: None,
        }),
        Err(error) => Some(proto::ReplicaLog {
            node_id: node.0,
            last_epoch: LeaderEpoch::NONE.0,
            error: Some(error.to_detail()),
            ..Default::default()
        }),
    };
    leaderless.replicas.iter().filter_map(one).collect()
}
