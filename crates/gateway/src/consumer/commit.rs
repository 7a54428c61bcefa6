//! Committed offsets by the public protocol.

use std::collections::BTreeMap;

use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::Offset;

use super::fetch::PARTITIONS_MAX;
use crate::groups::offsets::{self, Member, Name, Position};
use crate::groups::{self, group_id};
use crate::port::BrokerPort;
use crate::shared::Shared;
use crate::words;

/// Longest text kept with an offset that is passed on; the cluster's own limit is usually lower, and answered per partition.
const METADATA_BYTES_MAX: usize = i16::MAX as usize;

pub(super) async fn commit<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::CommitRequest,
    deadline: Deadline,
) -> Result<proto::CommitResponse, Error> {
    let group = group_id(&request.group_id)?;
    words::some_but_at_most("offsets", request.offsets.len(), PARTITIONS_MAX)?;
    let member = request.member.map(member).transpose()?.unwrap_or_default();
    let mut positions = BTreeMap::new();
    let mut order = Vec::with_capacity(request.offsets.len());
    for one in request.offsets {
        let (name, position) = position(one)?;
        if positions.insert(name.clone(), position).is_some() {
            return Err(twice(&name));
        }
        order.push(name);
    }
    let client = groups::nobody();
    let mut results = offsets::commit(shared, group, client, member, positions, deadline).await?;
    let answer = |name: Name| proto::CommittedPartition {
        error: results.remove(&name).and_then(Result::err).map(|error| error.to_detail()),
        topic: name.0,
        partition: name.1,
    };
    Ok(proto::CommitResponse { partitions: order.into_iter().map(answer).collect() })
}

pub(super) async fn committed<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::CommittedOffsetsRequest,
    deadline: Deadline,
) -> Result<proto::CommittedOffsetsResponse, Error> {
    let group = group_id(&request.group_id)?;
    words::at_most("the number of partitions", request.partitions.len(), PARTITIONS_MAX)?;
    let mut names = Vec::with_capacity(request.partitions.len());
    for one in request.partitions {
        names.push(name(one.topic, one.partition)?);
    }
    names.sort();
    if let Some(pair) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        return Err(twice(&pair[0]));
    }
    let names = (!names.is_empty()).then_some(names);
    let kept = offsets::committed(shared, group, names, request.require_stable, deadline).await?;
    let answer = |((topic, partition), kept): (Name, offsets::Kept)| {
        let answer = proto::CommittedOffset { topic, partition, ..Default::default() };
        match kept {
            Err(error) => proto::CommittedOffset { error: Some(error.to_detail()), ..answer },
            Ok(None) => answer,
            Ok(Some(position)) => proto::CommittedOffset {
                offset: Some(position.offset),
                leader_epoch: (position.leader_epoch >= 0).then_some(position.leader_epoch),
                metadata: position.metadata,
                ..answer
            },
        }
    };
    Ok(proto::CommittedOffsetsResponse { offsets: kept.into_iter().map(answer).collect() })
}

fn member(given: proto::GroupMembership) -> Result<Member, Error> {
    if given.member_id.is_empty() {
        return Err(Error::invalid_request("member.member_id must not be empty"));
    }
    if given.epoch < 0 {
        let message = format!("member.epoch must not be negative: {}", given.epoch);
        return Err(Error::invalid_request(message));
    }
    let instance_id = (!given.instance_id.is_empty()).then_some(given.instance_id);
    Ok(Member { member_id: given.member_id, epoch: given.epoch, instance_id })
}

fn position(given: proto::OffsetToCommit) -> Result<(Name, Position), Error> {
    if given.offset < 0 {
        return Err(Error::invalid_request(format!(
            "offset must not be negative: {}",
            Offset(given.offset)
        )));
    }
    if given.leader_epoch.is_some_and(|epoch| epoch < 0) {
        return Err(Error::invalid_request("leader_epoch must not be negative"));
    }
    words::at_most("the bytes of metadata", given.metadata.len(), METADATA_BYTES_MAX)?;
    let position = Position {
        offset: given.offset,
        leader_epoch: given.leader_epoch.unwrap_or(-1),
        metadata: given.metadata,
    };
    Ok((name(given.topic, given.partition)?, position))
}

fn name(topic: String, partition: i32) -> Result<Name, Error> {
    words::topic_name(&topic)?;
    words::partition(partition)?;
    Ok((topic, partition))
}

fn twice((topic, partition): &Name) -> Error {
    Error::invalid_request(format!("{topic}-{partition} is given twice"))
}
