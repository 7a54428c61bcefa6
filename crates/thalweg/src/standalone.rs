//! `thalweg standalone`: the whole system in one process.
//!
//! The services are wired as in a cluster, only closer: controller and broker talk gRPC, over a pipe in memory instead of TCP, and the
//! gateway calls the broker directly instead of over the network. Nothing in them knows the difference.
//!
//! Standard output carries one line for each listener and `ready`, for scripts that start it; everything else is log lines on
//! standard error.

mod broker_port;
mod data_dir;
mod kafka_metrics;
mod services;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use thalweg_settings::{Layers, Loaded, LogFormat, SettingsError};
use thalweg_telemetry::{InitLogsError, init_logs};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Standalone;
use services::{Services, StartError};

/// Why the process ended otherwise than it was asked to.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Logs(#[from] InitLogsError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the services did not stop within {0:?}")]
    Stop(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs until a signal asks to end.
pub(crate) fn run(arguments: &Standalone) -> ExitCode {
    match load_and_serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thalweg: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn load_and_serve(arguments: &Standalone) -> Result<(), Error> {
    let loaded = load(arguments)?;
    if arguments.print_config {
        print!("{loaded}");
        return Ok(());
    }
    let operations = &loaded.settings.operations;
    let format = match operations.log_format {
        LogFormat::Text => thalweg_telemetry::LogFormat::Text,
        LogFormat::Json => thalweg_telemetry::LogFormat::Json,
    };
    init_logs(format, &operations.log_filter)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(&loaded));
    // Whatever is left has been given its time.
    runtime.shutdown_background();
    outcome
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

async fn serve(loaded: &Loaded) -> Result<(), Error> {
    // Before anything else, so that a signal during a long start is not lost.
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    tokio::pin!(stop);

    let services = tokio::select! {
        services = Services::start(loaded) => services?,
        name = &mut stop => {
            tracing::info!(signal = name, "stopped before the start was complete");
            return Ok(());
        }
    };
    say("ready")?;
    tracing::info!("ready");

    let name = stop.await;
    tracing::info!(signal = name, "stopping");
    let patience = Duration::from_millis(loaded.settings.operations.shutdown_timeout_ms);
    tokio::time::timeout(patience, services.shutdown()).await.map_err(|_| Error::Stop(patience))?;
    tracing::info!("stopped");
    Ok(())
}

/// One line on standard output, at once.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

impl Error {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Logs(_) => 2,
            Self::Start(_) | Self::Stop(_) | Self::Io(_) => 1,
        }
    }
}
