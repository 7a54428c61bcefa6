//! ElectLeaders: leadership to the preferred leaders, or (KIP-460) to whoever has most of a log that nobody has whole.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::elect_leaders::{PartitionResult, ReplicaElectionResult};
use thalweg_kafka::messages::{ElectLeadersRequest, ElectLeadersResponse};
use thalweg_metadata_core::{Image, PartitionReference};
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, LogIndex, PartitionIndex};

use crate::Member;

/// Values of `election_type`.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Partitions of one call to the controller.
const PARTITIONS_PER_CALL: usize = 5_000;
const UNCLEAN_PER_CALL: usize = 1_000;

/// What became of the election of one partition.
type Elected = (PartitionReference, Result<(), Error>);

pub(crate) async fn elect_leaders<M: Member>(
    member: &M,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let named: Option<Vec<_>> = request.topic_partitions.map(|topics| {
        let references = topics.into_iter().flat_map(|topic| {
            let name = topic.topic.to_string();
            topic.partitions.into_iter().map(move |partition| reference(&name, partition))
        });
        references.collect()
    });
    let wants_all = named.is_none();
    let image = member.image();
    let wanted = named.unwrap_or_else(|| everything(&image, request.election_type));
    let elected = match request.election_type {
        PREFERRED => elect_preferred(member, &wanted).await,
        UNCLEAN => elect_unclean(member, wanted).await,
        other => Err(Error::invalid_request(format!("unknown election type {other}"))),
    };
    match elected {
        Ok(mut elected) => {
            if wants_all {
                // As in Kafka: who asks for all is told only of those that were in need of it.
                elected.retain(|(_, result)| !is_not_needed(result));
            }
            ElectLeadersResponse {
                replica_election_results: by_topic(elected),
                ..Default::default()
            }
        }
        Err(error) => ElectLeadersResponse { error_code: error.code.code(), ..Default::default() },
    }
}

fn reference(topic: &str, partition: i32) -> PartitionReference {
    PartitionReference { topic: topic.to_owned(), partition: PartitionIndex(partition) }
}

/// Every partition that the election may be about.
fn everything(image: &Image, election_type: i8) -> Vec<PartitionReference> {
    let topics = image.topics().flat_map(|topic| {
        let partitions =
            topic.partitions.iter().filter(move |(_, partition)| match election_type {
                PREFERRED => partition.leader != partition.replicas.first().copied(),
                _ => partition.leader.is_none(),
            });
        partitions.map(|(index, _)| reference(topic.name.as_str(), index.0))
    });
    topics.collect()
}

async fn elect_preferred<M: Member>(
    member: &M,
    wanted: &[PartitionReference],
) -> Result<Vec<Elected>, Error> {
    let mut elected = Vec::with_capacity(wanted.len());
    let mut index = LogIndex::ZERO;
    for some in wanted.chunks(PARTITIONS_PER_CALL) {
        let answer = member.controller().elect_preferred_leaders(some).await?;
        index = index.max(answer.index);
        elected.extend(some.iter().cloned().zip(answer.items));
    }
    member.served(index).await;
    Ok(elected)
}

/// R14: who asks for this has chosen to go on with what is left; what that is, the controller finds out and says in its log.
async fn elect_unclean<M: Member>(
    member: &M,
    wanted: Vec<PartitionReference>,
) -> Result<Vec<Elected>, Error> {
    let wanted: Vec<_> = wanted.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut elected = Vec::with_capacity(wanted.len());
    let mut index = LogIndex::ZERO;
    for some in wanted.chunks(UNCLEAN_PER_CALL) {
        let answer = member.controller().elect_unclean_leaders(some).await?;
        index = index.max(answer.index);
        elected.extend(some.iter().cloned().zip(answer.items));
    }
    member.served(index).await;
    Ok(elected)
}

fn is_not_needed(result: &Result<(), Error>) -> bool {
    result.as_ref().is_err_and(|error| error.code == ErrorCode::ElectionNotNeeded)
}

fn by_topic(elected: Vec<Elected>) -> Vec<ReplicaElectionResult> {
    let mut topics: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
    for (PartitionReference { topic, partition }, result) in elected {
        let (error_code, error_message) = match result {
            Ok(()) => (ErrorCode::None.code(), None),
            Err(error) => (error.code.code(), Some(KafkaString::from(error.message))),
        };
        let result = PartitionResult { partition_id: partition.0, error_code, error_message };
        topics.entry(topic).or_default().push(result);
    }
    let result = |(topic, partition_result): (String, Vec<PartitionResult>)| {
        ReplicaElectionResult { topic: topic.into(), partition_result }
    };
    topics.into_iter().map(result).collect()
}
