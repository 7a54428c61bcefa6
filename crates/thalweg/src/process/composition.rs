//! What every process does around its services: settings, logs, signals, exit code.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use thalweg_settings::{Layers, Loaded, LogFormat, Service, SettingsError};
use thalweg_telemetry::{InitLogsError, init_logs};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::error::StartError;
use super::operations::say;

/// The services of one process.
pub(super) trait Composition: Sized {
    const SERVICE: Service;

    /// Returns when what the process is for is done. Dropped before that, what was started by then stops.
    async fn start(loaded: &Loaded) -> Result<Self, StartError>;

    /// Resolves when somebody else than a signal wants the process to stop, and says who.
    fn stop_requested(&self) -> impl Future<Output = &'static str> {
        std::future::pending()
    }

    /// From the outside in: first nobody is let in any more, then what was let in is finished, then it is closed. Health and metrics are
    /// there to the end.
    async fn shutdown(self);
}

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
pub(super) fn run<C: Composition>(layers: Layers, print_config: bool) -> ExitCode {
    match load_and_serve::<C>(layers, print_config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thalweg: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn load_and_serve<C: Composition>(layers: Layers, print_config: bool) -> Result<(), Error> {
    let loaded = layers.load(C::SERVICE)?;
    if print_config {
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
    let outcome = runtime.block_on(serve::<C>(&loaded));
    // Whatever is left has been given its time.
    runtime.shutdown_background();
    outcome
}

async fn serve<C: Composition>(loaded: &Loaded) -> Result<(), Error> {
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
        services = C::start(loaded) => services?,
        name = &mut stop => {
            tracing::info!(signal = name, "stopped before the start was complete");
            return Ok(());
        }
    };
    say("ready")?;
    tracing::info!("ready");

    let why = tokio::select! {
        name = &mut stop => name,
        who = services.stop_requested() => who,
    };
    tracing::info!(why, "stopping");
    let patience = Duration::from_millis(loaded.settings.operations.shutdown_timeout_ms);
    tokio::time::timeout(patience, services.shutdown()).await.map_err(|_| Error::Stop(patience))?;
    tracing::info!("stopped");
    Ok(())
}

impl Error {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Logs(_) => 2,
            Self::Start(_) | Self::Stop(_) | Self::Io(_) => 1,
        }
    }
}
