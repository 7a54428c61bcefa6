//! Logs, metrics and the operations listener.
//!
//! What operators see of a process: log lines on standard error ([`init_logs`]), figures in a [`Registry`], and an HTTP listener
//! ([`ops::serve`]) with `/metrics`, `/healthz` and `/readyz`. Services make their metric handles once, when they start, and only
//! add to atomics afterwards; nothing here looks a metric up by name while the process works.

pub mod ops;

mod logs;
mod process;
mod readiness;
mod registry;

pub use logs::{InitLogsError, LogFormat, init_logs};
pub use readiness::{Check, Readiness};
pub use registry::Registry;
