//! Moves records through a server and measures what that costs: time, and the server's CPU and memory.
//!
//! Clients as thin as they can be, so that the server is what is measured. On the Kafka protocol: blocking sockets and a few
//! hand-written requests of fixed versions that every broker since Kafka 0.11 answers, so that it also tells whether the protocol is
//! spoken as others expect it. On gRPC: the public streams. `compare` runs whole systems side by side on the same load.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use thalweg_types::CompressionType;

mod batches;
mod compare;
mod connections;
mod error;
mod fetch;
mod figures;
mod grpc;
mod kafka;
mod produce;
mod recover;
mod system;

/// Moves records through a Kafka listener or a gRPC gateway and prints the figures.
#[derive(Debug, Parser)]
#[command(name = "thalweg-bench", version)]
#[command(after_help = "Examples:
  thalweg-bench produce --topic load --bytes 1073741824 --batch-bytes 65536 --server-pid 4711
  thalweg-bench produce --topic load --protocol grpc --connections 10 --partitions 10
  thalweg-bench fetch --topic load --server-pid 4711
  thalweg-bench produce --topic lines --file /var/log/dpkg.log --compression lz4
  thalweg-bench fetch --topic lines --output lines.txt
  thalweg-bench compare --thalweg target/release/thalweg --kafka-jars target/kafka/libs --rounds 5")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a file's lines, or generated records, with acks=all.
    Produce(Produce),
    /// Read partitions from their beginning to the end they have now.
    Fetch(Fetch),
    /// Run systems side by side, a fresh process and directory for each run, and print medians and ratios as Markdown.
    Compare(compare::Compare),
    /// Kill a server under load and print how long it takes to acknowledge again.
    Recover(recover::Recover),
}

/// How the server is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Kafka,
    Grpc,
}

#[derive(Debug, Clone, Args)]
struct Place {
    #[arg(long, value_enum, default_value = "kafka")]
    protocol: Protocol,
    /// Address of the partition leader's Kafka listener [default: 127.0.0.1:9092], or of the gateway [default: 127.0.0.1:50051].
    #[arg(long)]
    address: Option<SocketAddr>,
    #[arg(long)]
    topic: String,
    /// First partition to use.
    #[arg(long, default_value_t = 0)]
    partition: i32,
    /// Partitions to use, from the first one on; shared out among the connections.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: i32,
    /// Connections, each with a thread of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Process whose CPU time and memory are reported.
    #[arg(long)]
    server_pid: Option<u32>,
}

#[derive(Debug, Clone, Args)]
struct Produce {
    #[command(flatten)]
    place: Place,
    /// One record for each line of this file, empty lines included, to the first partition over one connection.
    #[arg(long, conflicts_with_all = ["bytes", "record_bytes", "connections", "partitions"])]
    file: Option<PathBuf>,
    /// Without a file: bytes of batches to send over all connections, the same batch again and again.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Without a file: bytes of each record's value.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    record_bytes: u32,
    /// A batch is sent before it grows past this many bytes, uncompressed.
    #[arg(long, default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    batch_bytes: u32,
    /// Batches sent and not yet answered on each connection; the Java client's default is the default here.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1024))]
    in_flight: u32,
    #[arg(long, default_value = "none")]
    compression: CompressionType,
}

#[derive(Debug, Clone, Args)]
struct Fetch {
    #[command(flatten)]
    place: Place,
    /// Write each record's value and a newline to this file; without it, batches are counted and dropped.
    #[arg(long, conflicts_with = "connections")]
    output: Option<PathBuf>,
    /// Most bytes asked for at a time.
    #[arg(long, default_value_t = 4 * 1024 * 1024, value_parser = clap::value_parser!(i32).range(1..=1 << 25))]
    fetch_bytes: i32,
}

impl Place {
    fn address(&self) -> SocketAddr {
        let port = match self.protocol {
            Protocol::Kafka => 9092,
            Protocol::Grpc => 50051,
        };
        self.address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// The partitions that connection `index` works on, from 0: every partition belongs to some connection, and none has nothing to do.
    fn share(&self, index: u32) -> Vec<i32> {
        let (count, of) = (self.partitions.unsigned_abs(), self.connections);
        let mut share: Vec<_> = (index..count).step_by(of as usize).collect();
        if share.is_empty() {
            share.push(index % count);
        }
        share.into_iter().filter_map(|p| self.partition.checked_add_unsigned(p)).collect()
    }
}

fn main() -> ExitCode {
    let (name, outcome) = match Cli::parse().command {
        Command::Produce(arguments) => ("produce", produce::run(&arguments).map(print("produce"))),
        Command::Fetch(arguments) => ("fetch", fetch::run(&arguments).map(print("fetch"))),
        Command::Compare(arguments) => ("compare", compare::run(&arguments)),
        Command::Recover(arguments) => ("recover", recover::run(&arguments)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(name: &str) -> impl Fn(figures::Figures) {
    move |figures| println!("{name}: {figures}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partitions: i32, connections: u32) -> Place {
        Place {
            protocol: Protocol::Kafka,
            address: None,
            topic: "load".to_owned(),
            partition: 0,
            partitions,
            connections,
            server_pid: None,
        }
    }

    #[test]
    fn partitions_are_shared_out_and_none_is_left_over() {
        let place = place(5, 2);
        assert_eq!((place.share(0), place.share(1)), (vec![0, 2, 4], vec![1, 3]));
    }

    #[test]
    fn more_connections_than_partitions_meet_in_them() {
        let place = place(2, 3);
        assert_eq!((place.share(0), place.share(1), place.share(2)), (vec![0], vec![1], vec![0]));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
