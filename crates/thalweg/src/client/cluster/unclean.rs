//! `thalweg cluster elect --unclean`: shows what would be lost, or lets go of it.

use serde_json::{Value, json};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;

use super::{ids, named};
use crate::cli::cluster::Elect;
use crate::client::{Failure, Server, output};

pub(super) async fn elect(server: &Server, arguments: &Elect) -> Result<(), Failure> {
    let accept_data_loss = arguments.accept_data_loss;
    let request = proto::ElectUncleanLeadersRequest {
        partitions: arguments.partitions.iter().map(named).collect(),
        validate_only: !accept_data_loss,
        accept_data_loss,
    };
    let response = server
        .admin()
        .elect_unclean_leaders(request)
        .await
        .map_err(|status| server.failed(status))?;
    let elections = response.into_inner().elections;
    let facts: Vec<_> = elections.iter().map(election_facts).collect();
    let rows = elections.iter().map(|election| row(election, accept_data_loss));
    let heading = ["topic", "partition", "result", "replicas"];
    output::write(arguments.output.format, &facts, &heading, rows.collect())?;
    let failed = elections.iter().filter(|election| election.error.is_some()).count();
    if failed > 0 {
        return Err(Failure::Partly { failed, asked: elections.len() });
    }
    match accept_data_loss {
        true => Ok(()),
        false => Err(Failure::Usage(
            "nothing was changed: --accept-data-loss lets the leaders above lead, and what they lack is lost for good"
                .to_owned(),
        )),
    }
}

fn row(election: &proto::UncleanElection, is_done: bool) -> Vec<String> {
    let proto::TopicPartition { topic, partition } = election.partition.clone().unwrap_or_default();
    let result = match &election.error {
        Some(error) => Error::from_detail(error.clone()).to_string(),
        None => elected(election, is_done),
    };
    let replicas: Vec<_> = election.replicas.iter().map(replica).collect();
    vec![topic, partition.to_string(), result, replicas.join("; ")]
}

fn elected(election: &proto::UncleanElection, is_done: bool) -> String {
    let proto::UncleanElection { leader, log_end, abandoned, .. } = election;
    let leads = if is_done { "leads" } else { "would lead" };
    let result = format!("{leader} {leads}, records from {log_end} on are lost");
    match abandoned.is_empty() {
        true => result,
        false => format!("{result}; {} had all and did not answer", ids(abandoned)),
    }
}

fn replica(log: &proto::ReplicaLog) -> String {
    let proto::ReplicaLog { node_id, last_epoch, log_end, high_watermark, error } = log;
    match error {
        Some(error) => format!("{node_id}: {}", error.message),
        None => format!(
            "{node_id}: ends at {log_end} in epoch {last_epoch}, committed {high_watermark}"
        ),
    }
}

fn election_facts(election: &proto::UncleanElection) -> Value {
    let partition = election.partition.clone().unwrap_or_default();
    let error = election.error.clone().map(|error| Error::from_detail(error).to_string());
    let replica = |log: &proto::ReplicaLog| match &log.error {
        Some(error) => json!({ "node_id": log.node_id, "error": error.message }),
        None => json!({
            "node_id": log.node_id,
            "last_epoch": log.last_epoch,
            "log_end": log.log_end,
            "high_watermark": log.high_watermark,
        }),
    };
    let elected = error.is_none();
    json!({
        "topic": partition.topic,
        "partition": partition.partition,
        "error": error,
        "leader": elected.then_some(election.leader),
        "leader_epoch": elected.then_some(election.leader_epoch),
        "log_end": elected.then_some(election.log_end),
        "abandoned": election.abandoned,
        "replicas": election.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}
