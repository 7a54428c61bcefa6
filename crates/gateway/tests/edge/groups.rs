//! Groups over gRPC: listed, described, their offsets kept and reset, their lag in records and in time.

use std::time::Duration;

use thalweg_proto::admin::v1 as admin;
use thalweg_proto::consumer::v1 as consumer;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId, Outcome};

use crate::rig::{NOW_MS, Rig, assert_refused, record, records_to, values};
use admin::reset_group_offsets_request::To;

/// A record of an age.
async fn produce_at(rig: &Rig, partition: i32, timestamp_ms: i64, value: &str) {
    let one = thalweg_proto::producer::v1::Record {
        timestamp_ms: Some(timestamp_ms),
        ..record(None, value)
    };
    let request = thalweg_proto::producer::v1::ProduceRequest {
        partition: Some(partition),
        ..records_to("orders", vec![one])
    };
    rig.produce(request).await;
}

fn commit(group: &str, partition: i32, offset: i64) -> consumer::CommitRequest {
    consumer::CommitRequest {
        group_id: group.to_owned(),
        member: None,
        offsets: vec![consumer::OffsetToCommit {
            topic: "orders".to_owned(),
            partition,
            offset,
            leader_epoch: Some(2),
            metadata: "mine".to_owned(),
        }],
    }
}

async fn committed(rig: &Rig, group: &str) -> Vec<(i32, Option<i64>)> {
    let request =
        consumer::CommittedOffsetsRequest { group_id: group.to_owned(), ..Default::default() };
    let answer = rig.consumer().committed_offsets(request).await.unwrap().into_inner();
    answer.offsets.iter().map(|one| (one.partition, one.offset)).collect()
}

fn reset(group: &str, to: To) -> admin::ResetGroupOffsetsRequest {
    admin::ResetGroupOffsetsRequest {
        group_id: group.to_owned(),
        to: Some(to),
        ..Default::default()
    }
}

fn error_code(detail: &Option<thalweg_proto::common::v1::ErrorDetail>) -> Option<ErrorCode> {
    detail.clone().map(|detail| Error::from_detail(detail).code)
}

#[tokio::test]
async fn what_is_committed_is_there_with_its_epoch_and_metadata() {
    let rig = Rig::start(&[("orders", 2)]).await;
    let answer = rig.consumer().commit(commit("g", 1, 42)).await.unwrap().into_inner();
    assert_eq!(error_code(&answer.partitions[0].error), None);
    let partition = |index| consumer::PartitionRef { topic: "orders".to_owned(), partition: index };
    let request = consumer::CommittedOffsetsRequest {
        group_id: "g".to_owned(),
        partitions: vec![partition(1), partition(0)],
        require_stable: true,
    };
    let answer = rig.consumer().committed_offsets(request).await.unwrap().into_inner();
    let [none, some] = &answer.offsets[..] else { panic!("{answer:?}") };
    assert_eq!((none.partition, none.offset), (0, None));
    let found = (some.partition, some.offset, some.leader_epoch, some.metadata.as_str());
    assert_eq!(found, (1, Some(42), Some(2), "mine"));
    assert_eq!(committed(&rig, "g").await, [(1, Some(42))]);
    assert_eq!(committed(&rig, "nobody").await, []);
}

#[tokio::test]
async fn a_partition_that_is_refused_says_so_in_its_place() {
    let rig = Rig::start(&[("orders", 2)]).await;
    let mut request = commit("g", 1, 5);
    let mut long = request.offsets[0].clone();
    (long.partition, long.metadata) = (0, "x".repeat(100));
    request.offsets.insert(0, long);
    let answer = rig.consumer().commit(request).await.unwrap().into_inner();
    let codes: Vec<_> = answer.partitions.iter().map(|one| error_code(&one.error)).collect();
    assert_eq!(codes, [Some(ErrorCode::OffsetMetadataTooLarge), None]);
    assert_eq!(committed(&rig, "g").await, [(1, Some(5))]);
}

#[tokio::test]
async fn commits_in_the_name_of_a_member_need_its_epoch() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.coordinator.with("g", |group| {
        group.members.insert("m-1".to_owned(), vec![("orders".to_owned(), 0)]);
        group.committer = Some(("m-1".to_owned(), 4));
    });
    let member = |epoch| {
        Some(consumer::GroupMembership { member_id: "m-1".to_owned(), epoch, ..Default::default() })
    };
    for (member, expected) in [
        (member(4), None),
        (member(3), Some(ErrorCode::UnknownMemberId)),
        (None, Some(ErrorCode::UnknownMemberId)),
    ] {
        let request = consumer::CommitRequest { member, ..commit("g", 0, 9) };
        let answer = rig.consumer().commit(request).await.unwrap().into_inner();
        assert_eq!(error_code(&answer.partitions[0].error), expected);
    }
}

#[tokio::test]
async fn commits_that_make_no_sense_are_refused_before_a_coordinator_is_asked() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let twice = {
        let mut request = commit("g", 0, 1);
        request.offsets.extend(request.offsets.clone());
        request
    };
    let bad_member = |member_id: &str, epoch| consumer::CommitRequest {
        member: Some(consumer::GroupMembership {
            member_id: member_id.to_owned(),
            epoch,
            ..Default::default()
        }),
        ..commit("g", 0, 1)
    };
    let cases = [
        (commit("", 0, 1), ErrorCode::InvalidGroupId),
        (commit(&"g".repeat(32_768), 0, 1), ErrorCode::InvalidGroupId),
        (commit("g", -1, 1), ErrorCode::InvalidRequest),
        (commit("g", 0, -1), ErrorCode::InvalidRequest),
        (twice, ErrorCode::InvalidRequest),
        (bad_member("", 1), ErrorCode::InvalidRequest),
        (bad_member("m", -1), ErrorCode::InvalidRequest),
        (
            consumer::CommitRequest { offsets: Vec::new(), ..commit("g", 0, 1) },
            ErrorCode::InvalidRequest,
        ),
    ];
    for (request, code) in cases {
        let error = Error::from(rig.consumer().commit(request).await.unwrap_err());
        assert_refused(&error, code);
    }
    assert!(rig.coordinator.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_coordinator_that_loads_or_moves_is_asked_again() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.coordinator.refuse(&[
        ErrorCode::NotCoordinator,
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::CoordinatorNotAvailable,
    ]);
    let unreached = Error::from(ErrorCode::NetworkException).not_applied();
    rig.coordinator.failures.lock().unwrap().push_back(unreached);
    let answer = rig.consumer().commit(commit("g", 0, 7)).await.unwrap().into_inner();
    assert_eq!(error_code(&answer.partitions[0].error), None);
    assert_eq!(rig.coordinator.call_count("OffsetCommit"), 5);
    assert_eq!(committed(&rig, "g").await, [(0, Some(7))]);
}

#[tokio::test]
async fn a_commit_whose_fate_is_unknown_is_not_repeated_and_says_so() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let lost = Error::from(ErrorCode::NetworkException).outcome_unknown();
    rig.coordinator.failures.lock().unwrap().push_back(lost);
    let error = Error::from(rig.consumer().commit(commit("g", 0, 7)).await.unwrap_err());
    assert_eq!((error.code, error.outcome), (ErrorCode::NetworkException, Outcome::Unknown));
    assert_eq!(rig.coordinator.call_count("OffsetCommit"), 1);
}

#[tokio::test]
async fn a_coordinator_that_never_comes_is_not_waited_for_beyond_the_deadline() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.coordinator.refuse(&[ErrorCode::NotCoordinator; 1_000]);
    let mut request = tonic::Request::new(commit("g", 0, 7));
    request.set_timeout(Duration::from_secs(2));
    let error = Error::from(rig.consumer().commit(request).await.unwrap_err());
    assert!(
        matches!(error.code, ErrorCode::NotCoordinator | ErrorCode::RequestTimedOut),
        "{error}"
    );
}

#[tokio::test]
async fn groups_are_listed_in_pages_and_by_state_and_what_is_missing_is_told() {
    let rig = Rig::start(&[]).await;
    for id in ["c", "a", "b"] {
        rig.coordinator.with(id, |group| group.is_consumer = id == "b");
    }
    rig.coordinator.with("a", |group| group.members.insert("m".to_owned(), Vec::new()));
    let list = |request: admin::ListGroupsRequest| {
        let mut client = rig.admin();
        async move { client.list_groups(request).await.map(tonic::Response::into_inner) }
    };
    let ids = |answer: &admin::ListGroupsResponse| -> Vec<String> {
        answer.groups.iter().map(|group| group.group_id.clone()).collect()
    };
    let first =
        list(admin::ListGroupsRequest { page_size: 2, ..Default::default() }).await.unwrap();
    assert_eq!((ids(&first), first.next_page_token.as_str()), (vec!["a".into(), "b".into()], "b"));
    let page_token = first.next_page_token;
    let rest = list(admin::ListGroupsRequest { page_token, ..Default::default() }).await.unwrap();
    assert_eq!((ids(&rest), rest.next_page_token.as_str()), (vec!["c".into()], ""));
    let states = vec![admin::GroupState::Stable.into()];
    let stable = list(admin::ListGroupsRequest { states, ..Default::default() }).await.unwrap();
    assert_eq!(ids(&stable), ["a"]);
    let types = vec![admin::GroupType::Consumer.into()];
    let consumer = list(admin::ListGroupsRequest { types, ..Default::default() }).await.unwrap();
    assert_eq!(ids(&consumer), ["b"]);
    assert_eq!(consumer.unreached, []);
    *rig.coordinator.lost.lock().unwrap() = Some(NodeId(8));
    let partial = list(admin::ListGroupsRequest::default()).await.unwrap();
    assert_eq!((ids(&partial).len(), partial.unreached[0].node_id), (3, 8));
    let states = vec![99];
    let refused = list(admin::ListGroupsRequest { states, ..Default::default() }).await;
    assert_refused(&Error::from(refused.unwrap_err()), ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn groups_of_both_types_are_described_alike() {
    let rig = Rig::start(&[("orders", 2)]).await;
    for (id, is_consumer) in [("new", true), ("old", false)] {
        rig.coordinator.with(id, |group| {
            group.is_consumer = is_consumer;
            group.members.insert("m-1".to_owned(), vec![("orders".to_owned(), 1)]);
        });
    }
    rig.coordinator.with("old", |group| group.members.insert("garbled".to_owned(), Vec::new()));
    let group_ids = ["new", "old", "none", ""].map(str::to_owned).to_vec();
    let request = admin::DescribeGroupsRequest { group_ids };
    let answer = rig.admin().describe_groups(request).await.unwrap().into_inner();
    let [new, old, none, empty] = &answer.groups[..] else { panic!("{answer:?}") };
    let list = |partitions: &[i32]| {
        vec![admin::TopicPartitionList {
            topic: "orders".to_owned(),
            partitions: partitions.to_vec(),
        }]
    };
    assert_eq!(
        (new.r#type(), new.state()),
        (admin::GroupType::Consumer, admin::GroupState::Stable)
    );
    assert_eq!((new.assignor.as_str(), new.group_epoch), ("uniform", Some(3)));
    assert_eq!(new.members[0].assignment, list(&[1]));
    assert_eq!((old.r#type(), old.assignor.as_str()), (admin::GroupType::Classic, "range"));
    let member = old.members.iter().find(|member| member.member_id == "m-1").unwrap();
    assert_eq!(member.assignment, list(&[1]));
    assert_eq!(member.subscribed_topics, ["orders"]);
    let garbled = old.members.iter().find(|member| member.member_id == "garbled").unwrap();
    assert_eq!(garbled.assignment, []);
    assert_eq!(error_code(&none.error), Some(ErrorCode::GroupIdNotFound));
    assert_eq!(error_code(&empty.error), Some(ErrorCode::InvalidGroupId));
}

#[tokio::test]
async fn lag_is_told_in_records_and_in_time_by_partition_and_by_member() {
    let rig = Rig::start(&[("orders", 3)]).await;
    for (age_ms, value) in [(90_000, "a"), (60_000, "b"), (30_000, "c")] {
        produce_at(&rig, 0, NOW_MS - age_ms, value).await;
    }
    produce_at(&rig, 1, NOW_MS - 5_000, "d").await;
    rig.coordinator.with("g", |group| {
        group.is_consumer = true;
        let orders = |partition| ("orders".to_owned(), partition);
        group.members.insert("m-1".to_owned(), vec![orders(0), orders(2)]);
        group.members.insert("m-2".to_owned(), vec![orders(1)]);
        group.offsets.insert(orders(0), (1, -1, String::new()));
        group.offsets.insert(orders(1), (1, -1, String::new()));
    });
    let group_ids = vec!["g".to_owned(), "none".to_owned()];
    let request = admin::GroupLagRequest { group_ids: group_ids.clone(), records_only: false };
    let answer = rig.admin().group_lag(request).await.unwrap().into_inner();
    let [lag, none] = &answer.groups[..] else { panic!("{answer:?}") };
    let rows: Vec<_> = lag
        .partitions
        .iter()
        .map(|row| (row.partition, row.committed_offset, row.lag_records, row.lag_ms))
        .collect();
    let expected = [
        (0, Some(1), Some(2), Some(60_000)),
        (1, Some(1), Some(0), Some(0)),
        (2, None, None, None),
    ];
    assert_eq!(rows, expected);
    assert_eq!((lag.lag_records, lag.lag_ms), (2, Some(60_000)));
    let members: Vec<_> = lag
        .members
        .iter()
        .map(|member| (member.member_id.as_str(), member.partition_count, member.lag_records))
        .collect();
    assert_eq!(members, [("m-1", 2, 2), ("m-2", 1, 0)]);
    assert_eq!(error_code(&none.error), Some(ErrorCode::GroupIdNotFound));
    let request = admin::GroupLagRequest { group_ids, records_only: true };
    let answer = rig.admin().group_lag(request).await.unwrap().into_inner();
    assert_eq!((answer.groups[0].lag_records, answer.groups[0].lag_ms), (2, None));
}

#[tokio::test]
async fn an_offset_behind_the_log_is_no_lag_and_a_topic_that_is_gone_is_told() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(values("orders", &["a", "b"])).await;
    rig.coordinator.with("g", |group| {
        group.offsets.insert(("orders".to_owned(), 0), (50, -1, String::new()));
        group.offsets.insert(("gone".to_owned(), 0), (1, -1, String::new()));
    });
    let request = admin::GroupLagRequest { group_ids: vec!["g".to_owned()], records_only: false };
    let answer = rig.admin().group_lag(request).await.unwrap().into_inner();
    let [gone, orders] = &answer.groups[0].partitions[..] else { panic!("{answer:?}") };
    assert_eq!(error_code(&gone.error), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!((orders.lag_records, orders.log_end_offset), (Some(0), Some(2)));
}

#[tokio::test]
async fn offsets_are_reset_to_places_times_and_by_steps() {
    let rig = Rig::start(&[("orders", 2)]).await;
    for (at, value) in [(1_000, "a"), (2_000, "b"), (3_000, "c"), (4_000, "d")] {
        produce_at(&rig, 0, at, value).await;
    }
    rig.consumer().commit(commit("g", 0, 2)).await.unwrap();
    let cases = [
        (To::Earliest(true), 0),
        (To::Latest(true), 4),
        (To::TimestampMs(2_500), 2),
        (To::TimestampMs(9_000), 4),
        (To::Shift(-1), 3),
        (To::Shift(-100), 0),
        (To::Offset(3), 3),
        (To::Offset(300), 4),
    ];
    let mut before = 2;
    for (to, expected) in cases {
        let dry = admin::ResetGroupOffsetsRequest { dry_run: true, ..reset("g", to) };
        let answer = rig.admin().reset_group_offsets(dry).await.unwrap().into_inner();
        let row = &answer.partitions[0];
        assert_eq!((row.previous_offset, row.offset), (Some(before), expected), "{to:?}");
        assert_eq!(committed(&rig, "g").await, [(0, Some(before))], "a dry run changes nothing");
        rig.admin().reset_group_offsets(reset("g", to)).await.unwrap();
        assert_eq!(committed(&rig, "g").await, [(0, Some(expected))], "{to:?}");
        before = expected;
    }
}

#[tokio::test]
async fn a_reset_of_a_topic_makes_a_group_where_there_was_none() {
    let rig = Rig::start(&[("orders", 3)]).await;
    rig.produce(values("orders", &["a", "b"])).await;
    let scope = |partitions: &[i32]| {
        vec![admin::ResetScope { topic: "orders".to_owned(), partitions: partitions.to_vec() }]
    };
    let request = admin::ResetGroupOffsetsRequest {
        scopes: scope(&[0, 2]),
        ..reset("new", To::Latest(true))
    };
    rig.admin().reset_group_offsets(request).await.unwrap();
    assert_eq!(committed(&rig, "new").await, [(0, Some(2)), (2, Some(0))]);
    let request =
        admin::ResetGroupOffsetsRequest { scopes: scope(&[3]), ..reset("new", To::Latest(true)) };
    let error = Error::from(rig.admin().reset_group_offsets(request).await.unwrap_err());
    assert_refused(&error, ErrorCode::UnknownTopicOrPartition);
    let request =
        admin::ResetGroupOffsetsRequest { scopes: scope(&[1]), ..reset("new", To::Shift(1)) };
    let answer = rig.admin().reset_group_offsets(request).await.unwrap().into_inner();
    assert_eq!(error_code(&answer.partitions[0].error), Some(ErrorCode::InvalidRequest));
}

#[tokio::test]
async fn a_group_with_members_is_neither_reset_nor_deleted() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.consumer().commit(commit("g", 0, 2)).await.unwrap();
    rig.coordinator.with("g", |group| group.members.insert("m".to_owned(), Vec::new()));
    let refused = rig.admin().reset_group_offsets(reset("g", To::Earliest(true))).await;
    let error = Error::from(refused.unwrap_err());
    assert_refused(&error, ErrorCode::NonEmptyGroup);
    assert!(error.message.contains("app at 10.0.0.1"), "{error}");
    let group_ids = ["g", "none"].map(str::to_owned).to_vec();
    let request = admin::DeleteGroupsRequest { group_ids };
    let answer = rig.admin().delete_groups(request.clone()).await.unwrap().into_inner();
    let codes: Vec<_> = answer.groups.iter().map(|group| error_code(&group.error)).collect();
    assert_eq!(codes, [Some(ErrorCode::NonEmptyGroup), Some(ErrorCode::GroupIdNotFound)]);
    rig.coordinator.with("g", |group| group.members.clear());
    let answer = rig.admin().delete_groups(request).await.unwrap().into_inner();
    assert_eq!(error_code(&answer.groups[0].error), None);
    assert_eq!(committed(&rig, "g").await, []);
}

#[tokio::test]
async fn resets_that_say_nothing_or_nonsense_are_refused() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let scope = |topic: &str| admin::ResetScope { topic: topic.to_owned(), partitions: vec![] };
    let latest = || reset("g", To::Latest(true));
    let cases = [
        (admin::ResetGroupOffsetsRequest { to: None, ..latest() }, ErrorCode::InvalidRequest),
        (reset("g", To::Earliest(false)), ErrorCode::InvalidRequest),
        (reset("g", To::TimestampMs(-1)), ErrorCode::InvalidRequest),
        (reset("g", To::Offset(-1)), ErrorCode::InvalidRequest),
        (reset("", To::Latest(true)), ErrorCode::InvalidGroupId),
        (
            admin::ResetGroupOffsetsRequest { scopes: vec![scope("no such")], ..latest() },
            ErrorCode::InvalidTopicException,
        ),
        (
            admin::ResetGroupOffsetsRequest { scopes: vec![scope("none")], ..latest() },
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            admin::ResetGroupOffsetsRequest {
                scopes: vec![scope("orders"), scope("orders")],
                ..latest()
            },
            ErrorCode::InvalidRequest,
        ),
    ];
    for (request, code) in cases {
        let error = Error::from(rig.admin().reset_group_offsets(request).await.unwrap_err());
        assert_refused(&error, code);
    }
}

#[tokio::test]
async fn a_group_nobody_is_in_is_diagnosed_as_such() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(values("orders", &["a", "b"])).await;
    rig.consumer().commit(commit("g", 0, 0)).await.unwrap();
    let request = admin::DiagnoseGroupRequest { group_id: "g".to_owned(), watch_ms: 50 };
    let answer = rig.admin().diagnose_group(request).await.unwrap().into_inner();
    assert_eq!(answer.diagnoses[0].kind(), admin::DiagnosisKind::NoMembers);
    assert_eq!(answer.lag.unwrap().lag_records, 2);
    let request = admin::DiagnoseGroupRequest { group_id: "g".to_owned(), watch_ms: 60_001 };
    let error = Error::from(rig.admin().diagnose_group(request).await.unwrap_err());
    assert_refused(&error, ErrorCode::InvalidRequest);
}
