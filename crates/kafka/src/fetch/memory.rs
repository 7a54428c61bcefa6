//! Memory for the records of answers that their readers have not taken yet, one budget for all of them.
//!
//! An answer takes what it needs when its records are found, and gives it back piece by piece as it is sent. A reader that does not
//! read keeps its part; so the more is taken, the less one answer may be: a quarter of what is left above a reserve, and within
//! the reserve some tens of kilobytes or one batch. Readers that ask for little are served from the reserve while those who ask for
//! much fill up the rest. When nothing is left, answers wait in the order in which they became ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one answer may always hold, if there is anything at all. A batch larger than this is sent whole, too.
const ALLOWANCE_MIN_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct FetchMemory {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    waiting: AtomicUsize,
}

/// Memory is given back in parts of about this size, so that an answer of very many small batches costs no more than one of large ones.
const PART_BYTES: usize = 64 * 1024;

/// The memory of one answer.
#[derive(Debug, Default)]
pub struct Lease {
    permit: Option<OwnedSemaphorePermit>,
    /// Bytes of pieces whose part the next larger one will carry.
    untied_bytes: usize,
}

/// A piece of an answer with a part of the memory: its own and that of the pieces before it.
struct Leased {
    bytes: Bytes,
    _part: Option<OwnedSemaphorePermit>,
}

impl FetchMemory {
    pub fn new(bytes_max: usize) -> Self {
        // Permits are asked for in 32 bits.
        let bytes_max = bytes_max.clamp(4 * ALLOWANCE_MIN_BYTES, u32::MAX as usize);
        let bytes = Arc::new(Semaphore::new(bytes_max));
        Self { bytes, bytes_max, waiting: AtomicUsize::new(0) }
    }

    /// Whether answers wait until others have been sent.
    pub fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How large an answer may be now.
    pub fn allowance(&self) -> usize {
        let reserve = self.bytes_max / 4;
        let above = self.bytes.available_permits().saturating_sub(reserve);
        (above / 4).max(ALLOWANCE_MIN_BYTES)
    }

    /// Takes memory for an answer if there is some at once, and nobody waits for it.
    pub fn try_take(&self, bytes: usize) -> Option<Lease> {
        if bytes == 0 {
            return Some(Lease::default());
        }
        let permits = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes).try_acquire_many_owned(permits).ok().map(Lease::of)
    }

    /// Takes memory for an answer, waiting in line if there is none.
    pub async fn take(&self, bytes: usize) -> Lease {
        if bytes == 0 {
            return Lease::default();
        }
        if let Some(lease) = self.try_take(bytes) {
            return lease;
        }
        // A single batch may be larger than the whole budget: it takes all of it.
        let permits = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(permits).await;
        Lease::of(permit.expect("never closed"))
    }
}

/// Whoever gives up waiting is not counted any more.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease {
    fn of(permit: OwnedSemaphorePermit) -> Self {
        Self { permit: Some(permit), untied_bytes: 0 }
    }

    /// Ties the part of `bytes`, and of the pieces before that are not tied yet, to `bytes` if it is worth it: it is given back when the
    /// last handle on them is dropped.
    pub fn tie(&mut self, bytes: Bytes) -> Bytes {
        self.untied_bytes += bytes.len();
        let Some(permit) = &mut self.permit else { return bytes };
        if self.untied_bytes < PART_BYTES {
            return bytes;
        }
        let part = permit.split(self.untied_bytes).or_else(|| self.permit.take());
        self.untied_bytes = 0;
        Bytes::from_owner(Leased { bytes, _part: part })
    }

    /// Ties all that is left to the last piece.
    pub fn tie_rest(&mut self, last: &mut Bytes) {
        if let Some(permit) = self.permit.take() {
            let bytes = std::mem::take(last);
            *last = Bytes::from_owner(Leased { bytes, _part: Some(permit) });
        }
    }
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[tokio::test]
    async fn the_more_is_taken_the_less_one_answer_may_be_and_small_ones_still_fit() {
        let memory = FetchMemory::new(64 * MIB);
        assert_eq!(memory.allowance(), 12 * MIB);
        let mut greedy = Vec::new();
        for _ in 0..100 {
            let allowance = memory.allowance();
            if allowance == ALLOWANCE_MIN_BYTES {
                break;
            }
            greedy.push(memory.take(allowance).await);
        }
        // The reserve is whole, but for the last of the greedy.
        assert!(memory.bytes.available_permits() > 15 * MIB);
        let small = memory.take(1000).await;
        assert!(!memory.is_short());
        drop((greedy, small));
        assert_eq!(memory.bytes.available_permits(), 64 * MIB);
    }

    #[tokio::test]
    async fn an_answer_gives_back_its_memory_as_it_is_sent() {
        let piece = |bytes| Bytes::from(vec![7; bytes]);
        let memory = FetchMemory::new(MIB);
        let left = || memory.bytes.available_permits();
        let mut lease = memory.take(PART_BYTES + 5000).await;
        let first = lease.tie(piece(1000));
        let second = lease.tie(piece(PART_BYTES));
        let third = lease.tie(piece(3000));
        let mut fourth = lease.tie(piece(1000));
        lease.tie_rest(&mut fourth);
        drop(lease);
        assert_eq!((second.len(), &fourth[..]), (PART_BYTES, &[7; 1000][..]));
        assert_eq!(left(), MIB - PART_BYTES - 5000);

        drop(first);
        assert_eq!(left(), MIB - PART_BYTES - 5000);
        let kept = second.slice(10..20);
        drop((second, third));
        assert_eq!(left(), MIB - PART_BYTES - 5000);
        drop(kept);
        assert_eq!(left(), MIB - 4000);
        drop(fourth);
        assert_eq!(left(), MIB);
    }

    #[tokio::test]
    async fn more_than_was_foreseen_is_sent_without_a_part() {
        let memory = FetchMemory::new(MIB);
        let mut lease = memory.take(1000).await;
        let whole = lease.tie(Bytes::from(vec![7; PART_BYTES]));
        let mut more = lease.tie(Bytes::from(vec![7; PART_BYTES]));
        lease.tie_rest(&mut more);
        assert_eq!((whole.len(), more.len()), (PART_BYTES, PART_BYTES));
        drop(whole);
        assert_eq!(memory.bytes.available_permits(), MIB);
    }

    #[tokio::test]
    async fn without_memory_answers_wait_in_order_and_none_is_too_large_for_ever() {
        let memory = Arc::new(FetchMemory::new(MIB));
        let all = memory.take(100 * MIB).await;
        let wait = |bytes| {
            let memory = Arc::clone(&memory);
            tokio::spawn(async move { memory.take(bytes).await })
        };
        let first = wait(MIB);
        tokio::task::yield_now().await;
        let second = wait(1);
        tokio::task::yield_now().await;
        assert!(memory.is_short());
        assert!(!first.is_finished() && !second.is_finished());

        drop(all);
        let first = first.await.unwrap();
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap());
        assert!(!memory.is_short());
    }
}
