//! Each kind of rule finds the violation it is for, and nothing in a graph that keeps them.

use super::*;

/// A graph of normal dependencies; packages with the prefix, and the two without, are the workspace's.
fn graph(arrows: &[(&str, &[&str])]) -> Graph {
    let mut normal: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut workspace = BTreeSet::new();
    for (from, to) in arrows {
        for package in to.iter().chain([from]) {
            if package.starts_with(PREFIX) || ["thalweg", "xtask"].contains(package) {
                workspace.insert((*package).to_owned());
            }
        }
        normal.entry((*from).to_owned()).or_default().extend(to.iter().map(|p| (*p).to_owned()));
    }
    Graph { workspace, normal }
}

fn found(arrows: &[(&str, &[&str])]) -> Vec<String> {
    violations(&graph(arrows), CRATES)
}

#[test]
fn a_workspace_that_keeps_the_rules_has_no_violations() {
    let arrows: &[(&str, &[&str])] = &[
        ("thalweg", &["thalweg-broker", "thalweg-controller", "tokio"]),
        ("thalweg-broker", &["thalweg-storage", "thalweg-kafka", "thalweg-metadata-feed", "tokio"]),
        ("thalweg-controller", &["thalweg-raft", "thalweg-metadata-core", "tokio"]),
        ("thalweg-raft", &["thalweg-storage", "openraft", "sled", "tokio"]),
        ("thalweg-metadata-feed", &["thalweg-metadata-core", "thalweg-proto", "tokio"]),
        ("thalweg-storage", &["thalweg-log-core", "thalweg-env", "rustix"]),
        ("thalweg-kafka", &["thalweg-types", "tokio"]),
        ("thalweg-log-core", &["thalweg-record", "thalweg-invariants"]),
        ("thalweg-record", &["thalweg-types", "zstd"]),
    ];
    assert_eq!(found(arrows), Vec::<String>::new());
}

#[test]
fn a_core_that_reaches_a_runtime_through_harmless_crates_is_found_with_the_path() {
    let found = found(&[
        ("thalweg-log-core", &["thalweg-record"]),
        ("thalweg-record", &["harmless"]),
        ("harmless", &["mio"]),
    ]);
    let path = "thalweg-log-core -> thalweg-record -> harmless -> mio";
    assert_eq!(found, [format!("thalweg-log-core must not reach mio: {path}")]);
}

#[test]
fn an_arrow_that_points_up_is_found() {
    let found = found(&[("thalweg-storage", &["thalweg-broker"])]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("arrows point down"), "{found:?}");
}

#[test]
fn a_service_that_knows_another_service_is_found() {
    let found = found(&[("thalweg-gateway", &["thalweg-broker"]), ("thalweg-broker", &["tokio"])]);
    assert_eq!(
        found,
        ["thalweg-gateway must not reach thalweg-broker: thalweg-gateway -> thalweg-broker"]
    );
}

#[test]
fn a_core_is_hidden_behind_storage_but_not_named_by_raft() {
    let storage: (&str, &[&str]) = ("thalweg-storage", &["thalweg-log-core"]);
    assert!(found(&[("thalweg-raft", &["thalweg-storage"]), storage]).is_empty());
    let found = found(&[("thalweg-raft", &["thalweg-storage", "thalweg-log-core"]), storage]);
    assert_eq!(found, ["thalweg-raft must not name thalweg-log-core"]);
}

#[test]
fn the_feed_may_know_the_metadata_core_and_no_other() {
    let feed = |core| found(&[("thalweg-metadata-feed", &[core])]);
    assert!(feed("thalweg-metadata-core").is_empty());
    assert_eq!(feed("thalweg-log-core").len(), 1);
    assert_eq!(feed("thalweg-storage").len(), 1);
}

#[test]
fn openraft_outside_raft_is_found() {
    let found = found(&[("thalweg-controller", &["openraft"])]);
    assert_eq!(found, ["thalweg-controller depends on openraft, which only raft may name"]);
}

#[test]
fn test_code_in_the_product_is_found() {
    let found = found(&[("thalweg", &["thalweg-testkit"])]);
    assert_eq!(found, ["thalweg depends on thalweg-testkit, which is for tests and tools"]);
}

#[test]
fn invariants_depend_on_nothing_at_all() {
    assert_eq!(found(&[("thalweg-invariants", &["serde"])]).len(), 1);
}

#[test]
fn a_crate_without_a_row_is_found() {
    assert_eq!(found(&[("thalweg-helpers", &[])]), ["thalweg-helpers: not in the table of layers"]);
}
