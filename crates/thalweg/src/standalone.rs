//! The whole system in one process.

use std::process::ExitCode;

use thalweg_settings::{Layers, Loaded, SettingsError};

use crate::cli::Standalone;

/// Runs until a signal asks to end.
pub(crate) fn run(arguments: &Standalone) -> ExitCode {
    let loaded = match load(arguments) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("thalweg: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.print_config {
        print!("{loaded}");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn load(arguments: &Standalone) -> Result<Loaded, SettingsError> {
    let data_dir = arguments.data_dir.as_ref().map(|path| path.display());
    Layers::new()
        .file(arguments.config.clone())
        .environment(std::env::vars_os())
        .flag("standalone.data_dir", "--data-dir", data_dir)
        .flag("broker.kafka.address", "--kafka-address", arguments.kafka_address)
        .flag("gateway.grpc.address", "--grpc-address", arguments.grpc_address)
        .flag("operations.address", "--http-address", arguments.http_address)
        .flag("operations.log_format", "--log-format", arguments.log_format.as_ref())
        .load()
}
