//! `thalweg cluster status | nodes | quorum`.

use serde_json::json;
use thalweg_proto::admin::v1 as proto;

use super::describe;
use crate::cli::OutputFormat;
use crate::client::{Failure, Server, output};

pub(super) async fn status(server: &Server, format: OutputFormat) -> Result<(), Failure> {
    let cluster = describe(server).await?;
    let partitions = cluster.partitions.unwrap_or_default();
    let live = cluster.nodes.iter().filter(|node| state(node) == "live").count();
    let controller = cluster.controller_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let facts = json!({
        "cluster_id": cluster.cluster_id,
        "controller_id": cluster.controller_id,
        "metadata_index": cluster.metadata_index,
        "nodes": cluster.nodes.len(),
        "live_nodes": live,
        "partitions": partitions.total,
        "without_leader": partitions.without_leader,
        "below_minimum": partitions.below_minimum,
        "under_replicated": partitions.under_replicated,
        "reassigning": partitions.reassigning,
        "not_led_by_preferred": partitions.not_led_by_preferred,
    });
    let rows = [
        ("cluster", cluster.cluster_id),
        ("active controller", controller),
        ("live nodes", format!("{live} of {}", cluster.nodes.len())),
        ("partitions", partitions.total.to_string()),
        ("  without a leader", partitions.without_leader.to_string()),
        ("  below min.insync.replicas", partitions.below_minimum.to_string()),
        ("  with replicas out of sync", partitions.under_replicated.to_string()),
        ("  being moved", partitions.reassigning.to_string()),
        ("  not led by the preferred leader", partitions.not_led_by_preferred.to_string()),
        ("metadata index", cluster.metadata_index.to_string()),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    Ok(output::write(format, &facts, &["what", "value"], rows)?)
}

pub(super) async fn list(server: &Server, format: OutputFormat) -> Result<(), Failure> {
    let nodes = describe(server).await?.nodes;
    let facts: Vec<_> = nodes.iter().map(node_facts).collect();
    let heading =
        ["id", "role", "state", "rack", "leads", "replicas", "out of sync", "epoch", "endpoints"];
    let rows = nodes.iter().map(|node| {
        vec![
            node.node_id.to_string(),
            node.role.clone(),
            state(node).to_owned(),
            if node.rack.is_empty() { "-".to_owned() } else { node.rack.clone() },
            node.leader_count.to_string(),
            node.replica_count.to_string(),
            node.out_of_sync_count.to_string(),
            node.broker_epoch.to_string(),
            node.endpoints.iter().map(endpoint).collect::<Vec<_>>().join(" "),
        ]
    });
    Ok(output::write(format, &facts, &heading, rows.collect())?)
}

fn node_facts(node: &proto::Node) -> serde_json::Value {
    let endpoints: Vec<_> = node
        .endpoints
        .iter()
        .map(|one| json!({ "listener": one.listener, "host": one.host, "port": one.port }))
        .collect();
    json!({
        "node_id": node.node_id,
        "role": node.role,
        "state": state(node),
        "rack": Some(&node.rack).filter(|rack| !rack.is_empty()),
        "broker_epoch": node.broker_epoch,
        "leaders": node.leader_count,
        "replicas": node.replica_count,
        "out_of_sync": node.out_of_sync_count,
        "endpoints": endpoints,
    })
}

fn endpoint(endpoint: &proto::Endpoint) -> String {
    format!("{}://{}:{}", endpoint.listener, endpoint.host, endpoint.port)
}

fn state(node: &proto::Node) -> &'static str {
    match (node.fenced, node.shutting_down, node.cordoned) {
        (true, _, _) => "gone",
        (false, true, _) => "stopping",
        (false, false, true) => "cordoned",
        (false, false, false) => "live",
    }
}

pub(super) async fn quorum(server: &Server, format: OutputFormat) -> Result<(), Failure> {
    let request = proto::DescribeQuorumRequest {};
    let response =
        server.admin().describe_quorum(request).await.map_err(|status| server.failed(status))?;
    let quorum = response.into_inner();
    let role = |member: &proto::QuorumMember| match member {
        _ if quorum.leader_id == Some(member.controller_id) => "active",
        _ if member.voter => "voter",
        _ => "follower",
    };
    let members: Vec<_> = quorum
        .members
        .iter()
        .map(|member| {
            json!({
                "controller_id": member.controller_id,
                "role": role(member),
                "endpoint": Some(&member.endpoint).filter(|endpoint| !endpoint.is_empty()),
                "dir_id": member.dir_id,
                "lag": member.lag,
                "last_heard_ms": member.last_heard_ms,
            })
        })
        .collect();
    let facts = json!({
        "leader_id": quorum.leader_id,
        "controller_epoch": quorum.controller_epoch,
        "committed_index": quorum.committed_index,
        "answering_id": quorum.answering_id,
        "members": members,
    });
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let rows = quorum.members.iter().map(|member| {
        vec![
            member.controller_id.to_string(),
            role(member).to_owned(),
            known(member.lag.map(|lag| lag.to_string())),
            known(member.last_heard_ms.map(|ms| format!("{ms} ms ago"))),
            known(Some(member.endpoint.clone()).filter(|endpoint| !endpoint.is_empty())),
            member.dir_id.clone(),
        ]
    });
    let heading = ["id", "role", "lag", "last heard", "endpoint", "directory"];
    Ok(output::write(format, &facts, &heading, rows.collect())?)
}
