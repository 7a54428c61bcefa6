//! Log lines on standard error.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{
    Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured when standard error is a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitLogsError {
    #[error("log filter {filter:?}: {source}")]
    Filter { filter: String, source: ParseError },
    #[error("logs were set up already")]
    Twice(#[from] TryInitError),
}

/// Sends the events of the whole process that pass `filter` (`info`, or `info,thalweg_storage=debug`) to standard error.
///
/// # Errors
/// A filter that does not parse, or a second call.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), InitLogsError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| InitLogsError::Filter { filter: filter.to_owned(), source })?;
    let lines = match format {
        LogFormat::Text => {
            fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).boxed()
        }
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_ansi(false).with_writer(stderr).boxed()
        }
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(())
}
