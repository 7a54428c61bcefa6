//! B35-B38: epochs that are over or to come, strangers' replica ids, moves and elections that make no sense, and calls of brokers and
//! controllers made by a client.

use bytes::BytesMut;
use thalweg_kafka::messages::alter_partition_reassignments::{
    ReassignablePartition, ReassignableTopic,
};
use thalweg_kafka::messages::describe_quorum::{QuorumPartition, QuorumTopic};
use thalweg_kafka::messages::elect_leaders::TopicPartitions;
use thalweg_kafka::messages::list_partition_reassignments::ListPartitionReassignmentsTopics;
use thalweg_kafka::messages::offset_for_leader_epoch::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use thalweg_kafka::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, ElectLeadersRequest, ElectLeadersResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, UnregisterBrokerRequest,
    UnregisterBrokerResponse,
};

use crate::case::{Case, codes};
use crate::wire::{decode, frame, frame_of};
use crate::witness::VICTIM;

const EPOCHS: i16 = 2;
const REASSIGN: i16 = 1;
const LIST: i16 = 0;
const ELECT: i16 = 2;
const QUORUM: i16 = 2;
const UNREGISTER: i16 = 0;

/// Calls that only brokers and controllers make of each other in Kafka.
const INTERNAL: [(i16, &str); 8] = [
    (4, "LeaderAndIsr"),
    (5, "StopReplica"),
    (7, "ControlledShutdown"),
    (27, "WriteTxnMarkers"),
    (52, "Vote"),
    (56, "AlterPartition"),
    (62, "BrokerRegistration"),
    (63, "BrokerHeartbeat"),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = epochs();
    cases.extend(moves());
    cases.extend(elections());
    cases.extend(nodes());
    let internal = INTERNAL.iter().map(|(key, name)| {
        Case::closes("B38", format!("{name} from a client"), frame_of(*key, 0, &[0; 64]))
    });
    cases.extend(internal);
    cases
}

fn epochs() -> Vec<Case> {
    let ask = |input: &str, current_leader_epoch, leader_epoch, expected| {
        let partition =
            OffsetForLeaderPartition { partition: 0, current_leader_epoch, leader_epoch };
        let topic = OffsetForLeaderTopic { topic: VICTIM.into(), partitions: vec![partition] };
        let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
        let input = format!("OffsetForLeaderEpoch: {input}");
        Case::new("B35", input, frame(request, EPOCHS), epochs_found, expected)
    };
    vec![
        ask("current leader epoch in the future", 1000, 0, "UNKNOWN_LEADER_EPOCH"),
        ask("current leader epoch -2", -2, 0, "FENCED_LEADER_EPOCH"),
        ask("the least current leader epoch", i32::MIN, 0, "FENCED_LEADER_EPOCH"),
        ask("an epoch in the future", -1, i32::MAX, "NONE"),
        ask("the least epoch", -1, i32::MIN, "NONE"),
    ]
}

fn moves() -> Vec<Case> {
    let step = |partition_index, replicas: Option<Vec<i32>>| ReassignablePartition {
        partition_index,
        replicas,
    };
    let reassign = |input: &str, partitions: Vec<ReassignablePartition>, expected| {
        let topic = ReassignableTopic { name: VICTIM.into(), partitions };
        let topics = vec![topic];
        let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
        let input = format!("AlterPartitionReassignments: {input}");
        Case::new("B37", input, frame(request, REASSIGN), reassigned, expected)
    };
    let to = |replicas: &[i32]| vec![step(0, Some(replicas.to_vec()))];
    let other_factor = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: false,
        topics: vec![ReassignableTopic { name: VICTIM.into(), partitions: to(&[1, 2]) }],
        ..Default::default()
    };
    let listed_topic = ListPartitionReassignmentsTopics {
        name: "no-such-topic".into(),
        partition_indexes: vec![-1, 0, i32::MAX],
    };
    let listing = ListPartitionReassignmentsRequest {
        topics: Some(vec![listed_topic]),
        ..Default::default()
    };
    vec![
        reassign("to no replica", to(&[]), "INVALID_REPLICA_ASSIGNMENT"),
        reassign("to one replica twice", to(&[1, 1]), "INVALID_REPLICA_ASSIGNMENT"),
        reassign("to a stranger", to(&[999]), "INVALID_REPLICA_ASSIGNMENT"),
        reassign("to broker -1", to(&[-1]), "INVALID_REPLICA_ASSIGNMENT"),
        reassign("to 10,000 brokers", to(&[7; 10_000]), "INVALID_REPLICA_ASSIGNMENT"),
        reassign("partition -1", vec![step(-1, Some(vec![1]))], "UNKNOWN_TOPIC_OR_PARTITION"),
        reassign("nothing to take back", vec![step(0, None)], "NO_REASSIGNMENT_IN_PROGRESS"),
        reassign(
            "one partition twice",
            vec![step(0, Some(vec![1])), step(0, None)],
            "INVALID_REQUEST x 2",
        ),
        reassign("no partitions", Vec::new(), "an empty answer"),
        Case::new(
            "B37",
            "AlterPartitionReassignments: another replication factor, which is not allowed",
            frame(other_factor, REASSIGN),
            reassigned,
            "INVALID_REPLICATION_FACTOR",
        ),
        Case::new(
            "B37",
            "ListPartitionReassignments: of strangers",
            frame(listing, LIST),
            moves_listed,
            "an empty answer",
        ),
    ]
}

fn elections() -> Vec<Case> {
    let elect = |input: &str, election_type, partitions: Option<Vec<i32>>, expected| {
        let topic = |partitions| vec![TopicPartitions { topic: VICTIM.into(), partitions }];
        let request = ElectLeadersRequest {
            election_type,
            topic_partitions: partitions.map(topic),
            ..Default::default()
        };
        let input = format!("ElectLeaders: {input}");
        Case::new("B37", input, frame(request, ELECT), elected, expected)
    };
    vec![
        elect("unknown type 7", 7, Some(vec![0]), "INVALID_REQUEST"),
        elect("unknown type -1", -1, None, "INVALID_REQUEST"),
        elect("a partition with its leader", 0, Some(vec![0]), "NONE, ELECTION_NOT_NEEDED"),
        elect("unclean, with a leader", 1, Some(vec![0]), "NONE, ELECTION_NOT_NEEDED"),
        elect(
            "unclean, one partition 1,000 times",
            1,
            Some(vec![0; 1000]),
            "NONE, ELECTION_NOT_NEEDED",
        ),
        elect("unclean, partition -1", 1, Some(vec![-1]), "NONE, UNKNOWN_TOPIC_OR_PARTITION"),
        elect("partition -1", 0, Some(vec![-1]), "NONE, UNKNOWN_TOPIC_OR_PARTITION"),
        elect(
            "one partition 1,000 times",
            0,
            Some(vec![0; 1000]),
            "NONE, ELECTION_NOT_NEEDED x 1000",
        ),
    ]
}

fn nodes() -> Vec<Case> {
    let quorum = |input: &str, topic: &str, partition_index| {
        let partitions = vec![QuorumPartition { partition_index }];
        let topic = QuorumTopic { topic_name: topic.into(), partitions };
        let request = DescribeQuorumRequest { topics: vec![topic] };
        let input = format!("DescribeQuorum: {input}");
        let expected = "UNKNOWN_TOPIC_OR_PARTITION";
        Case::new("B36", input, frame(request, QUORUM), quorum_described, expected)
    };
    let unregister = |broker_id, expected| {
        let request = UnregisterBrokerRequest { broker_id };
        let input = format!("UnregisterBroker: {broker_id}");
        Case::new("B36", input, frame(request, UNREGISTER), unregistered, expected)
    };
    vec![
        quorum("of another topic", VICTIM, 0),
        quorum("of another partition", "__cluster_metadata", 1),
        unregister(1, "INVALID_REQUEST"),
        unregister(-1, "BROKER_ID_NOT_REGISTERED"),
        unregister(i32::MAX, "BROKER_ID_NOT_REGISTERED"),
    ]
}

// ---- answers in words ----

fn epochs_found(answer: BytesMut) -> String {
    let response: OffsetForLeaderEpochResponse = decode(EPOCHS, answer);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    codes(partitions.map(|partition| partition.error_code))
}

fn reassigned(answer: BytesMut) -> String {
    let response: AlterPartitionReassignmentsResponse = decode(REASSIGN, answer);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let refused = Some(response.error_code).filter(|code| *code != 0);
    codes(refused.into_iter().chain(partitions.map(|partition| partition.error_code)))
}

fn moves_listed(answer: BytesMut) -> String {
    let response: ListPartitionReassignmentsResponse = decode(LIST, answer);
    match (response.error_code, response.topics.len()) {
        (0, 0) => "an empty answer".to_owned(),
        (code, topics) => format!("{}, {topics} topics", codes([code])),
    }
}

fn elected(answer: BytesMut) -> String {
    let response: ElectLeadersResponse = decode(ELECT, answer);
    let results =
        response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    codes([response.error_code].into_iter().chain(results.map(|result| result.error_code)))
}

fn quorum_described(answer: BytesMut) -> String {
    let response: DescribeQuorumResponse = decode(QUORUM, answer);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    codes(partitions.map(|partition| partition.error_code))
}

fn unregistered(answer: BytesMut) -> String {
    let response: UnregisterBrokerResponse = decode(UNREGISTER, answer);
    codes([response.error_code])
}
