//! The one binary: `thalweg standalone` runs the system, `thalweg log` looks at its files, every other command is
//! a client of it over gRPC.
//!
//! Here: the allocator, the command line, the exit code. 0 = done, 1 = failed, 2 = wrong usage or configuration.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod client;
mod log;
mod standalone;

/// glibc's allocator is several times slower on concurrent large buffers, which is what batches are.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.command {
        cli::Command::Standalone(arguments) => standalone::run(&arguments),
        cli::Command::Completions { shell } => {
            cli::write_completions(shell);
            ExitCode::SUCCESS
        }
        cli::Command::Log(command) => log::run(command),
        cli::Command::Topic(command) => client::run(client::topic::run(&cli.bootstrap, command)),
        cli::Command::Produce(arguments) => {
            client::run(client::produce::run(&cli.bootstrap, arguments))
        }
        cli::Command::Consume(arguments) => {
            client::run(client::consume::run(&cli.bootstrap, arguments))
        }
    }
}
