//! Systems side by side on the same load.
//!
//! What is claimed is a ratio from one run: the same client, the same machine, fresh processes and wiped directories for each run, systems
//! taking turns so that a machine that grows slower or faster does so for all of them. Each run first warms the system up on another
//! topic, because a virtual machine of Java is slow until it has compiled itself, and a fresh directory is dear for everybody. The
//! memory that a run may need is touched and given back before it, so that the first system does not pay for the page faults of all.

mod cases;
mod table;

use std::time::Duration;

use clap::{Args, ValueEnum};
use thalweg_types::CompressionType;

use crate::error::Error;
use crate::figures::Figures;
use crate::system::{self, Running, Site, System};
use crate::{Fetch, Place, Produce, fetch, produce};
use cases::Case;
use table::Table;

/// A topic of at most this many bytes is read from memory by a reader that comes at once.
const CAUGHT_UP_BYTES: u64 = 160 << 20;

#[derive(Debug, Clone, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    site: Site,
    /// Which loads.
    #[arg(long, value_enum, default_value = "sizes")]
    cases: Cases,
    /// Runs of each system with each load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Bytes of batches in each run.
    #[arg(long, default_value_t = 512 << 20)]
    bytes: u64,
    /// Bytes of batches to warm each system up with.
    #[arg(long, default_value_t = 256 << 20)]
    warm_up_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Cases {
    /// One connection, records of 1 KiB, batches of 16 KiB, 64 KiB and 1 MiB.
    Sizes,
    /// One connection, batches of 64 KiB, 1 and 1,000 partitions.
    Partitions,
    /// One batch in flight, records of 1 KiB alone in a batch: how long an acknowledgement takes.
    Latency,
    /// Every combination of protocol, record size, batch size and connections; ours only.
    Matrix,
}

/// What one system did with one load in one round.
struct Outcome {
    produced: Figures,
    fetched: Figures,
    /// From the start of the process to the first topic made.
    ready_in: Duration,
    /// Resident before the load.
    idle_bytes: Option<u64>,
}

/// Prints the table when all is done, and how it goes on standard error.
pub(crate) fn run(arguments: &Compare) -> Result<(), Error> {
    let systems =
        system::all(arguments.site.kafka_jars.is_some() && arguments.cases != Cases::Matrix);
    let mut table = Table::new(&systems);
    for round in 0..arguments.rounds {
        for case in cases::of(arguments.cases) {
            for turn in 0..systems.len() {
                // The order turns round, so that nobody always comes after the same neighbour.
                let index = (turn + round as usize) % systems.len();
                let Some(system) = systems.get(index).filter(|system| system.speaks(case.protocol))
                else {
                    continue;
                };
                let outcome = run_once(arguments, system, &case)?;
                eprintln!(
                    "round {} of {}, {case}, {}: {:.0} MB/s, {:.2} CPU s/GB",
                    round + 1,
                    arguments.rounds,
                    system.name,
                    outcome.produced.megabytes_per_second(),
                    outcome.produced.cpu_seconds_per_gigabyte().unwrap_or(f64::NAN)
                );
                table.add(&case, index, outcome);
            }
        }
    }
    println!("{table}");
    Ok(())
}

fn run_once(arguments: &Compare, system: &System, case: &Case) -> Result<Outcome, Error> {
    touch(2 * arguments.bytes.min(1 << 30));
    let running = Running::start(&arguments.site, system)?;
    let ready_in = running.make_topic("load", case.partitions)?;
    std::thread::sleep(Duration::from_millis(500));
    let idle_bytes = running.resident_bytes();
    if arguments.warm_up_bytes > 0 {
        running.make_topic("warm-up", case.partitions)?;
        produce::run(&load(&running, case, "warm-up", arguments.warm_up_bytes))?;
        fetch::run(&reading(&running, case, "warm-up"))?;
    }
    let bytes = case.bytes(arguments.bytes);
    let produced = produce::run(&load(&running, case, "load", bytes))?;
    let fetched = fetch::run(&reading(&running, case, "load"))?;
    running.stop()?;
    Ok(Outcome { produced, fetched, ready_in, idle_bytes })
}

fn load(running: &Running, case: &Case, topic: &str, bytes: u64) -> Produce {
    Produce {
        place: place(running, case, topic),
        file: None,
        bytes,
        record_bytes: case.record_bytes,
        batch_bytes: case.batch_bytes,
        in_flight: case.in_flight,
        compression: CompressionType::None,
    }
}

fn reading(running: &Running, case: &Case, topic: &str) -> Fetch {
    Fetch { place: place(running, case, topic), output: None, fetch_bytes: 4 << 20 }
}

fn place(running: &Running, case: &Case, topic: &str) -> Place {
    Place {
        protocol: case.protocol,
        address: Some(running.address(case.protocol)),
        topic: topic.to_owned(),
        partition: 0,
        partitions: case.partitions,
        connections: case.connections,
        server_pid: Some(running.pid()),
    }
}

/// Has the machine find this much memory, and gives it back.
fn touch(bytes: u64) {
    const PAGE_BYTES: usize = 4096;
    let mut memory = vec![0_u8; usize::try_from(bytes).unwrap_or(0)];
    for page in memory.chunks_mut(PAGE_BYTES) {
        page[0] = 1;
    }
    std::hint::black_box(&memory);
}
