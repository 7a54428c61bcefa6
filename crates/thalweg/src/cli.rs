//! The command line: what can be typed, and what `--help` says about it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use thalweg_types::{Acks, CompressionType, TopicName};

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod group;
pub(crate) mod services;
pub(crate) mod values;

use values::{Bootstrap, Config, Delimiter, Span, StartAt};

/// Thalweg: a durable commit log that speaks Kafka's protocol and gRPC.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  thalweg standalone --data-dir /var/lib/thalweg
  thalweg topic create orders --partitions 3
  thalweg produce orders --file orders.txt
  thalweg consume orders --from earliest --count 10")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// gRPC address of the system, for the client commands.
    #[arg(
        long,
        global = true,
        env = "THALWEG_BOOTSTRAP",
        value_name = "HOST:PORT",
        default_value = "localhost:50051"
    )]
    pub(crate) bootstrap: Bootstrap,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole system in this process: controller, broker, coordinator and gateway.
    Standalone(Box<services::Standalone>),
    /// Run a controller of a cluster: one of those that vote and decide.
    Controller(Box<services::Controller>),
    /// Run a broker of a cluster: it stores partitions and serves Kafka clients.
    Broker(Box<services::Broker>),
    /// Run a coordinator of a cluster: it serves consumer groups and their offsets.
    Coordinator(Box<services::Coordinator>),
    /// Run a gateway of a cluster: it serves gRPC clients.
    Gateway(Box<services::Gateway>),
    /// Give several gateways one address: connections are passed on to them.
    Edge(Box<services::Edge>),
    /// Create, delete, list and describe topics.
    #[command(subcommand)]
    Topic(Topic),
    /// Write records to a topic, one for each line of standard input or a file.
    Produce(Produce),
    /// Read records of a topic.
    Consume(Consume),
    /// Look at consumer groups, and set where they read on.
    #[command(subcommand)]
    Group(group::Group),
    /// Show and change the configs of topics and brokers.
    #[command(subcommand)]
    Config(config::Config),
    /// Look at the nodes, move partitions, elect leaders, stop brokers.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Ask a process of this machine whether it is ready; the exit code tells.
    Health(Health),
    /// Look at the files of a data directory, without a server.
    #[command(subcommand)]
    Log(Log),
    /// Write a completion script for a shell to standard output.
    #[command(after_help = "Example:
  thalweg completions bash > /etc/bash_completion.d/thalweg")]
    Completions { shell: Shell },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg health
  thalweg health --http-address 127.0.0.1:8281 --live")]
pub(crate) struct Health {
    /// Address of the process's HTTP listener.
    #[arg(
        long,
        env = "THALWEG__OPERATIONS__ADDRESS",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) http_address: SocketAddr,
    /// Ask only whether it lives, not whether it is ready.
    #[arg(long)]
    pub(crate) live: bool,
    /// Seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) timeout: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Create a topic.
    #[command(after_help = "Example:
  thalweg topic create orders --partitions 3 --config retention.ms=1d")]
    Create {
        name: TopicName,
        /// Number of partitions [default: the cluster's].
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        partitions: Option<u32>,
        /// Replicas of each partition [default: the cluster's].
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        replication_factor: Option<u32>,
        /// A topic config by Kafka's name; may be repeated.
        #[arg(long = "config", value_name = "NAME=VALUE")]
        configs: Vec<Config>,
        /// Succeed when a topic of that name is there already, whatever it looks like.
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Delete topics with all their records, for good.
    #[command(after_help = "Example:
  thalweg topic delete orders returns")]
    Delete {
        #[arg(required = true)]
        names: Vec<TopicName>,
        #[command(flatten)]
        output: Output,
    },
    /// List topics.
    #[command(after_help = "Example:
  thalweg topic list --output json")]
    List {
        /// Also the topics the system keeps for itself.
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show the partitions, replicas and configs of topics.
    #[command(after_help = "Example:
  thalweg topic describe orders")]
    Describe {
        #[arg(required = true)]
        names: Vec<TopicName>,
        #[command(flatten)]
        output: Output,
    },
    /// Give a topic more partitions.
    #[command(after_help = "Example:
  thalweg topic add-partitions orders --partitions 6")]
    AddPartitions {
        name: TopicName,
        /// Partitions the topic shall have afterwards.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        partitions: u32,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Form of the answer.
    #[arg(long = "output", value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    pub(crate) format: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg produce orders --file orders.txt --compression lz4
  printf 'alice:12\\nbob:7\\n' | thalweg produce orders --key-separator :

Each line is one record, without its newline; empty lines and a last line without newline are records too.
Records with a key go to the partition of the key's hash, as with Kafka's clients; records without one go
to all partitions in turn, a batch at a time.")]
pub(crate) struct Produce {
    pub(crate) topic: TopicName,
    /// File to read instead of standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// What ends the key in each line; a line without it has no key. Escapes: \t \n \r \0 \\ \xNN.
    #[arg(long, value_name = "TEXT")]
    pub(crate) key_separator: Option<Delimiter>,
    /// Partition for all records.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// Offset that the first record must get; if the partition has another end by then, nothing is written. The records behind it must follow
    /// without a gap.
    #[arg(
        long,
        value_name = "OFFSET",
        requires = "partition",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    pub(crate) expected_offset: Option<i64>,
    /// When a record counts as written: 0 (sent), 1 (the leader has it), all (every in-sync replica has it).
    #[arg(long, default_value = "all")]
    pub(crate) acks: Acks,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none", value_name = "CODEC")]
    pub(crate) compression: CompressionType,
    /// Bytes of records put into one batch, before compression; a larger record gets a batch of its own.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 512 * 1024,
        value_parser = clap::value_parser!(u32).range(1..=32 * 1024 * 1024)
    )]
    pub(crate) batch_bytes: u32,
    /// How long a batch is sent again after errors that may pass; it is stored once all the same. Units: ms, s, m, h.
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub(crate) delivery_timeout: Span,
    /// Create the topic with the cluster's defaults if it does not exist.
    #[arg(long)]
    pub(crate) create_topic: bool,
    /// Form of the figures at the end: a line on standard error, or JSON on standard output.
    #[arg(long = "output", value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg consume orders --from earliest > orders.txt
  thalweg consume orders --partition 0 --from 1200 --count 5 --output table
  thalweg consume orders --from 2026-01-31T12:00:00Z --output json --follow
  thalweg consume orders --group billing

Without --follow it ends at the end of the topic as it was at the start. Records of one partition come in
order; those of several partitions are interleaved. As a member of a group it goes on until --count or an
interrupt; what was written out is committed, and --from says where the group begins that has committed nothing.")]
pub(crate) struct Consume {
    pub(crate) topic: TopicName,
    /// Partition to read; may be repeated [default: all].
    #[arg(long = "partition", value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partitions: Vec<i32>,
    /// Read as a member of this group, together with its other members.
    #[arg(
        long,
        value_name = "GROUP",
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        conflicts_with_all = ["partitions", "follow"]
    )]
    pub(crate) group: Option<String>,
    /// Where to begin: earliest, latest, an offset, or a time as RFC 3339 or @ and milliseconds since 1970.
    #[arg(long, default_value = "earliest", value_name = "POSITION")]
    pub(crate) from: StartAt,
    /// End after this many records.
    #[arg(long, value_name = "RECORDS")]
    pub(crate) count: Option<u64>,
    /// Go on with records as they come.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Where this reader is, as brokers name their racks: in-sync replicas there are read, not leaders elsewhere.
    #[arg(long, value_name = "RACK")]
    pub(crate) rack: Option<String>,
    /// raw: values and nothing else; json: an object for each line; table: for people.
    #[arg(long, value_enum, default_value_t = RecordFormat::Raw, value_name = "FORMAT")]
    pub(crate) output: RecordFormat,
    /// What follows each value in raw output. Escapes: \t \n \r \0 \\ \xNN.
    #[arg(long, value_name = "TEXT", default_value = "\\n")]
    pub(crate) delimiter: Delimiter,
    /// Put nothing between values in raw output.
    #[arg(long, conflicts_with = "delimiter")]
    pub(crate) no_delimiter: bool,
    /// Write key, this, and value in raw output.
    #[arg(long, value_name = "TEXT")]
    pub(crate) key_separator: Option<Delimiter>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Show the batches of a partition's folder or of one segment.
    Dump(LogDump),
    /// Check a partition's folder, or all folders of a data directory, for damage.
    Verify(LogVerify),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg log dump /var/lib/thalweg/logs/orders-0
  thalweg log dump /var/lib/thalweg/logs/orders-0/00000000000000000000.log --records --output json

Reads only, and takes no lock: it works on a copy and beside a running server, whose newest records may be in
its journal only. JSON is an object for each line. PRODUCER is id/epoch/first sequence.
Exit code: 0 when all batches are sound, 1 when some are damaged, 2 for wrong usage.")]
pub(crate) struct LogDump {
    /// A partition's folder, or a segment (00000000000000000000.log) in one.
    #[arg(value_name = "FOLDER|SEGMENT")]
    pub(crate) path: PathBuf,
    /// Also the records of each batch.
    #[arg(long)]
    pub(crate) records: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg log verify /var/lib/thalweg
  thalweg log verify /var/lib/thalweg/logs/orders-0 --output json

Compares checksums, offsets, leader epochs and indexes, reads only, and takes no lock. What a crash or a running
server leaves behind the durable end is told as unfinished and is no damage: the journal has it.
Exit code: 0 when all is sound, 1 when something is damaged, 2 for wrong usage.")]
pub(crate) struct LogVerify {
    /// A partition's folder, or a data directory.
    #[arg(value_name = "FOLDER|DATA_DIR")]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    Raw,
    Json,
    Table,
}

/// Writes the completion script of `shell` to standard output.
pub(crate) fn write_completions(shell: Shell) {
    let mut command = Cli::command();
    clap_complete::generate(shell, &mut command, "thalweg", &mut std::io::stdout());
}

#[cfg(test)]
mod tests;
