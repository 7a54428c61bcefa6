//! `thalweg log verify`: what does not fit in a partition's folder, or in all of a log dir, and where.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use thalweg_env::fs::RealFs;
use thalweg_storage::inspect::{self, DurableMarks, Finding, Severity, Target, Verified};

use super::{Failure, Verdict, flush, output, target};
use crate::cli::{LogVerify, OutputFormat};
use crate::client::output::bytes;

pub(super) fn run(arguments: &LogVerify) -> Result<Verdict, Failure> {
    let path = &arguments.path;
    let expected = "neither a partition's folder nor a data directory";
    let (log_dir, folders) = match target(path, expected)? {
        Target::Folder(folder) => (parent(&folder), vec![folder]),
        Target::LogDir(dir) => {
            let folders = inspect::partition_folders(&RealFs, &dir).map_err(Failure::read(&dir))?;
            (dir, folders)
        }
        Target::Segment { .. } => return Err(Failure::Unknown { path: path.clone(), expected }),
    };
    let marks = DurableMarks::read(&RealFs, &log_dir).map_err(Failure::read(&log_dir))?;
    let mut out = output();
    let format = arguments.output.format;
    let mut all = Verified::default();
    let mut partitions = 0_u64;
    for folder in &folders {
        let verified = match verify(&mut out, format, folder, &marks) {
            // The partition was deleted meanwhile.
            Err(Failure::Read { .. }) if !folder.exists() => continue,
            verified => verified?,
        };
        partitions += 1;
        all.segments += verified.segments;
        all.batches += verified.batches;
        all.bytes += verified.bytes;
        all.damage += verified.damage;
        all.unfinished += verified.unfinished;
    }
    write_summary(&mut out, format, partitions, &all).map_err(Failure::Write)?;
    flush(out)?;
    Ok(if all.damage == 0 { Verdict::Sound } else { Verdict::Damaged })
}

/// The log dir that a folder is in, which the checkpoint of durable ends is in.
fn parent(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.parent().unwrap_or(folder).to_owned()
}

fn verify(
    out: &mut impl Write,
    format: OutputFormat,
    folder: &Path,
    marks: &DurableMarks,
) -> Result<Verified, Failure> {
    let mut written = Ok(());
    let mut report = |finding: &Finding| {
        if written.is_ok() {
            written = write_finding(out, format, finding);
        }
    };
    let verified = inspect::verify_folder(&RealFs, folder, marks, &mut report);
    written.map_err(Failure::Write)?;
    verified.map_err(Failure::read(folder))
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Damage => "damage",
        Severity::Unfinished => "unfinished",
    }
}

fn write_finding(out: &mut impl Write, format: OutputFormat, finding: &Finding) -> io::Result<()> {
    let (path, problem) = (finding.path.display().to_string(), finding.problem.to_string());
    let severity = word(finding.severity);
    match format {
        OutputFormat::Json => {
            let facts = json!({
                "finding": severity, "path": path, "position": finding.position, "problem": problem,
            });
            serde_json::to_writer(&mut *out, &facts)?;
            writeln!(out)
        }
        OutputFormat::Table => match finding.position {
            Some(position) => writeln!(out, "{severity}: {path}: byte {position}: {problem}"),
            None => writeln!(out, "{severity}: {path}: {problem}"),
        },
    }
}

fn write_summary(
    out: &mut impl Write,
    format: OutputFormat,
    partitions: u64,
    all: &Verified,
) -> io::Result<()> {
    match format {
        OutputFormat::Json => {
            let facts = json!({
                "partitions": partitions, "segments": all.segments, "batches": all.batches,
                "size_bytes": all.bytes, "damage": all.damage, "unfinished": all.unfinished,
                "sound": all.damage == 0,
            });
            serde_json::to_writer(&mut *out, &facts)?;
            writeln!(out)
        }
        OutputFormat::Table => writeln!(
            out,
            "{}: {partitions} partitions, {} segments, {} batches, {}; {} damaged places, {} unfinished writes",
            if all.damage == 0 { "sound" } else { "damaged" },
            all.segments,
            all.batches,
            bytes(all.bytes),
            all.damage,
            all.unfinished
        ),
    }
}
