//! Groups that a server might have: `billing` falls behind with two members, `audit` has none, and nothing else is there.

use thalweg_proto::admin::v1 as admin;
use thalweg_proto::common::v1::ErrorDetail;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;
use tonic::Status;

fn unknown(id: &str) -> Option<ErrorDetail> {
    let is_known = ["audit", "billing"].contains(&id);
    (!is_known).then(|| Error::new(ErrorCode::GroupIdNotFound, "there is none").to_detail())
}

fn orders(partitions: &[i32]) -> Vec<admin::TopicPartitionList> {
    vec![admin::TopicPartitionList { topic: "orders".to_owned(), partitions: partitions.to_vec() }]
}

/// One group a page, so that clients have to turn pages.
pub(crate) fn list(request: admin::ListGroupsRequest) -> Result<admin::ListGroupsResponse, Status> {
    let group = |id: &str, state: admin::GroupState| admin::GroupListing {
        group_id: id.to_owned(),
        r#type: admin::GroupType::Consumer.into(),
        state: state.into(),
        protocol_type: "consumer".to_owned(),
    };
    let groups: Vec<_> =
        [group("audit", admin::GroupState::Empty), group("billing", admin::GroupState::Stable)]
            .into_iter()
            .filter(|group| request.states.is_empty() || request.states.contains(&group.state))
            .filter(|group| group.group_id > request.page_token)
            .collect();
    let next_page_token = match &groups[..] {
        [first, _, ..] => first.group_id.clone(),
        _ => String::new(),
    };
    let groups = groups.into_iter().take(1).collect();
    Ok(admin::ListGroupsResponse { groups, next_page_token, ..Default::default() })
}

pub(crate) fn describe(
    request: admin::DescribeGroupsRequest,
) -> Result<admin::DescribeGroupsResponse, Status> {
    let describe = |id: String| {
        let member = |member_id: &str, partitions: &[i32]| admin::GroupMember {
            member_id: member_id.to_owned(),
            client_id: "app\u{1b}[2J".to_owned(),
            client_host: "10.0.0.1".to_owned(),
            member_epoch: Some(4),
            assignment: orders(partitions),
            target_assignment: orders(partitions),
            ..Default::default()
        };
        let members = match id.as_str() {
            "billing" => vec![member("m-1", &[0, 1]), member("m-2", &[2])],
            _ => Vec::new(),
        };
        admin::GroupDescription {
            error: unknown(&id),
            group_id: id,
            r#type: admin::GroupType::Consumer.into(),
            state: admin::GroupState::Stable.into(),
            assignor: "uniform".to_owned(),
            group_epoch: Some(4),
            assignment_epoch: Some(4),
            members,
        }
    };
    let groups = request.group_ids.into_iter().map(describe).collect();
    Ok(admin::DescribeGroupsResponse { groups })
}

pub(crate) fn lag(request: admin::GroupLagRequest) -> Result<admin::GroupLagResponse, Status> {
    let groups = request.group_ids.into_iter().map(lag_of).collect();
    Ok(admin::GroupLagResponse { groups })
}

fn lag_of(id: String) -> admin::GroupLag {
    let row = |partition, committed: Option<i64>, lag_ms| admin::PartitionLag {
        topic: "orders".to_owned(),
        partition,
        committed_offset: committed,
        log_start_offset: Some(0),
        log_end_offset: Some(100),
        lag_records: committed.map(|committed| 100 - committed),
        lag_ms,
        member_id: "m-1".to_owned(),
        ..Default::default()
    };
    admin::GroupLag {
        error: unknown(&id),
        group_id: id,
        state: admin::GroupState::Stable.into(),
        partitions: vec![row(0, Some(60), Some(90_000)), row(1, None, None)],
        members: vec![admin::MemberLag {
            member_id: "m-1".to_owned(),
            client_id: "app".to_owned(),
            client_host: "10.0.0.1".to_owned(),
            partition_count: 2,
            lag_records: 40,
            lag_ms: Some(90_000),
            ..Default::default()
        }],
        lag_records: 40,
        lag_ms: Some(90_000),
    }
}

pub(crate) fn diagnose(
    request: admin::DiagnoseGroupRequest,
) -> Result<admin::DiagnoseGroupResponse, Status> {
    let kind = match request.group_id.as_str() {
        "billing" => admin::DiagnosisKind::StuckMember,
        _ => admin::DiagnosisKind::KeepsUp,
    };
    let diagnosis = admin::Diagnosis {
        kind: kind.into(),
        finding: "what was seen".to_owned(),
        advice: "what to do".to_owned(),
        ..Default::default()
    };
    Ok(admin::DiagnoseGroupResponse {
        diagnoses: vec![diagnosis],
        lag: Some(lag_of(request.group_id)),
        lag_records_change: 3,
        committed_records: 2,
        watched_ms: request.watch_ms,
    })
}

/// To where it was asked, or refused while somebody is there.
pub(crate) fn reset(
    request: admin::ResetGroupOffsetsRequest,
) -> Result<admin::ResetGroupOffsetsResponse, Status> {
    use admin::reset_group_offsets_request::To;
    if request.group_id == "billing" {
        return Err(Error::new(ErrorCode::NonEmptyGroup, "it has members").not_applied().into());
    }
    let offset = match request.to {
        Some(To::Shift(records)) => 50 + records,
        Some(To::Offset(offset)) => offset,
        Some(To::TimestampMs(ms)) => ms,
        Some(To::Latest(_)) => 100,
        Some(To::Earliest(_)) | None => 0,
    };
    let row = |topic: &str, partition| admin::ResetPartition {
        topic: topic.to_owned(),
        partition,
        previous_offset: Some(50),
        offset,
        ..Default::default()
    };
    let partitions = request.scopes.iter().flat_map(|scope| {
        let all = [0, 1];
        let partitions = if scope.partitions.is_empty() { &all } else { &scope.partitions[..] };
        partitions.iter().map(|partition| row(&scope.topic, *partition)).collect::<Vec<_>>()
    });
    let mut partitions: Vec<_> = partitions.collect();
    if partitions.is_empty() && request.group_id == "audit" {
        partitions.push(row("orders", 0));
    }
    Ok(admin::ResetGroupOffsetsResponse { partitions })
}

pub(crate) fn delete(
    request: admin::DeleteGroupsRequest,
) -> Result<admin::DeleteGroupsResponse, Status> {
    let delete = |id: String| admin::DeletedGroup { error: unknown(&id), group_id: id };
    let groups = request.group_ids.into_iter().map(delete).collect();
    Ok(admin::DeleteGroupsResponse { groups })
}
