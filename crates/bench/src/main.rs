//! Moves records through a Kafka listener and measures what that costs: time, and the server's CPU.
//!
//! A client as thin as it can be, so that the server is what is measured: blocking sockets, one connection, one partition, a few
//! hand-written requests of fixed versions that every broker since Kafka 0.11 answers. It shares the batch format with the server
//! (`record`) and nothing else, so it also tells whether the protocol is spoken as others expect it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use thalweg_types::CompressionType;

mod connection;
mod error;
mod fetch;
mod figures;
mod produce;
mod wire;

/// Moves records through a Kafka listener and prints the figures.
#[derive(Debug, Parser)]
#[command(name = "thalweg-bench", version)]
#[command(after_help = "Examples:
  thalweg-bench produce --topic load --bytes 1073741824 --batch-bytes 65536 --server-pid 4711
  thalweg-bench fetch --topic load --server-pid 4711
  thalweg-bench produce --topic lines --file /var/log/dpkg.log --compression lz4
  thalweg-bench fetch --topic lines --output lines.txt")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a file's lines, or generated records, to one partition with acks=all.
    Produce(Produce),
    /// Read one partition from its beginning to the end it has now.
    Fetch(Fetch),
}

#[derive(Debug, Args)]
struct Place {
    /// Address of the partition leader's Kafka listener.
    #[arg(long, default_value = "127.0.0.1:9092")]
    address: SocketAddr,
    #[arg(long)]
    topic: String,
    #[arg(long, default_value_t = 0)]
    partition: i32,
    /// Process whose CPU time is reported.
    #[arg(long)]
    server_pid: Option<u32>,
}

#[derive(Debug, Args)]
struct Produce {
    #[command(flatten)]
    place: Place,
    /// One record for each line of this file, empty lines included.
    #[arg(long, conflicts_with_all = ["bytes", "record_bytes"])]
    file: Option<PathBuf>,
    /// Without a file: bytes of batches to send, the same batch again and again.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Without a file: bytes of each record's value.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    record_bytes: u32,
    /// A batch is sent before it grows past this many bytes, uncompressed.
    #[arg(long, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    batch_bytes: u32,
    /// Batches sent and not yet answered; the Java client's default is the default here.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1024))]
    in_flight: u32,
    #[arg(long, default_value = "none")]
    compression: CompressionType,
}

#[derive(Debug, Args)]
struct Fetch {
    #[command(flatten)]
    place: Place,
    /// Write each record's value and a newline to this file; without it, batches are counted and dropped.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Most bytes asked for at a time.
    #[arg(long, default_value_t = 4 * 1024 * 1024, value_parser = clap::value_parser!(i32).range(1..=1 << 28))]
    fetch_bytes: i32,
}

fn main() -> ExitCode {
    let (name, outcome) = match Cli::parse().command {
        Command::Produce(arguments) => ("produce", produce::run(&arguments)),
        Command::Fetch(arguments) => ("fetch", fetch::run(&arguments)),
    };
    match outcome {
        Ok(figures) => {
            println!("{name}: {figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
