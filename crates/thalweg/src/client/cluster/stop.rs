//! `thalweg cluster shutdown-broker | unregister-broker`.

use std::time::Duration;

use serde_json::json;
use thalweg_proto::admin::v1 as proto;
use tokio::time::{Instant, sleep};

use super::describe;
use crate::cli::OutputFormat;
use crate::client::{Failure, Server, output};

/// Between two looks at whether the broker is gone.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// After this the request is made again: a controller that has taken over does not know of it.
const ASK_AGAIN_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn shut_down(
    server: &Server,
    node_id: i32,
    time_max: Duration,
    format: OutputFormat,
) -> Result<(), Failure> {
    stop(server, node_id, time_max).await?;
    done(format, node_id, "stopped")
}

/// Asks it to stop, and waits until it is gone. One that is gone already is let be.
pub(super) async fn stop(server: &Server, node_id: i32, time_max: Duration) -> Result<(), Failure> {
    let is_gone = |node: &proto::Node| node.node_id == node_id && node.fenced;
    if describe(server).await?.nodes.iter().any(is_gone) {
        return Ok(());
    }
    let began = Instant::now();
    let asked = ask(server, node_id).await?;
    let mut asked_at = began;
    loop {
        let nodes = describe(server).await?.nodes;
        let node = nodes.iter().find(|node| node.node_id == node_id);
        let is_gone = node.is_none_or(|node| node.fenced || node.broker_epoch > asked);
        if is_gone {
            break;
        }
        if began.elapsed() > time_max {
            let what =
                format!("broker {node_id} is still there after {} s", time_max.as_secs_f64());
            return Err(Failure::TimedOut(what));
        }
        if asked_at.elapsed() > ASK_AGAIN_INTERVAL {
            // It may have gone since; the next look tells.
            asked_at = Instant::now();
            if ask(server, node_id).await.is_ok_and(|epoch| epoch > asked) {
                break;
            }
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// The session that was asked to end.
async fn ask(server: &Server, node_id: i32) -> Result<i64, Failure> {
    let request = proto::ShutDownBrokerRequest { node_id };
    let response =
        server.admin().shut_down_broker(request).await.map_err(|status| server.failed(status))?;
    Ok(response.into_inner().broker_epoch)
}

pub(super) async fn unregister(
    server: &Server,
    node_id: i32,
    format: OutputFormat,
) -> Result<(), Failure> {
    forget(server, node_id).await?;
    done(format, node_id, "unregistered")
}

/// Unregisters it.
pub(super) async fn forget(server: &Server, node_id: i32) -> Result<(), Failure> {
    let request = proto::UnregisterBrokerRequest { node_id };
    server.admin().unregister_broker(request).await.map_err(|status| server.failed(status))?;
    Ok(())
}

fn done(format: OutputFormat, node_id: i32, result: &str) -> Result<(), Failure> {
    let facts = json!({ "node_id": node_id, "result": result });
    let row = vec![node_id.to_string(), result.to_owned()];
    Ok(output::write(format, &facts, &["broker", "result"], vec![row])?)
}
