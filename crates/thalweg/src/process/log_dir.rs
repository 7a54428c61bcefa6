//! Opening the log directory as the settings say.

use std::io;
use std::path::Path;
use std::sync::Arc;

use thalweg_broker::LogEvents;
use thalweg_settings::Settings;
use thalweg_storage::{LogDir, LogDirOptions, Reserve};

use super::data_dir::DataDirError;
use super::error::StartError;
use super::machine::Machine;

/// Recovers what the last life left, on a thread that may wait for the disk.
pub(super) async fn open(
    settings: &Settings,
    logs: &Path,
    machine: &Machine,
    events: Arc<LogEvents>,
) -> Result<Arc<LogDir>, StartError> {
    let mut options = LogDirOptions::new(
        logs.to_owned(),
        Arc::clone(&machine.fs),
        Arc::clone(&machine.clock),
        Arc::clone(&machine.random),
        events,
    );
    options.journal_file_bytes = settings.broker.journal.file_bytes;
    options.journal_bytes_max = settings.broker.journal.space_bytes_max;
    options.tail_bytes_max = settings.broker.tail_bytes_max;
    options.reserve = reserve(settings);
    let opened = tokio::task::spawn_blocking(move || LogDir::open(options)).await;
    let log_dir =
        opened.map_err(io::Error::other)?.map_err(|error| DataDirError::not_opened(logs, error))?;
    for suspect in log_dir.suspects() {
        tracing::error!(partition = %suspect.name, reason = suspect.reason, "partition is damaged and not served");
    }
    Ok(Arc::new(log_dir))
}

fn reserve(settings: &Settings) -> Reserve {
    let broker = &settings.broker;
    let segments_bytes = u64::from(broker.log.segment_bytes).saturating_mul(2);
    let bytes_min = segments_bytes.saturating_add(broker.journal.space_bytes_max);
    match u64::try_from(broker.disk_reserve_bytes) {
        Ok(bytes) => Reserve::Bytes(bytes),
        Err(_automatic) => Reserve::Automatic { bytes_min },
    }
}
