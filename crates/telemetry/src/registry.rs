//! The figures of a process, by name.

use std::fmt;

use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::registry;

use crate::process::Process;

/// First word of every metric of ours. The process's own figures carry the names every Prometheus dashboard knows (`process_...`).
const PREFIX: &str = "thalweg";

/// Holds every metric handle for `/metrics`. Registration takes a lock; counting never comes here.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<registry::Registry>,
}

impl Registry {
    /// A registry with the process's own figures in it.
    pub fn new() -> Self {
        let mut inner = registry::Registry::default();
        inner.register_collector(Box::new(Process::starting_now()));
        Self { inner: Mutex::new(inner) }
    }

    /// Lets a service make its handles and name them; every name gets the prefix `thalweg_`.
    pub fn register<T>(&self, register: impl FnOnce(&mut registry::Registry) -> T) -> T {
        register(self.inner.lock().sub_registry_with_prefix(PREFIX))
    }

    /// All figures in the OpenMetrics text format, as Prometheus reads it.
    ///
    /// # Errors
    /// A metric that cannot be written.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut body = String::new();
        text::encode(&mut body, &self.inner.lock())?;
        Ok(body)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}
