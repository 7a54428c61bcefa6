//! `thalweg group`: what can be asked and changed of consumer groups.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::Output;
use super::cluster::Partition;
use super::values::{Span, StartAt};

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// List groups.
    #[command(after_help = "Examples:
  thalweg group list
  thalweg group list --state stable --state empty --output json")]
    List {
        /// Only groups in this state; may be repeated.
        #[arg(long = "state", value_enum, value_name = "STATE")]
        states: Vec<State>,
        /// Only groups of this type; may be repeated.
        #[arg(long = "type", value_enum, value_name = "TYPE")]
        types: Vec<Type>,
        #[command(flatten)]
        output: Output,
    },
    /// Show state, members and assignments of groups.
    #[command(after_help = "Example:
  thalweg group describe billing")]
    Describe {
        #[command(flatten)]
        groups: Groups,
        #[command(flatten)]
        output: Output,
    },
    /// Show how far groups are behind, in records and in time.
    #[command(after_help = "Examples:
  thalweg group lag billing
  thalweg group lag billing --members
  thalweg group lag billing shipping --output json

BEHIND is how long the first unread record has been there. A dash: not known, or nothing was committed.")]
    Lag {
        #[command(flatten)]
        groups: Groups,
        /// A row for each member instead of each partition.
        #[arg(long)]
        members: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Set where a group reads on, while it has no members.
    Reset(Reset),
    /// Delete groups with their committed offsets, while they have no members.
    #[command(after_help = "Example:
  thalweg group delete billing")]
    Delete {
        #[command(flatten)]
        groups: Groups,
        #[command(flatten)]
        output: Output,
    },
    /// Watch a group for a while, and say why it is behind and what to do.
    #[command(after_help = "Examples:
  thalweg group diagnose billing
  thalweg group diagnose billing --watch 30s --output json

Exit code: 0 when the group keeps up, 1 when something is found, 2 for wrong usage.")]
    Diagnose {
        #[arg(value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
        group: String,
        /// How long to watch, at most 60s. Less than consumers let pass between two commits tells little. Units: ms, s, m.
        #[arg(long, value_name = "TIME", default_value = "12s")]
        watch: Span,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Groups {
    #[arg(
        required = true,
        value_name = "GROUP",
        id = "group",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg group reset billing --to earliest --dry-run
  thalweg group reset billing --to 2026-01-31T12:00:00Z --topic orders
  thalweg group reset billing --shift -100 --partition orders:0

Without --topic and --partition: every partition that the group has committed an offset of. A group that does not
exist yet is made by it. Positions before or behind the log are moved to its start or end.")]
pub(crate) struct Reset {
    #[arg(value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) group: String,
    /// Where to: earliest, latest, an offset, or a time as RFC 3339 or @ and milliseconds since 1970.
    #[arg(long, value_name = "POSITION", required_unless_present = "shift")]
    pub(crate) to: Option<StartAt>,
    /// Records forward, or back with a minus.
    #[arg(long, value_name = "RECORDS", allow_hyphen_values = true, conflicts_with = "to")]
    pub(crate) shift: Option<i64>,
    /// All partitions of this topic; may be repeated.
    #[arg(long = "topic", value_name = "TOPIC")]
    pub(crate) topics: Vec<thalweg_types::TopicName>,
    /// This partition; may be repeated.
    #[arg(long = "partition", value_name = "TOPIC:PARTITION")]
    pub(crate) partitions: Vec<Partition>,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Assigning,
    Reconciling,
    Stable,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    Classic,
    Consumer,
}
