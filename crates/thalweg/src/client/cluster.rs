//! `thalweg cluster`: nodes, quorum, and where replicas are.

mod decommission;
mod features;
mod nodes;
mod reassign;
mod stop;
mod unclean;

use serde::Serialize;
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;

use crate::cli::OutputFormat;
use crate::cli::cluster::{Cluster, Partition};
use crate::cli::values::Bootstrap;
use crate::client::{Failure, Server, output};

pub(crate) async fn run(bootstrap: &Bootstrap, command: Cluster) -> Result<(), Failure> {
    let server = Server::at(bootstrap)?;
    match command {
        Cluster::Status { output } => nodes::status(&server, output.format).await,
        Cluster::Nodes { output } => nodes::list(&server, output.format).await,
        Cluster::Quorum { output } => nodes::quorum(&server, output.format).await,
        Cluster::Reassign(arguments) => reassign::run(&server, arguments).await,
        Cluster::Reassignments { output } => reassign::list(&server, output.format).await,
        Cluster::Elect(arguments) if arguments.unclean => unclean::elect(&server, &arguments).await,
        Cluster::Elect(arguments) => {
            elect(&server, &arguments.partitions, arguments.output.format).await
        }
        Cluster::Decommission(arguments) => decommission::run(&server, arguments).await,
        Cluster::Features { levels, downgrade, dry_run, output } => {
            features::run(&server, levels, downgrade, dry_run, output.format).await
        }
        Cluster::ShutdownBroker { node_id, timeout, output } => {
            stop::shut_down(&server, node_id, timeout.0, output.format).await
        }
        Cluster::UnregisterBroker { node_id, output } => {
            stop::unregister(&server, node_id, output.format).await
        }
    }
}

async fn elect(
    server: &Server,
    partitions: &[Partition],
    format: OutputFormat,
) -> Result<(), Failure> {
    let partitions = partitions.iter().map(named).collect();
    let request = proto::ElectPreferredLeadersRequest { partitions };
    let response = server
        .admin()
        .elect_preferred_leaders(request)
        .await
        .map_err(|status| server.failed(status))?;
    write_results(format, "led by its preferred leader", response.into_inner().results)
}

fn named(partition: &Partition) -> proto::TopicPartition {
    proto::TopicPartition { topic: partition.topic.to_string(), partition: partition.index }
}

async fn describe(server: &Server) -> Result<proto::DescribeClusterResponse, Failure> {
    let request = proto::DescribeClusterRequest {};
    let response =
        server.admin().describe_cluster(request).await.map_err(|status| server.failed(status))?;
    Ok(response.into_inner())
}

/// What became of one partition of a call about several.
#[derive(Debug, Serialize)]
struct Answer {
    topic: String,
    partition: i32,
    ok: bool,
    result: String,
}

/// Writes every answer; a failure if any of them is one.
fn write_results(
    format: OutputFormat,
    done: &str,
    results: Vec<proto::PartitionResult>,
) -> Result<(), Failure> {
    let answer = |result: proto::PartitionResult| {
        let proto::TopicPartition { topic, partition } = result.partition.unwrap_or_default();
        let (ok, result) = match result.error {
            None => (true, done.to_owned()),
            Some(error) => (false, Error::from_detail(error).to_string()),
        };
        Answer { topic, partition, ok, result }
    };
    let answers: Vec<_> = results.into_iter().map(answer).collect();
    let rows = answers.iter().map(|answer| {
        vec![answer.topic.clone(), answer.partition.to_string(), answer.result.clone()]
    });
    output::write(format, &answers, &["topic", "partition", "result"], rows.collect())?;
    match answers.iter().filter(|answer| !answer.ok).count() {
        0 => Ok(()),
        failed => Err(Failure::Partly { failed, asked: answers.len() }),
    }
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
