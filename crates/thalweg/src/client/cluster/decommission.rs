//! `thalweg cluster decommission`: brokers that shall go for good.
//!
//! ```text
//!   may they go? ─► cordoned: nothing new ─► emptied, move by move ─► stopped in good order ─► forgotten
//! ```
//!
//! Every step can be repeated: a command that was broken off goes on where it was.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use thalweg_proto::admin::v1 as proto;
use tokio::time::{Instant, sleep};

use super::{describe, reassign, stop};
use crate::cli::cluster::Decommission;
use crate::client::{Failure, Server, output};

/// Config that keeps new replicas off a broker (KIP-1066).
const CORDON_CONFIG: &str = "cordoned.log.dirs";

/// Between two looks at moves that somebody else has begun.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn run(server: &Server, arguments: Decommission) -> Result<(), Failure> {
    let leaving: BTreeSet<i32> = arguments.node_ids.iter().copied().collect();
    let began = Instant::now();
    check(server, &leaving).await?;
    for node_id in &leaving {
        cordon(server, *node_id).await?;
    }
    if !arguments.wait {
        let moves = plan(server, &leaving).await?;
        let results = reassign::begin(server, &moves).await?;
        return super::write_results(arguments.output.format, "moving", results);
    }
    let left = || arguments.timeout.0.saturating_sub(began.elapsed());
    while replicas(server, &leaving).await? > 0 {
        let moves = plan(server, &leaving).await?;
        let results = reassign::begin(server, &moves).await?;
        if let Some(refused) = results.iter().find_map(|result| result.error.clone()) {
            return Err(Failure::refused("a move".to_owned(), refused));
        }
        if left().is_zero() {
            let what = format!("brokers {} still hold replicas", super::ids(&arguments.node_ids));
            return Err(Failure::TimedOut(what));
        }
        let moved = results.into_iter().filter_map(|result| result.partition).collect();
        reassign::wait(server, moved, left()).await?;
        if moves.is_empty() {
            // What is left is being moved by somebody else.
            sleep(POLL_INTERVAL).await;
        }
    }
    let mut rows = Vec::with_capacity(leaving.len());
    for node_id in leaving {
        if !arguments.keep_running {
            stop::stop(server, node_id, left().max(POLL_INTERVAL)).await?;
            stop::forget(server, node_id).await?;
        }
        let result = if arguments.keep_running { "empty" } else { "gone" };
        rows.push((node_id, result));
    }
    let facts: Vec<_> =
        rows.iter().map(|(id, result)| json!({ "node_id": id, "result": result })).collect();
    let rows = rows.iter().map(|(id, result)| vec![id.to_string(), (*result).to_owned()]);
    Ok(output::write(arguments.output.format, &facts, &["broker", "result"], rows.collect())?)
}

/// They are brokers, and those that stay can take every replica: nothing is begun that could only end halfway.
async fn check(server: &Server, leaving: &BTreeSet<i32>) -> Result<(), Failure> {
    let nodes = describe(server).await?.nodes;
    let is_broker =
        |id: &&i32| nodes.iter().any(|node| node.node_id == **id && node.role == "broker");
    if let Some(unknown) = leaving.iter().find(|id| !is_broker(id)) {
        return Err(Failure::Usage(format!(
            "there is no broker {unknown}; `thalweg cluster nodes` lists them"
        )));
    }
    let staying = nodes
        .iter()
        .filter(|node| node.role == "broker" && !node.fenced && !node.shutting_down)
        .filter(|node| !node.cordoned && !leaving.contains(&node.node_id))
        .count();
    let request = proto::ListTopicsRequest { include_internal: true, ..Default::default() };
    let listed =
        server.admin().list_topics(request).await.map_err(|status| server.failed(status))?;
    let topics = listed.into_inner().topics;
    let widest = topics.iter().max_by_key(|topic| topic.replication_factor);
    match widest {
        Some(topic) if topic.replication_factor as usize > staying => Err(Failure::Usage(format!(
            "{staying} brokers would be left, but topic {} has {} replicas of each partition: add brokers first; nothing was changed",
            topic.name, topic.replication_factor
        ))),
        _ => Ok(()),
    }
}

async fn cordon(server: &Server, node_id: i32) -> Result<(), Failure> {
    let kind = proto::config_resource::Resource::Broker(node_id);
    let change = proto::config_change::Change::Set("*".to_owned());
    let alteration = proto::ConfigAlteration {
        resource: Some(proto::ConfigResource { resource: Some(kind) }),
        changes: vec![proto::ConfigChange { name: CORDON_CONFIG.to_owned(), change: Some(change) }],
    };
    let request =
        proto::AlterConfigsRequest { alterations: vec![alteration], validate_only: false };
    let response =
        server.admin().alter_configs(request).await.map_err(|status| server.failed(status))?;
    match response.into_inner().resources.into_iter().find_map(|resource| resource.error) {
        Some(error) => Err(Failure::refused(format!("broker {node_id}"), error)),
        None => Ok(()),
    }
}

async fn plan(
    server: &Server,
    leaving: &BTreeSet<i32>,
) -> Result<Vec<proto::Reassignment>, Failure> {
    let leaving = leaving.iter().copied().collect();
    let request = proto::PlanReassignmentRequest { leaving, moves_max: 0 };
    let response =
        server.admin().plan_reassignment(request).await.map_err(|status| server.failed(status))?;
    Ok(response.into_inner().reassignments)
}

/// What they still hold, together.
async fn replicas(server: &Server, leaving: &BTreeSet<i32>) -> Result<u32, Failure> {
    let nodes = describe(server).await?.nodes;
    let leaving = nodes.iter().filter(|node| leaving.contains(&node.node_id));
    Ok(leaving.map(|node| node.replica_count).sum())
}
