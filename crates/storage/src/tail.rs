//! The newest batches of a log, in memory: the received bytes themselves.
//!
//! Readers that keep up are served from here without touching a file. A batch must stay until it is in its segment; then it may stay
//! as long as the dir's memory budget allows. The budget is shared by all logs of the dir and counts whole buffers: a slice that keeps
//! a much larger buffer alive is copied into one of its own size.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use thalweg_log_core::Placement;
use thalweg_record::BatchHeader;
use thalweg_types::{Offset, Timestamp};

/// A buffer with more spare room than this is not kept for the sake of its batch.
const SPARE_BYTES_MAX: usize = 4096;

/// Memory of all tails of a dir, and how much of it waits for its segment.
#[derive(Debug, Default)]
pub(crate) struct TailBudget {
    bytes: AtomicU64,
    unwritten_bytes: AtomicU64,
}

/// One log's newest batches, oldest first, without gaps.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    batches: VecDeque<TailBatch>,
    /// How many from the front are in their segments.
    written: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct TailBatch {
    pub(crate) bytes: Bytes,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) placement: Placement,
    /// Where its frame is in the journal's stream.
    pub(crate) journal_position: u64,
}

impl TailBudget {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes.load(Ordering::Relaxed)
    }
}

impl TailBatch {
    pub(crate) fn new(
        bytes: Bytes,
        header: &BatchHeader,
        placement: Placement,
        journal_position: u64,
    ) -> Self {
        Self {
            bytes,
            base_offset: header.base_offset,
            next_offset: header.next_offset(),
            max_timestamp: header.max_timestamp,
            placement,
            journal_position,
        }
    }
}

/// The batch as it is kept: its own buffer, or a copy when that is much larger than the batch.
pub(crate) fn into_kept(batch: BytesMut) -> Bytes {
    if batch.capacity() > batch.len() + SPARE_BYTES_MAX.max(batch.len() / 4) {
        Bytes::copy_from_slice(&batch)
    } else {
        batch.freeze()
    }
}

impl Tail {
    pub(crate) fn push(&mut self, batch: TailBatch, budget: &TailBudget) {
        let bytes = batch.bytes.len() as u64;
        budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        budget.unwritten_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.batches.push_back(batch);
    }

    /// The batches that hold `from` and what follows; `None` when `from` is older than the tail or at its end.
    pub(crate) fn from(&self, from: Offset) -> Option<impl Iterator<Item = &TailBatch>> {
        let first = self.batches.front()?;
        if from < first.base_offset || self.batches.back()?.next_offset <= from {
            return None;
        }
        let at = self.batches.partition_point(|batch| batch.next_offset <= from);
        Some(self.batches.range(at..))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TailBatch> {
        self.batches.iter()
    }

    /// The batches that are not in their segments yet.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &TailBatch> {
        self.batches.range(self.written..)
    }

    /// The next `count` batches are in their segments now.
    pub(crate) fn mark_written(&mut self, count: usize, budget: &TailBudget) {
        let end = self.written + count;
        let bytes: u64 = self.batches.range(self.written..end).map(|b| b.bytes.len() as u64).sum();
        budget.unwritten_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.written = end;
    }

    /// Lets go of written batches whose journal position is below `position`.
    pub(crate) fn evict_below(&mut self, position: u64, budget: &TailBudget) {
        while self.written > 0
            && let Some(batch) = self.batches.pop_front_if(|b| b.journal_position < position)
        {
            self.written -= 1;
            budget.bytes.fetch_sub(batch.bytes.len() as u64, Ordering::Relaxed);
        }
    }

    /// Lets go of written batches that end at or below `offset`.
    pub(crate) fn evict_below_offset(&mut self, offset: Offset, budget: &TailBudget) {
        while self.written > 0
            && let Some(batch) = self.batches.pop_front_if(|b| b.next_offset <= offset)
        {
            self.written -= 1;
            budget.bytes.fetch_sub(batch.bytes.len() as u64, Ordering::Relaxed);
        }
    }

    /// Lets go of the batches that reach past `offset`, all of which are written.
    pub(crate) fn truncate(&mut self, offset: Offset, budget: &TailBudget) {
        while let Some(batch) = self.batches.pop_back_if(|b| b.next_offset > offset) {
            budget.bytes.fetch_sub(batch.bytes.len() as u64, Ordering::Relaxed);
        }
        self.written = self.written.min(self.batches.len());
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self, budget: &TailBudget) {
        let unwritten: u64 = self.unwritten().map(|batch| batch.bytes.len() as u64).sum();
        let all: u64 = self.batches.iter().map(|batch| batch.bytes.len() as u64).sum();
        budget.unwritten_bytes.fetch_sub(unwritten, Ordering::Relaxed);
        budget.bytes.fetch_sub(all, Ordering::Relaxed);
        self.batches.clear();
        self.written = 0;
    }
}
