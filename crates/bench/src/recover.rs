//! How long a log of some size takes to be served again after a kill: the server is killed under load and started on what it left.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use thalweg_types::CompressionType;

use crate::error::Error;
use crate::system::{self, Running, Site, System};
use crate::{Place, Produce, Protocol, produce};

/// How long the load goes on before the kill.
const LOAD: Duration = Duration::from_secs(1);

/// More than can be sent while the load goes on.
const ENDLESS_BYTES: u64 = 1 << 40;

/// A server that takes longer is broken; the pause between two tries bounds how exact the figure is.
const WAIT_MAX: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(2);

const TOPIC: &str = "load";

#[derive(Debug, Clone, Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    site: Site,
    /// Bytes of batches in the log before the kills.
    #[arg(long, default_value_t = 10_000_000_000)]
    bytes: u64,
    /// Kills, each under load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Prints for each kill the time from the start of the new process to its first acknowledgement.
pub(crate) fn run(arguments: &Recover) -> Result<(), Error> {
    for system in system::all(arguments.site.kafka_jars.is_some()) {
        let mut running = Running::start(&arguments.site, &system)?;
        running.make_topic(TOPIC, 1)?;
        produce::run(&load(&running, arguments.bytes))?;
        for round in 1..=arguments.rounds {
            running = kill_under_load(running, arguments, &system)?;
            let took = wait_for_acknowledgement(&running)?;
            println!("{}, kill {round}: acknowledged again after {took:.0?}", system.name);
        }
        running.stop()?;
    }
    Ok(())
}

fn kill_under_load(
    running: Running,
    arguments: &Recover,
    system: &System,
) -> Result<Running, Error> {
    let endless = load(&running, ENDLESS_BYTES);
    // Ends with an error when the server is killed, as it should.
    let loading = thread::spawn(move || produce::run(&endless).is_err());
    thread::sleep(LOAD);
    let restarted = running.kill_and_restart(&arguments.site, system)?;
    match loading.join() {
        Ok(true) => Ok(restarted),
        _ => Err(Error::Malformed("the load did not notice the kill")),
    }
}

fn wait_for_acknowledgement(running: &Running) -> Result<Duration, Error> {
    let started = Instant::now();
    loop {
        match produce::run(&load(running, 1)) {
            Ok(_) => return Ok(running.started.elapsed()),
            Err(error) if started.elapsed() > WAIT_MAX => return Err(error),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn load(running: &Running, bytes: u64) -> Produce {
    Produce {
        place: Place {
            protocol: Protocol::Kafka,
            address: Some(running.address(Protocol::Kafka)),
            topic: TOPIC.to_owned(),
            partition: 0,
            partitions: 1,
            connections: 1,
            server_pid: None,
        },
        file: None,
        bytes,
        record_bytes: 1024,
        batch_bytes: 64 * 1024,
        in_flight: 5,
        compression: CompressionType::None,
    }
}
