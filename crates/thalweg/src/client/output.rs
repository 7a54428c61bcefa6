//! Tables for people, JSON for programs, sizes and times in words.

use std::io::{self, Write as _};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::cli::OutputFormat;

/// Writes rows as a table with a heading, or the same facts as JSON.
pub(crate) fn write<T: Serialize>(
    format: OutputFormat,
    facts: &T,
    heading: &[&str],
    rows: Vec<Vec<String>>,
) -> io::Result<()> {
    match format {
        OutputFormat::Json => write_json(facts),
        OutputFormat::Table => {
            let mut out = io::stdout().lock();
            writeln!(out, "{}", table(heading, rows))?;
            out.flush()
        }
    }
}

/// Writes facts as indented JSON.
pub(crate) fn write_json<T: Serialize>(facts: &T) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, facts)?;
    writeln!(out)?;
    out.flush()
}

/// A plain table: no frame, a heading in capitals, columns two spaces apart, so that `awk` and `cut` work on it.
pub(crate) fn table(heading: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Bytes with a decimal unit: `1.25 GB`.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// A count with a decimal unit: `3.10 M`; exact below a thousand.
pub(crate) fn count(count: u64) -> String {
    scaled(count, &["", "k", "M", "G", "T", "P"])
}

/// Amount for each second of `elapsed`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people; negative and overlarge values saturate"
)]
pub(crate) fn rate(amount: u64, elapsed: Duration) -> u64 {
    (amount as f64 / elapsed.as_secs_f64().max(1e-6)) as u64
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn scaled(amount: u64, units: &[&str]) -> String {
    let mut value = amount as f64;
    let mut unit = units.iter();
    let mut name = unit.next().copied().unwrap_or_default();
    while value >= 1000.0 {
        let Some(larger) = unit.next() else { break };
        value /= 1000.0;
        name = larger;
    }
    let digits = if amount < 1000 { 0 } else { 2 };
    format!("{value:.digits$} {name}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_with_decimal_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_250_000_000), "1.25 GB");
        assert_eq!(count(12), "12");
        assert_eq!(count(3_100_000), "3.10 M");
        assert_eq!(rate(1000, Duration::from_millis(500)), 2000);
    }

    #[test]
    fn tables_have_a_heading_and_aligned_columns() {
        let rows =
            vec![vec!["orders".to_owned(), "3".to_owned()], vec!["r".to_owned(), "12".to_owned()]];
        assert_eq!(
            table(&["name", "partitions"], rows),
            "NAME    PARTITIONS\norders  3\nr       12"
        );
    }
}
