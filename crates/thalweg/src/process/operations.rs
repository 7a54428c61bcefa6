//! What operators are told: where it listens, how it is, what it counts.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thalweg_settings::Settings;
use thalweg_telemetry::ops::{self, OpsHandle};

use super::error::StartError;
use super::machine::Machine;

/// The operations listener, first to come and last to go.
pub(super) struct Operations {
    handle: OpsHandle,
    stopping: Arc<AtomicBool>,
}

impl Operations {
    /// Serves from now on; the process counts as not ready until [`Self::started`].
    pub(super) async fn serve(settings: &Settings, machine: &Machine) -> Result<Self, StartError> {
        let address = settings.operations.address;
        let stopping = Arc::new(AtomicBool::new(false));
        machine.readiness.check("started", || Err("the services are starting".to_owned()));
        let flag = Arc::clone(&stopping);
        machine.readiness.check("running", move || match flag.load(Ordering::Acquire) {
            true => Err("the services are stopping".to_owned()),
            false => Ok(()),
        });
        let served = ops::serve(address, Arc::clone(&machine.registry), machine.readiness.clone());
        let handle =
            served.await.map_err(|source| StartError::Listen { what: "HTTP", address, source })?;
        Ok(Self { handle, stopping })
    }

    /// Told last, when all other listeners have been.
    pub(super) fn say_address(&self) -> io::Result<()> {
        say(&format!("http listening on {}", self.handle.local_address()))
    }

    /// Nothing of the start is left to do.
    pub(super) fn started(machine: &Machine) {
        machine.readiness.check("started", || Ok(()));
    }

    /// Not ready from now on.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) async fn shutdown(self) {
        self.handle.shutdown().await;
    }
}

/// One line on standard output, at once.
pub(super) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
