//! The way to the controllers: to the active one, whichever it is.

use std::time::Duration;

use thalweg_rpc::{InvalidEndpoints, LeaderChannel, LeaderOptions};

/// Calls that change nothing, or that a node may make again without harm: an unheard answer costs a new session, or ids that nobody uses.
const REPEATABLE: &[&str] = &[
    "RegisterNode",
    "Heartbeat",
    "HoldSession",
    "WatchMetadata",
    "AllocateProducerIds",
    "DescribeQuorum",
    "ReportUnfitReplicas",
    "RequestShutdown",
    "PlanMoves",
];

/// A channel for `thalweg.internal.controller.v1.Controller` that goes to the active one of several controllers, given by the addresses of
/// some of them (`host:port`). A call that ends without an answer is made again elsewhere if that does no harm; otherwise its outcome is
/// unknown, and the error says so. Must be called within a tokio runtime.
pub fn controllers(endpoints: Vec<String>) -> Result<LeaderChannel, InvalidEndpoints> {
    let options = LeaderOptions {
        repeatable,
        try_time_max: Duration::from_secs(2),
        ..LeaderOptions::default()
    };
    LeaderChannel::new(endpoints, options)
}

fn repeatable(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(_, method)| REPEATABLE.contains(&method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_creates_something_is_not_repeated() {
        assert!(repeatable("/thalweg.internal.controller.v1.Controller/Heartbeat"));
        assert!(!repeatable("/thalweg.internal.controller.v1.Controller/CreateTopics"));
        assert!(!repeatable("/thalweg.internal.controller.v1.Controller/AddVoter"));
        assert!(!repeatable("/thalweg.internal.controller.v1.Controller/AlterPartitions"));
        assert!(!repeatable("Heartbeat"));
    }
}
