//! Unclean elections: only for who says that losing records is accepted.

use std::time::Duration;

use thalweg_proto::admin::v1 as proto;
use thalweg_proto::internal::controller::v1 as controller;
use thalweg_rpc::{Deadline, Error};

use super::cluster::named;
use crate::port::BrokerPort;
use crate::shared::{Shared, on_behalf};
use crate::words;

/// Partitions of one call.
const PARTITIONS_MAX: usize = 1_000;

/// Every replica is asked before.
const ELECTION_TIME_MAX: Duration = Duration::from_secs(30);

pub(super) async fn elect<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::ElectUncleanLeadersRequest,
    deadline: Deadline,
) -> Result<proto::ElectUncleanLeadersResponse, Error> {
    let proto::ElectUncleanLeadersRequest { partitions, validate_only, accept_data_loss } = request;
    words::some_but_at_most("partitions", partitions.len(), PARTITIONS_MAX)?;
    if !validate_only && !accept_data_loss {
        let message = "records may be lost for good: ask with validate_only what, and then set accept_data_loss";
        return Err(Error::invalid_request(message).not_applied());
    }
    let name = |partition| {
        named(Some(partition)).map(|partition| controller::PartitionName {
            topic: partition.topic,
            partition: partition.partition,
        })
    };
    let partitions = partitions.into_iter().map(name).collect::<Result<_, _>>()?;
    let message = controller::ElectUncleanLeadersRequest { partitions, validate_only };
    let call = on_behalf(message, deadline, ELECTION_TIME_MAX);
    let answer = shared.controller.clone().elect_unclean_leaders(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    let elections = answer.partitions.into_iter().map(election).collect();
    Ok(proto::ElectUncleanLeadersResponse { elections })
}

fn election(election: controller::UncleanElection) -> proto::UncleanElection {
    proto::UncleanElection {
        partition: election
            .partition
            .map(|name| proto::TopicPartition { topic: name.topic, partition: name.partition }),
        error: election.error,
        leader: election.leader,
        leader_epoch: election.leader_epoch,
        log_end: election.log_end,
        abandoned: election.abandoned,
        replicas: election.replicas.into_iter().map(replica).collect(),
    }
}

fn replica(log: controller::ReplicaLog) -> proto::ReplicaLog {
    proto::ReplicaLog {
        node_id: log.node_id,
        last_epoch: log.last_epoch,
        log_end: log.flushed_end,
        high_watermark: log.high_watermark,
        error: log.error,
    }
}
