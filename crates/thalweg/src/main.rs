//! The one binary: `thalweg standalone` runs the system, `thalweg controller`, `broker`, `coordinator` and `gateway` parts of it, `thalweg log` looks at its
//! files, every other command is a client of it over gRPC.
//!
//! Here: the allocator, the command line, the exit code. 0 = done, 1 = failed, 2 = wrong usage or configuration.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod client;
mod log;
mod process;

/// glibc's allocator is several times slower on concurrent large buffers, which is what batches are.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads at its start. Batches are large allocations that come and go at the rate of produce, and what counts is that
/// freed ones are used again: memory touched for the first time costs more than all the copies of a batch together.
///
/// - `cache_oblivious:false`: by default every large allocation lies at a random offset in one page more than it needs, so that a freed
///   one rarely fits the next.
/// - `narenas:1`: what one thread's connections freed is found by all others. Small allocations have their threads' caches.
/// - `dirty_decay_ms:30000`: what nobody used for half a minute goes back to the system. The newest batches leave memory many at a time, and
///   at a moderate rate it takes longer than the usual ten seconds until all of it is used again.
/// - `background_thread:true`: also when nothing is allocated any more.
#[expect(
    unsafe_code,
    reason = "jemalloc looks for this symbol; nothing else in the program has its name"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_OPTIONS: &[u8; 76] =
    b"cache_oblivious:false,narenas:1,dirty_decay_ms:30000,background_thread:true\0";

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.command {
        cli::Command::Standalone(arguments) => process::standalone(&arguments),
        cli::Command::Controller(arguments) => process::controller(&arguments),
        cli::Command::Broker(arguments) => process::broker(&arguments),
        cli::Command::Coordinator(arguments) => process::coordinator(&arguments),
        cli::Command::Gateway(arguments) => process::gateway(&arguments),
        cli::Command::Edge(arguments) => process::edge(&arguments),
        cli::Command::Completions { shell } => {
            cli::write_completions(shell);
            ExitCode::SUCCESS
        }
        cli::Command::Health(arguments) => client::health::run(&arguments),
        cli::Command::Log(command) => log::run(command),
        cli::Command::Topic(command) => client::run(client::topic::run(&cli.bootstrap, command)),
        cli::Command::Cluster(command) => {
            client::run(client::cluster::run(&cli.bootstrap, command))
        }
        cli::Command::Group(command) => client::run(client::group::run(&cli.bootstrap, command)),
        cli::Command::Config(command) => client::run(client::config::run(&cli.bootstrap, command)),
        cli::Command::Produce(arguments) => {
            client::run(client::produce::run(&cli.bootstrap, arguments))
        }
        cli::Command::Consume(arguments) => {
            client::run(client::consume::run(&cli.bootstrap, arguments))
        }
    }
}
