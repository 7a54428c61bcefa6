//! The positions of the local log, as its owner reports them.

use thalweg_log_core::{EpochIndex, LogOffsets};
use thalweg_types::Offset;

/// Where the local log stands. All are exclusive ends; `log_start <= high_watermark <= log_end` and `flushed_end <= log_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LogEnds {
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Everything below is covered by a successful flush here, whatever the topic's durability asks for.
    pub flushed_end: Offset,
    /// Offset the next appended record will get.
    pub log_end: Offset,
}

/// A look at the local log.
#[derive(Debug, Clone, Copy, Hash)]
pub struct LogView<'a> {
    pub ends: LogEnds,
    /// Which leader wrote what.
    pub epochs: &'a EpochIndex,
}

impl From<LogOffsets> for LogEnds {
    fn from(offsets: LogOffsets) -> Self {
        Self {
            log_start: offsets.log_start(),
            high_watermark: offsets.high_watermark(),
            flushed_end: offsets.recovery_point(),
            log_end: offsets.log_end(),
        }
    }
}
