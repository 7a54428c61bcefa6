//! `thalweg cluster reassign | reassignments`: begin moves, wait for them, take them back.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, stderr};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::json;
use thalweg_proto::admin::v1 as proto;
use tokio::time::{Instant, sleep};

use super::{ids, named, write_results};
use crate::cli::OutputFormat;
use crate::cli::cluster::Reassign;
use crate::client::{Failure, Server, output};

/// Between two looks at what is still being moved.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Moves of one call.
const MOVES_PER_CALL: usize = 5_000;

/// Largest file with moves: far more than a cluster has partitions.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Kafka's form of a list of moves.
#[derive(Debug, Deserialize)]
struct MovesFile {
    partitions: Vec<MoveEntry>,
}

#[derive(Debug, Deserialize)]
struct MoveEntry {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
}

pub(super) async fn run(server: &Server, arguments: Reassign) -> Result<(), Failure> {
    let format = arguments.output.format;
    let cancels = !arguments.cancelled.is_empty();
    let moves = planned(server, &arguments).await?;
    if arguments.dry_run {
        return write_plan(format, &moves);
    }
    let results = begin(server, &moves).await?;
    let begun: Vec<_> = results
        .iter()
        .filter(|result| result.error.is_none())
        .filter_map(|result| result.partition.clone())
        .collect();
    let done = match (cancels, arguments.wait) {
        (true, _) => "taken back",
        (false, true) => "moved",
        (false, false) => "moving",
    };
    if arguments.wait && !cancels {
        wait(server, begun, arguments.timeout.0).await?;
    }
    write_results(format, done, results)
}

/// Begins them; one result for each.
pub(super) async fn begin(
    server: &Server,
    moves: &[proto::Reassignment],
) -> Result<Vec<proto::PartitionResult>, Failure> {
    let mut results = Vec::with_capacity(moves.len());
    for some in moves.chunks(MOVES_PER_CALL) {
        let request = proto::ReassignRequest { reassignments: some.to_vec() };
        let response =
            server.admin().reassign(request).await.map_err(|status| server.failed(status))?;
        results.extend(response.into_inner().results);
    }
    Ok(results)
}

/// The moves that the arguments mean.
async fn planned(
    server: &Server,
    arguments: &Reassign,
) -> Result<Vec<proto::Reassignment>, Failure> {
    if let Some(path) = &arguments.file {
        return read_file(path);
    }
    if arguments.even_out || !arguments.leaving.is_empty() {
        let request = proto::PlanReassignmentRequest {
            leaving: arguments.leaving.clone(),
            moves_max: arguments.moves.unwrap_or_default(),
        };
        let response = server
            .admin()
            .plan_reassignment(request)
            .await
            .map_err(|status| server.failed(status))?;
        let proto::PlanReassignmentResponse { reassignments, staying } = response.into_inner();
        for line in remarks(arguments, &reassignments, &staying) {
            eprintln!("thalweg: {line}");
        }
        return Ok(reassignments);
    }
    let targets = arguments.targets.iter().map(|target| proto::Reassignment {
        partition: Some(named(&target.partition)),
        replicas: target.replicas.clone(),
    });
    let cancelled = arguments.cancelled.iter().map(|partition| proto::Reassignment {
        partition: Some(named(partition)),
        replicas: Vec::new(),
    });
    let moves: Vec<_> = targets.chain(cancelled).collect();
    match moves.is_empty() {
        true => Err(Failure::Usage(
            "which moves? for example: thalweg cluster reassign orders:0=1,2,3".to_owned(),
        )),
        false => Ok(moves),
    }
}

/// Why a plan does not do all that was meant.
fn remarks(
    arguments: &Reassign,
    moves: &[proto::Reassignment],
    staying: &[proto::StayingPartition],
) -> Vec<String> {
    let mut lines: Vec<_> = staying
        .iter()
        .map(|one| {
            let proto::TopicPartition { topic, partition } =
                one.partition.clone().unwrap_or_default();
            format!("{topic}:{partition} stays: {}", one.reason)
        })
        .collect();
    if moves.is_empty() && staying.is_empty() {
        lines.push(match arguments.even_out {
            true => "nothing to move: the brokers hold as many replicas as each other".to_owned(),
            false => format!("nothing to move: no replica is on {}", ids(&arguments.leaving)),
        });
    }
    lines
}

fn read_file(path: &Path) -> Result<Vec<proto::Reassignment>, Failure> {
    let failed = |source| Failure::File { path: path.display().to_string(), source };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(Failure::Usage(format!("{} has {size} bytes", path.display())));
    }
    let text = std::fs::read(path).map_err(failed)?;
    let file: MovesFile = serde_json::from_slice(&text)
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let entry = |entry: MoveEntry| {
        let MoveEntry { topic, partition, replicas } = entry;
        if replicas.is_empty() {
            // To the server it would mean to take a move back.
            let what = format!("{}: {topic}:{partition} has no replicas", path.display());
            return Err(Failure::Usage(what));
        }
        Ok(proto::Reassignment {
            partition: Some(proto::TopicPartition { topic, partition }),
            replicas,
        })
    };
    file.partitions.into_iter().map(entry).collect()
}

/// Until none of the partitions is being moved any more.
pub(super) async fn wait(
    server: &Server,
    mut moving: Vec<proto::TopicPartition>,
    time_max: Duration,
) -> Result<(), Failure> {
    let began = Instant::now();
    let total = moving.len();
    let bar = bar(total);
    loop {
        let ongoing: BTreeSet<_> = ongoing(server).await?.into_iter().map(place).collect();
        moving
            .retain(|partition| ongoing.contains(&(partition.topic.clone(), partition.partition)));
        bar.set_position((total - moving.len()) as u64);
        if moving.is_empty() {
            bar.finish_and_clear();
            return Ok(());
        }
        if began.elapsed() > time_max {
            bar.finish_and_clear();
            return Err(Failure::TimedOut(format!(
                "{} of {total} moves go on after {} s",
                moving.len(),
                time_max.as_secs_f64()
            )));
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn place(ongoing: proto::OngoingReassignment) -> (String, i32) {
    let partition = ongoing.partition.unwrap_or_default();
    (partition.topic, partition.partition)
}

/// Moves that have ended, for who looks on.
fn bar(total: usize) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let bar = ProgressBar::with_draw_target(Some(total as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len} moved, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

async fn ongoing(server: &Server) -> Result<Vec<proto::OngoingReassignment>, Failure> {
    let request = proto::ListReassignmentsRequest { partitions: Vec::new() };
    let response =
        server.admin().list_reassignments(request).await.map_err(|status| server.failed(status))?;
    Ok(response.into_inner().reassignments)
}

pub(super) async fn list(server: &Server, format: OutputFormat) -> Result<(), Failure> {
    let ongoing = ongoing(server).await?;
    let facts: Vec<_> = ongoing
        .iter()
        .map(|one| {
            let partition = one.partition.clone().unwrap_or_default();
            json!({
                "topic": partition.topic,
                "partition": partition.partition,
                "replicas": one.replicas,
                "adding": one.adding,
                "removing": one.removing,
                "in_sync_replicas": one.in_sync_replicas,
            })
        })
        .collect();
    let rows = ongoing.iter().map(|one| {
        let partition = one.partition.clone().unwrap_or_default();
        vec![
            partition.topic,
            partition.partition.to_string(),
            ids(&one.replicas),
            ids(&one.adding),
            ids(&one.removing),
            ids(&one.in_sync_replicas),
        ]
    });
    let heading = ["topic", "partition", "replicas", "adding", "removing", "in sync"];
    Ok(output::write(format, &facts, &heading, rows.collect())?)
}

/// In the form that `--file` reads.
fn write_plan(format: OutputFormat, moves: &[proto::Reassignment]) -> Result<(), Failure> {
    let entries: Vec<_> = moves
        .iter()
        .map(|step| {
            let partition = step.partition.clone().unwrap_or_default();
            json!({
                "topic": partition.topic,
                "partition": partition.partition,
                "replicas": step.replicas,
            })
        })
        .collect();
    let rows = moves.iter().map(|step| {
        let partition = step.partition.clone().unwrap_or_default();
        vec![partition.topic, partition.partition.to_string(), ids(&step.replicas)]
    });
    let facts = json!({ "version": 1, "partitions": entries });
    Ok(output::write(format, &facts, &["topic", "partition", "replicas"], rows.collect())?)
}
