//! Cutting a log back, as a plan: what goes, where the cut lies, and how the producer states before it are found again.
//!
//! Truncation is the one way in which a log loses what was appended, so the plan is refused where it would lose what was committed,
//! unless an unclean election has said so (R2, guard G-HW).

use thalweg_types::Offset;

use crate::offsets::LogOffsets;
use crate::segment::SegmentFacts;

/// What cutting a log takes. Whoever executes it does so in this order: delete the segments of `delete`, newest first, and all producer
/// snapshots above the cut; cut `cut`; rebuild the producer states; then report what is left with
/// [`PartitionLog::truncate`](crate::PartitionLog::truncate).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TruncationPlan {
    /// Base offsets of the segments that go wholly, oldest first.
    pub delete: Vec<Offset>,
    pub cut: Cut,
    /// The newest producer snapshot to restore, by its log end offset; `None` to begin without producers.
    pub producer_snapshot: Option<Offset>,
    /// The batches from here to the cut are then applied to the producer states.
    pub producer_replay_from: Offset,
    /// Whether committed records may go.
    pub unclean: bool,
}

/// Where the segment that becomes the active one is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub segment_base_offset: Offset,
    /// The first batch that reaches this offset goes, with all after it.
    pub offset: Offset,
}

/// Why a log must not be cut there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TruncateError {
    #[error("cutting at {at} would lose records committed up to {high_watermark}")]
    Committed { at: Offset, high_watermark: Offset },
    #[error("cannot cut at {at}, the log starts at {log_start}")]
    BelowLogStart { at: Offset, log_start: Offset },
}

/// Plans the cut of a log at `at`; `None` when it ends there already. `snapshots` are the offsets of the producer snapshots at hand, in
/// any order.
pub(crate) fn plan(
    segments: &[SegmentFacts],
    offsets: &LogOffsets,
    at: Offset,
    snapshots: &[Offset],
    unclean: bool,
) -> Result<Option<TruncationPlan>, TruncateError> {
    if at >= offsets.log_end() {
        return Ok(None);
    }
    if at < offsets.log_start() {
        return Err(TruncateError::BelowLogStart { at, log_start: offsets.log_start() });
    }
    if at < offsets.high_watermark() && !unclean {
        let high_watermark = offsets.high_watermark();
        return Err(TruncateError::Committed { at, high_watermark });
    }
    let kept = segments.partition_point(|segment| segment.base_offset <= at).max(1);
    let first_base_offset = segments[0].base_offset;
    let producer_snapshot = snapshots.iter().copied().filter(|snapshot| *snapshot <= at).max();
    Ok(Some(TruncationPlan {
        delete: segments[kept..].iter().map(|segment| segment.base_offset).collect(),
        cut: Cut { segment_base_offset: segments[kept - 1].base_offset, offset: at },
        producer_snapshot,
        producer_replay_from: producer_snapshot
            .map_or(first_base_offset, |s| s.max(first_base_offset)),
        unclean,
    }))
}
