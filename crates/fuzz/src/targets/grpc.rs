//! gRPC messages: every public and internal request, and what the services make of them before anything is asked of anybody.
//!
//! Where several messages share a target, the first byte chooses.

use bytes::Bytes;
use prost::Message;
use thalweg_gateway::fuzzing as gateway;
use thalweg_proto::admin::v1 as admin;
use thalweg_proto::common::v1 as common;
use thalweg_proto::consumer::v1 as consumer;
use thalweg_proto::internal::broker::v1 as broker;
use thalweg_proto::internal::controller::v1 as controller;
use thalweg_proto::internal::metadata::v1 as metadata;
use thalweg_proto::internal::raft::v1 as raft;
use thalweg_proto::producer::v1 as producer;
use thalweg_types::{CompressionType, LeaderEpoch, Offset};

use super::{Choices, numbered, records as batches};
use crate::{Seeds, peak};

/// An empty message in a list is two bytes on the wire and up to a few hundred in memory; growing lists hold old and new.
const FACTOR: usize = 512;

/// Looks at the bytes of one message.
type Check = fn(&[u8]);

/// Every message that a server decodes. A number keeps its message, because stored inputs begin with it.
const MESSAGES: &[(u8, Check)] = &[
    (0, round_trip::<producer::ProduceRequest>),
    (1, round_trip::<producer::InitProducerRequest>),
    (2, round_trip::<consumer::FetchRequest>),
    (3, round_trip::<consumer::FetchStreamRequest>),
    (4, round_trip::<consumer::ListOffsetsRequest>),
    (5, round_trip::<admin::CreateTopicsRequest>),
    (6, round_trip::<admin::DeleteTopicsRequest>),
    (7, round_trip::<admin::CreatePartitionsRequest>),
    (8, round_trip::<admin::ListTopicsRequest>),
    (9, round_trip::<admin::DescribeTopicsRequest>),
    (10, round_trip::<admin::DescribeClusterRequest>),
    (11, round_trip::<common::ErrorDetail>),
    (12, round_trip::<controller::RegisterNodeRequest>),
    (13, round_trip::<controller::HeartbeatRequest>),
    (14, round_trip::<controller::WatchMetadataRequest>),
    (15, round_trip::<controller::WatchMetadataResponse>),
    (16, round_trip::<controller::CreateTopicsRequest>),
    (17, round_trip::<controller::DeleteTopicsRequest>),
    (18, round_trip::<controller::CreatePartitionsRequest>),
    (19, round_trip::<controller::AlterConfigsRequest>),
    (20, round_trip::<controller::AllocateProducerIdsRequest>),
    (21, round_trip::<controller::DescribeQuorumRequest>),
    (22, round_trip::<metadata::Record>),
    (23, round_trip::<raft::VoteRequest>),
    (24, round_trip::<raft::AppendEntriesRequest>),
    (25, round_trip::<raft::TransferLeaderRequest>),
    (26, round_trip::<raft::InstallSnapshotRequest>),
    (27, round_trip::<controller::AlterPartitionsRequest>),
    (28, round_trip::<controller::ReportUnfitReplicasRequest>),
    (29, round_trip::<controller::ReassignRequest>),
    (30, round_trip::<controller::ElectPreferredLeadersRequest>),
    (31, round_trip::<controller::ElectUncleanLeadersRequest>),
    (32, round_trip::<admin::ReassignRequest>),
    (33, round_trip::<admin::ListReassignmentsRequest>),
    (34, round_trip::<admin::PlanReassignmentRequest>),
    (35, round_trip::<admin::ElectPreferredLeadersRequest>),
    (36, round_trip::<admin::ElectUncleanLeadersRequest>),
    (37, round_trip::<broker::DescribeReplicasRequest>),
    (38, round_trip::<controller::UpdateFeaturesRequest>),
    (39, round_trip::<admin::UpdateFeaturesRequest>),
];

pub(super) fn message(input: &[u8]) {
    let Some((number, bytes)) = input.split_first() else { return };
    let check = MESSAGES.iter().find(|(known, _)| known == number).map(|(_, check)| check);
    if let Some(check) = check {
        check(bytes);
    }
}

/// What is understood is said again and understood the same.
fn round_trip<M: Message + Default + PartialEq + std::fmt::Debug>(input: &[u8]) {
    let decode = |bytes: Bytes| peak::times(FACTOR, &bytes.clone(), || M::decode(bytes));
    let Ok(message) = decode(Bytes::copy_from_slice(input)) else { return };
    let said = message.encode_to_vec();
    assert_eq!(said.len(), message.encoded_len());
    let again = decode(said.into()).expect("what was said is understood");
    assert!(again == message, "{again:?} was {message:?}");
}

pub(super) fn produce(input: &[u8]) {
    if let Ok(request) = producer::ProduceRequest::decode(Bytes::copy_from_slice(input)) {
        // Each codec has its own working memory, up to a few hundred KiB.
        peak::within(FACTOR * input.len() + (4 << 20), || gateway::check_and_pack(request));
    }
}

pub(super) fn fetch(input: &[u8]) {
    if let Ok(request) = consumer::FetchRequest::decode(Bytes::copy_from_slice(input)) {
        peak::times(FACTOR, input, || gateway::check_fetch(request));
    }
}

/// Stored batches to records: the first byte says where the reading begins, the second one how much is wanted.
pub(super) fn records(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (from, budget) = (i64::from(choices.byte()), usize::from(choices.byte()) * 16);
    let batches = [Bytes::copy_from_slice(choices.rest)];
    gateway::decode_records(&batches, Offset(from), budget);
}

pub(super) fn controller(input: &[u8]) {
    use thalweg_controller::fuzzing;
    let Some((call, bytes)) = input.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    peak::times(FACTOR, input, || match call {
        0 => with(bytes, fuzzing::register_node),
        1 => with(bytes, |request| fuzzing::heartbeat(&request)),
        2 => with(bytes, fuzzing::create_topics),
        3 => with(bytes, fuzzing::delete_topics),
        4 => with(bytes, fuzzing::create_partitions),
        5 => with(bytes, fuzzing::alter_configs),
        6 => with(bytes, fuzzing::alter_partitions),
        7 => with(bytes, fuzzing::report_unfit_replicas),
        8 => with(bytes, fuzzing::reassign),
        9 => with(bytes, fuzzing::elect_preferred_leaders),
        10 => with(bytes, fuzzing::elect_unclean_leaders),
        11 => with(bytes, fuzzing::update_features),
        _ => {}
    });
}

fn with<M: Message + Default>(bytes: Bytes, then: impl FnOnce(M)) {
    if let Ok(message) = M::decode(bytes) {
        then(message);
    }
}

// ---- Seeds ----

fn produce_requests() -> Vec<producer::ProduceRequest> {
    use producer::produce_request::Payload;
    let header = common::Header { key: "trace".to_owned(), value: Some(Bytes::from_static(b"1")) };
    let record = |key: &'static [u8]| producer::Record {
        key: Some(Bytes::from_static(key)),
        value: Some(Bytes::from_static(b"value")),
        headers: vec![header.clone()],
        timestamp_ms: Some(1),
    };
    let records = vec![record(b"a"), producer::Record::default(), record(b"b")];
    let plain = producer::ProduceRequest {
        topic: "orders".to_owned(),
        payload: Some(Payload::Records(producer::Records { records })),
        ..Default::default()
    };
    let sequence =
        producer::ProducerSequence { producer_id: 1, producer_epoch: 0, base_sequence: 7 };
    let idempotent = producer::ProduceRequest {
        partition: Some(3),
        acks: 1,
        timeout_ms: 1_000,
        compression: common::Compression::Zstd.into(),
        producer: Some(sequence),
        create_topic: true,
        ..plain.clone()
    };
    let batch = batches::sample_batch(CompressionType::None).freeze();
    let ready_made = producer::ProduceRequest {
        topic: "orders".to_owned(),
        partition: Some(0),
        payload: Some(Payload::Batch(batch)),
        ..Default::default()
    };
    vec![plain, idempotent, ready_made]
}

fn fetch_request() -> consumer::FetchRequest {
    let partition = |partition| consumer::FetchPartition {
        topic: "orders".to_owned(),
        partition,
        offset: 5,
        ..Default::default()
    };
    consumer::FetchRequest {
        partitions: vec![partition(0), partition(1)],
        max_wait_ms: 100,
        ..Default::default()
    }
}

fn controller_requests() -> Vec<(u8, Vec<u8>)> {
    use controller::topic_reference::Reference;
    let topic = controller::NewTopic {
        name: "orders".to_owned(),
        partition_count: 2,
        replication_factor: 1,
        assignments: vec![controller::Assignment { partition: 0, replicas: vec![1, 2] }],
        configs: vec![controller::ConfigEntry {
            name: "retention.ms".to_owned(),
            value: Some("5".to_owned()),
        }],
    };
    let node = controller::RegisterNodeRequest {
        role: 1,
        dir_id: vec![1; 16].into(),
        incarnation: vec![2; 16].into(),
        cluster_id: Some(vec![3; 16].into()),
        ..Default::default()
    };
    let by_name = |name: &str| controller::TopicReference {
        reference: Some(Reference::Name(name.to_owned())),
    };
    let by_id = controller::TopicReference {
        reference: Some(Reference::TopicId(Bytes::from_static(&[4; 16]))),
    };
    let deletion = controller::DeleteTopicsRequest { topics: vec![by_name("orders"), by_id] };
    let growth = controller::TopicGrowth {
        name: "orders".to_owned(),
        partition_count: 5,
        assignments: vec![controller::Assignment { partition: 4, replicas: vec![1] }],
    };
    let change = controller::ConfigChange {
        name: "cleanup.policy".to_owned(),
        value: Some("delete".to_owned()),
        edit: 1,
    };
    let target = controller::config_target::Target::Topic("orders".to_owned());
    let alteration = controller::ConfigAlteration {
        target: Some(controller::ConfigTarget { target: Some(target) }),
        changes: vec![change],
        ..Default::default()
    };
    let creation = controller::CreateTopicsRequest { topics: vec![topic], validate_only: false };
    let growing =
        controller::CreatePartitionsRequest { topics: vec![growth], ..Default::default() };
    let altering =
        controller::AlterConfigsRequest { resources: vec![alteration], ..Default::default() };
    let proposal = controller::Proposal {
        partition: Some(controller::TopicIdPartition {
            topic_id: Bytes::from_static(&[4; 16]),
            partition: 1,
        }),
        leader_epoch: 3,
        partition_epoch: 5,
        isr: vec![controller::ProposedMember { node_id: 1, broker_epoch: 9 }],
        unfit: vec![2],
        proven: vec![1],
        ..Default::default()
    };
    let proposing = controller::AlterPartitionsRequest {
        node_id: 1,
        broker_epoch: 9,
        proposals: vec![proposal],
    };
    vec![
        (0, node.encode_to_vec()),
        (1, controller::HeartbeatRequest { node_id: 1, ..Default::default() }.encode_to_vec()),
        (2, creation.encode_to_vec()),
        (3, deletion.encode_to_vec()),
        (4, growing.encode_to_vec()),
        (5, altering.encode_to_vec()),
        (6, proposing.encode_to_vec()),
    ]
}

pub(super) fn message_seeds() -> Seeds {
    let mut seeds: Vec<Vec<u8>> = (0..).zip(MESSAGES).map(|(number, _)| vec![number]).collect();
    let mut add = |number: u8, message: Vec<u8>| seeds.push([&[number], &message[..]].concat());
    for request in produce_requests() {
        add(0, request.encode_to_vec());
    }
    add(2, fetch_request().encode_to_vec());
    for ((_, request), number) in
        controller_requests().into_iter().zip([12, 13, 16, 17, 18, 19, 27])
    {
        add(number, request);
    }
    numbered(seeds)
}

pub(super) fn produce_seeds() -> Seeds {
    numbered(produce_requests().iter().map(Message::encode_to_vec))
}

pub(super) fn fetch_seeds() -> Seeds {
    numbered([fetch_request().encode_to_vec()])
}

pub(super) fn records_seeds() -> Seeds {
    let codecs = [
        CompressionType::None,
        CompressionType::Gzip,
        CompressionType::Snappy,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ];
    let stored = |codec| {
        let mut batch = batches::sample_batch(codec);
        thalweg_record::stamp(&mut batch, Offset(10), LeaderEpoch(1));
        [&[11, 255], &batch[..]].concat()
    };
    numbered(codecs.map(stored))
}

pub(super) fn controller_seeds() -> Seeds {
    let requests = controller_requests().into_iter();
    numbered(requests.map(|(call, request)| [&[call], &request[..]].concat()))
}
