//! What every file owes its reader, and what must not be left behind in one.
//!
//! - A Rust file under `crates/` opens with its purpose (`//!`, after inner attributes at most).
//! - A module `foo` is `foo.rs` with its children in `foo/`, never a `mod.rs`.
//! - Unfinished code and debug output are not committed.
//! - Nothing names a package registry's host or a path of one machine: both differ from reader to reader. The lock file names the
//!   public index and nothing else.

use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Macros that are for the time before a commit.
const LEFTOVERS: &[&str] = &["dbg", "todo", "unimplemented"];

/// First folders of paths that exist on one machine only.
const MACHINE_FOLDERS: &[&str] = &["home", "root", "work", "Users"];

/// Hosts of package registries and their mirrors, in two parts so that this file does not name them.
const REGISTRY_HOSTS: &[(&str, &str)] = &[
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("registry.npmjs", ".org"),
    ("files.pythonhosted", ".org"),
    ("pypi", ".org"),
    ("proxy.golang", ".org"),
    ("repo1.maven", ".org"),
    ("repo.maven.apache", ".org"),
    ("deb.debian", ".org"),
];

/// The one source a locked package may have.
const PUBLIC_INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What holds no source: build results and what belongs to git, which in a linked worktree is a file.
const SKIPPED: &[&str] = &["target", ".git", "node_modules", "__pycache__"];

/// Files beyond this size are data, not text that someone wrote.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Checks the repository at `root`: a summary, or every violation.
pub(crate) fn run(root: &Path) -> Result<String, Vec<String>> {
    let mut files = Vec::new();
    list(root, &mut files).map_err(|error| vec![format!("{}: {error}", root.display())])?;
    files.sort();
    let mut violations = Vec::new();
    for path in &files {
        let name = path.strip_prefix(root).unwrap_or(path);
        if let Some(text) = read_text(path) {
            violations.extend(check(name, &text));
        }
    }
    if violations.is_empty() {
        Ok(format!("tidy: {} files, nothing to say", files.len()))
    } else {
        Err(violations)
    }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let is_skipped = SKIPPED.iter().any(|skipped| entry.file_name() == *skipped);
        if is_skipped {
            continue;
        }
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The file's text; `None` for data and for what is gone by now.
fn read_text(path: &Path) -> Option<String> {
    let size_bytes = std::fs::metadata(path).ok()?.len();
    if size_bytes > TEXT_BYTES_MAX {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

/// Every violation in one file, with its place.
fn check(name: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is_rust = name.extension().is_some_and(|extension| extension == "rs");
    if is_rust && name.starts_with("crates") {
        if name.file_name().is_some_and(|file| file == "mod.rs") {
            found.push(format!("{}: a module's file carries the module's name", name.display()));
        }
        if !opens_with_purpose(text) {
            found.push(format!("{}: does not open with its purpose (//!)", name.display()));
        }
    }
    let is_lock = name.file_name().is_some_and(|file| file == "Cargo.lock");
    for (number, line) in (1..).zip(text.lines()) {
        let verdict = if is_lock { check_locked(line) } else { check_line(line, is_rust) };
        if let Some(complaint) = verdict {
            found.push(format!("{}:{number}: {complaint}", name.display()));
        }
    }
    found
}

/// Whether the first line, after inner attributes, is an inner doc comment that says something.
fn opens_with_purpose(text: &str) -> bool {
    let mut lines = text.lines().skip_while(|line| line.starts_with("#!["));
    lines
        .next()
        .is_some_and(|line| line.strip_prefix("//! ").is_some_and(|said| !said.trim().is_empty()))
}

fn check_line(line: &str, is_rust: bool) -> Option<String> {
    if is_rust && !line.trim_start().starts_with("//") {
        let leftover = LEFTOVERS.iter().find(|name| calls_macro(line, name));
        if let Some(name) = leftover {
            return Some(format!("{name}! is left over"));
        }
    }
    if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| names_folder(line, folder)) {
        return Some(format!("a path under /{folder} exists on one machine only"));
    }
    let host = REGISTRY_HOSTS.iter().find(|(front, back)| line.contains(&format!("{front}{back}")));
    host.map(|(front, back)| format!("names the registry host {front}{back}"))
}

fn check_locked(line: &str) -> Option<String> {
    let source = line.strip_prefix("source = \"")?.trim_end_matches('"');
    (source != PUBLIC_INDEX).then(|| format!("a package is locked to {source}"))
}

/// Whether the line calls this macro: its name at the start of a word, then an exclamation mark and a bracket.
fn calls_macro(line: &str, name: &str) -> bool {
    let call = format!("{name}!");
    line.match_indices(&call).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + call.len()..].chars().next();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
            && after.is_some_and(|c| matches!(c, '(' | '[' | '{'))
    })
}

/// Whether the line names something inside this folder of the root: not a part of a longer path or of a web address.
fn names_folder(line: &str, folder: &str) -> bool {
    let inside = format!("/{folder}/");
    line.match_indices(&inside).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + inside.len()..].chars().next();
        before.is_none_or(|c| {
            !c.is_alphanumeric() && !matches!(c, '/' | '.' | '_' | '-' | '}' | '*' | '>')
        }) && after.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-'))
    })
}
