//! Which crate may depend on which: the table of the architecture, held against what Cargo resolves.
//!
//! The table says where a crate lives and what it must never know. A rule about reach follows normal dependencies to any depth,
//! because a core that reaches a runtime through three harmless crates has reached it; dev- and build-dependencies do not count, since
//! they are not in the product. A violation is printed with the path that leads to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

mod table;
#[cfg(test)]
mod tests;

use table::{CORE_FENCE, CRATES, Crate, EXCLUSIVE, Layer, Never, ONLY_USED_BY};

/// Prefix of the workspace's package names; the binary and this tool have none.
const PREFIX: &str = "thalweg-";

/// What depends on what, by package name; versions of one package are one.
struct Graph {
    workspace: BTreeSet<String>,
    normal: BTreeMap<String, BTreeSet<String>>,
}

/// Checks the repository at `root`: a summary, or every violation.
pub(crate) fn run(root: &Path) -> Result<String, Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .exec()
        .map_err(|error| vec![format!("cargo metadata: {error}")])?;
    let graph = Graph::of(&metadata);
    let mut violations = violations(&graph, CRATES);
    violations.extend(missing_fences(root, &graph));
    if violations.is_empty() {
        Ok(format!("layers: {} crates, every arrow points down", graph.workspace.len()))
    } else {
        Err(violations)
    }
}

// ---- The graph ----

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let names: BTreeMap<_, _> = metadata
            .packages
            .iter()
            .map(|package| (&package.id, package.name.to_string()))
            .collect();
        let name = |id| names.get(id).cloned().unwrap_or_default();
        let mut normal: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
            let is_normal = |dependency: &&cargo_metadata::NodeDep| {
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
            };
            let targets =
                node.deps.iter().filter(is_normal).map(|dependency| name(&dependency.pkg));
            normal.entry(name(&node.id)).or_default().extend(targets);
        }
        Self { workspace: metadata.workspace_members.iter().map(name).collect(), normal }
    }

    fn direct(&self, package: &str) -> impl Iterator<Item = &str> {
        self.normal.get(package).into_iter().flatten().map(String::as_str)
    }

    /// Every package that `package` reaches, with a shortest path to it, itself left out.
    fn reached<'a>(&'a self, package: &'a str) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::from([(package, vec![package])]);
        let mut waiting = VecDeque::from([package]);
        while let Some(at) = waiting.pop_front() {
            let path = paths[at].clone();
            for next in self.direct(at) {
                if !paths.contains_key(next) {
                    paths.insert(next, path.iter().copied().chain([next]).collect());
                    waiting.push_back(next);
                }
            }
        }
        paths.remove(package);
        paths
    }
}

// ---- The rules ----

fn violations(graph: &Graph, table: &[Crate]) -> Vec<String> {
    let mut found = Vec::new();
    for package in &graph.workspace {
        match find(table, package) {
            Some(entry) => found.extend(violations_of(graph, table, entry, package)),
            None => found.push(format!("{package}: not in the table of layers")),
        }
    }
    found
}

fn violations_of(graph: &Graph, table: &[Crate], entry: &Crate, package: &str) -> Vec<String> {
    let mut found = Vec::new();
    for direct in graph.direct(package) {
        if let Some(target) = find(table, direct).filter(|_| graph.workspace.contains(direct)) {
            if target.layer > entry.layer {
                let (own, its) = (entry.layer, target.layer);
                found.push(format!(
                    "{package} ({own:?}) depends on {direct} ({its:?}): arrows point down"
                ));
            }
            let users = ONLY_USED_BY.iter().find(|(name, _)| *name == target.name);
            if users.is_some_and(|(_, users)| !users.contains(&entry.name)) {
                found.push(format!("{package} depends on {direct}, which is for tests and tools"));
            }
        }
        let owner = EXCLUSIVE.iter().find(|(external, _)| *external == direct);
        if let Some((_, owner)) = owner.filter(|(_, owner)| *owner != entry.name) {
            found.push(format!("{package} depends on {direct}, which only {owner} may name"));
        }
        if entry.never_named.iter().any(|never| forbids(never, graph, table, entry, direct)) {
            found.push(format!("{package} must not name {direct}"));
        }
    }
    for (target, path) in graph.reached(package) {
        let never = entry.never.iter().chain(entry.layer.never());
        if never.into_iter().any(|never| forbids(never, graph, table, entry, target)) {
            found.push(format!("{package} must not reach {target}: {}", path.join(" -> ")));
        }
    }
    found
}

/// Whether a prohibition of `entry` is about the package `target`.
fn forbids(never: &Never, graph: &Graph, table: &[Crate], entry: &Crate, target: &str) -> bool {
    let in_workspace = graph.workspace.contains(target);
    let target_entry = find(table, target).filter(|_| in_workspace);
    match never {
        Never::Anything => true,
        Never::AnyWorkspaceCrate => in_workspace,
        Never::Any(layer) => {
            target_entry.is_some_and(|t| t.layer == *layer && t.name != entry.name)
        }
        Never::AnyCoreBut(core) => {
            target_entry.is_some_and(|t| t.layer == Layer::Cores && t.name != *core)
        }
        Never::Crate(name) => target_entry.is_some_and(|t| t.name == *name),
        Never::External(names) => !in_workspace && names.contains(&target),
    }
}

fn find<'a>(table: &'a [Crate], package: &str) -> Option<&'a Crate> {
    let name = package.strip_prefix(PREFIX).unwrap_or(package);
    table.iter().find(|entry| entry.name == name)
}

/// A core's manifest cannot keep it from the standard library's clocks and hash maps; its own clippy.toml does.
fn missing_fences(root: &Path, graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    let is_present = |entry: &&Crate| graph.workspace.contains(&format!("{PREFIX}{}", entry.name));
    for entry in CRATES.iter().filter(|entry| entry.layer == Layer::Cores).filter(is_present) {
        let path = root.join("crates").join(entry.name).join("clippy.toml");
        let fence = std::fs::read_to_string(&path).unwrap_or_default();
        for forbidden in CORE_FENCE.iter().filter(|forbidden| !fence.contains(**forbidden)) {
            found.push(format!("{}: its clippy.toml does not disallow {forbidden}", entry.name));
        }
    }
    found
}
