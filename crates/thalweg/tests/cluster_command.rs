//! `thalweg cluster` against the whole system of one node: what it shows, what it begins, what it refuses.

use std::process::{Command, Output};

use serde_json::{Value, json};
use thalweg_testkit::Server;

struct Shell(Server);

impl Shell {
    fn start() -> Option<Self> {
        Server::start("thalweg cluster").map(Self)
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(arguments.split_whitespace())
            .args(["--bootstrap", &self.0.grpc().to_string()])
            .output()
            .expect("the binary")
    }

    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", errors(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{arguments} --output json"))).expect("JSON")
    }

    /// What it says on both outputs.
    fn fails(&self, arguments: &str, code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {}", errors(&output));
        format!("{}{}", String::from_utf8_lossy(&output.stdout), errors(&output))
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn nodes_quorum_and_partitions_are_shown() {
    let Some(shell) = Shell::start() else { return };
    shell.ok("topic create orders --partitions 3");
    let status = shell.json("cluster status");
    // The broker, and the coordinator beside it, which may be let in a moment later.
    assert_eq!(status["nodes"], json!(2));
    assert!(status["live_nodes"].as_u64().is_some_and(|live| live >= 1), "{status}");
    assert_eq!((&status["partitions"], &status["controller_id"]), (&json!(3), &json!(1)));
    for trouble in ["without_leader", "below_minimum", "under_replicated", "reassigning"] {
        assert_eq!(status[trouble], json!(0), "{trouble}");
    }
    let nodes = shell.json("cluster nodes");
    assert_eq!(nodes[0]["node_id"], json!(1));
    assert_eq!(nodes[0]["state"], json!("live"));
    assert_eq!((&nodes[0]["role"], &nodes[1]["role"]), (&json!("broker"), &json!("coordinator")));
    assert_eq!((&nodes[0]["leaders"], &nodes[0]["replicas"]), (&json!(3), &json!(3)));
    let quorum = shell.json("cluster quorum");
    assert_eq!(quorum["leader_id"], json!(1));
    assert_eq!(quorum["members"][0]["role"], json!("active"));
    assert_eq!(shell.json("cluster reassignments"), json!([]));
    let table = shell.ok("cluster nodes");
    assert!(table.starts_with("ID") && table.contains("live"), "{table}");
    assert!(shell.ok("cluster status").contains(" of 2"));
}

#[test]
fn moves_and_elections_end_or_are_refused_with_a_reason_and_an_exit_code() {
    let Some(shell) = Shell::start() else { return };
    shell.ok("topic create orders --partitions 2");
    let moved = shell.json("cluster reassign orders:0=1 orders:1=1 --wait --timeout 1m");
    assert_eq!(
        moved[1],
        json!({ "topic": "orders", "partition": 1, "ok": true, "result": "moved" })
    );

    let refused = shell.fails("cluster reassign orders:0=1 orders:1=9", 1);
    assert!(refused.contains("there is no broker 9") && refused.contains("1 of 2"), "{refused}");
    let refused = shell.fails("cluster reassign --cancel orders:0", 1);
    assert!(refused.contains("NO_REASSIGNMENT_IN_PROGRESS"), "{refused}");
    let refused = shell.fails("cluster elect orders:0 nowhere:0", 1);
    assert!(refused.contains("ELECTION_NOT_NEEDED"), "{refused}");
    assert!(refused.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{refused}");
    assert_eq!(shell.json("cluster elect"), json!([]), "all are led as they should be");
    let refused = shell.fails("cluster unregister-broker 1", 1);
    assert!(refused.contains("INVALID_REQUEST"), "{refused}");
    let refused = shell.fails("cluster shutdown-broker 7", 1);
    assert!(refused.contains("BROKER_ID_NOT_REGISTERED"), "{refused}");
    for wrong in [
        "cluster reassign",
        "cluster reassign orders=1",
        "cluster reassign orders:0=1 --even-out",
        "cluster reassign orders:0=1 --wait --dry-run",
        "cluster elect orders",
        "cluster shutdown-broker 0",
    ] {
        shell.fails(wrong, 2);
    }
}

#[test]
fn plans_are_shown_in_the_form_that_is_read_again() {
    let Some(shell) = Shell::start() else { return };
    shell.ok("topic create orders --partitions 2");
    let empty = json!({ "version": 1, "partitions": [] });
    let plan = shell.json("cluster reassign --empty-broker 1 --dry-run");
    assert_eq!(plan, empty, "there is no other broker");
    assert_eq!(shell.json("cluster reassign --even-out --moves 5 --dry-run"), empty);
    let refused = shell.fails("cluster reassign --empty-broker 5 --dry-run", 1);
    assert!(refused.contains("BROKER_ID_NOT_REGISTERED"), "{refused}");

    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("moves.json");
    let moves = json!({ "version": 1, "partitions": [
        { "topic": "orders", "partition": 1, "replicas": [1], "log_dirs": ["any"] },
    ]});
    std::fs::write(&file, moves.to_string()).expect("written");
    let path = file.display();
    let begun = shell.json(&format!("cluster reassign --file {path}"));
    assert_eq!((&begun[0]["ok"], &begun[0]["partition"]), (&json!(true), &json!(1)));
    for wrong in [
        "",
        "[]",
        "{\"partitions\": [{\"topic\": \"orders\", \"partition\": 0, \"replicas\": []}]}",
    ] {
        std::fs::write(&file, wrong).expect("written");
        shell.fails(&format!("cluster reassign --file {path}"), 2);
    }
}
