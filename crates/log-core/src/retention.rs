//! Which segments may go: by age, by the log's size, or because the log start has passed them.
//!
//! Whole segments go, oldest first, and never one that reaches above the last stable offset (I17). The active segment can go too: the
//! plan then says to begin a new one first. It also says so of an active segment that is past its age and waits for no traffic to end it.

use thalweg_types::{Offset, Timestamp};

use crate::config::LogConfig;
use crate::offsets::LogOffsets;
use crate::segment::SegmentFacts;

/// What retention does now. Empty when there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The segments to delete, oldest first: a prefix of the log's.
    pub delete: Vec<Expired>,
    /// Whether a new segment must begin at the log end first: the active one is among those that go, or past its age.
    pub roll_active: bool,
}

/// A segment that goes, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    pub base_offset: Offset,
    pub reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its newest record is older than `retention.ms`.
    Age,
    /// The log without it still has `retention.bytes`.
    Size,
    /// All of it lies below the log start.
    BelowLogStart,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty() && !self.roll_active
    }
}

/// Decides what retention does with a log of these segments, oldest first.
pub fn plan(
    segments: &[SegmentFacts],
    offsets: &LogOffsets,
    config: &LogConfig,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut size_bytes: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    for (position, segment) in segments.iter().enumerate() {
        let next = segments.get(position + 1);
        let end = next.map_or_else(|| offsets.log_end(), |next| next.base_offset);
        let is_active = next.is_none();
        if end > offsets.last_stable() || (is_active && segment.is_empty()) {
            break;
        }
        let below_log_start = end <= offsets.log_start();
        let Some(reason) = reason(segment, below_log_start, size_bytes, config, now) else { break };
        plan.delete.push(Expired { base_offset: segment.base_offset, reason });
        plan.roll_active = is_active;
        size_bytes -= segment.size_bytes;
    }
    plan
}

fn reason(
    segment: &SegmentFacts,
    below_log_start: bool,
    log_size_bytes: u64,
    config: &LogConfig,
    now: Timestamp,
) -> Option<Reason> {
    if below_log_start {
        return Some(Reason::BelowLogStart);
    }
    if !config.cleanup_policy.delete {
        return None;
    }
    if config.retention_ms.is_some_and(|limit| now.ms_since(segment.newest_timestamp()) > limit) {
        return Some(Reason::Age);
    }
    let left_bytes = log_size_bytes - segment.size_bytes;
    config.retention_bytes.is_some_and(|limit| left_bytes >= limit).then_some(Reason::Size)
}

#[cfg(test)]
mod tests;
