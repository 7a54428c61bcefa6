//! Memory for requests, one budget for all connections of a listener.
//!
//! ```text
//!  a request's bytes:  0 ......... 16 KiB ............. half the budget in use ............. budget ......... one request more
//!                      not counted  taken as a whole     taken as they arrive, doubling       waits in line    overdraft
//! ```
//!
//! A request takes its share while it arrives and gives it back when it has been answered. Whoever finds nothing left is not read from
//! until it is its turn, in the order of asking: to the client its socket is full, and nothing is an error. A length that is merely
//! announced takes nothing of a scarce budget; bytes that have come do.
//!
//! Requests that are here in part could wait for each other for ever. So one of them at a time may go over the budget, until it is
//! answered: all memory together is the budget, one request of the largest size, and the first 16 KiB of every connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests up to here, and with them nearly all but large produce requests, cost no accounting.
pub(super) const UNCOUNTED_BYTES_MAX: usize = 16 * 1024;

/// First share of a long request, or of any when memory is scarce. It doubles as the bytes arrive.
const FIRST_BYTES: usize = 64 * 1024;

/// Requests up to here get their whole share at once while memory is plenty.
const WHOLE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct RequestMemory {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
    overdraft: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// What one request has of the budget. Given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    bytes: usize,
    /// None when it holds nothing of the budget.
    counted: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedSemaphorePermit>,
}

/// What a wait for memory ended with.
#[derive(Debug)]
pub(super) struct Granted(Share);

/// Counts one connection as waiting while it lives.
#[derive(Debug)]
struct Waiting<'a>(&'a AtomicUsize);

impl RequestMemory {
    pub(super) fn new(bytes_max: usize) -> Self {
        // Permits are asked for in 32 bits.
        let bytes_max = bytes_max.clamp(FIRST_BYTES, u32::MAX as usize);
        Self {
            bytes: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
            overdraft: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether somebody waits for memory.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How many bytes a request of `declared` bytes, of which `arrived` are here, should have a share for next.
    fn next_bytes(&self, declared: usize, arrived: usize) -> usize {
        let in_use = self.bytes_max.saturating_sub(self.bytes.available_permits());
        if declared <= WHOLE_BYTES_MAX && in_use + declared <= self.bytes_max / 2 {
            return declared;
        }
        (2 * arrived).max(FIRST_BYTES).min(declared)
    }

    /// Lets `share` grow for the next bytes of a request, if that needs no waiting; otherwise says how much it lacks.
    pub(super) fn grow(
        &self,
        share: &mut Share,
        declared: usize,
        arrived: usize,
    ) -> Result<(), usize> {
        let more = self.next_bytes(declared, arrived).saturating_sub(share.bytes).max(1);
        match Arc::clone(&self.bytes).try_acquire_many_owned(permits(more)) {
            Ok(permit) => {
                share.add(Granted::counted(more, permit));
                Ok(())
            }
            Err(_) => Err(more),
        }
    }

    /// Waits in line for `more` bytes. A request that is here in part, and so has a share already, may also go over the budget when
    /// nobody else does.
    pub(super) async fn wait(self: Arc<Self>, more: usize, is_begun: bool) -> Granted {
        let _waiting = Waiting::new(&self.waiting);
        let more = more.min(self.bytes_max);
        let counted = Arc::clone(&self.bytes).acquire_many_owned(permits(more));
        if !is_begun {
            return Granted::counted(more, counted.await.expect("never closed"));
        }
        tokio::select! {
            counted = counted => Granted::counted(more, counted.expect("never closed")),
            overdraft = Arc::clone(&self.overdraft).acquire_owned() => {
                // Good for the whole request, however long.
                let overdraft = Some(overdraft.expect("never closed"));
                Granted(Share { bytes: usize::MAX, counted: None, overdraft })
            }
        }
    }
}

impl Share {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, granted: Granted) {
        let Granted(more) = granted;
        self.bytes = self.bytes.saturating_add(more.bytes);
        match (&mut self.counted, more.counted) {
            (Some(permit), Some(more)) => permit.merge(more),
            (counted @ None, more) => *counted = more,
            (Some(_), None) => {}
        }
        self.overdraft = self.overdraft.take().or(more.overdraft);
    }
}

impl Granted {
    fn counted(bytes: usize, permit: OwnedSemaphorePermit) -> Self {
        Self(Share { bytes, counted: Some(permit), overdraft: None })
    }
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;

    fn is_granted(wait: &mut Pin<Box<impl Future<Output = Granted>>>) -> Option<Granted> {
        match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(granted) => Some(granted),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn plenty_gives_all_of_a_usual_request_and_scarcity_what_has_arrived() {
        let memory = RequestMemory::new(4 * MIB);
        let (mut first, mut second, mut third) =
            (Share::default(), Share::default(), Share::default());
        memory.grow(&mut first, MIB, 0).unwrap();
        memory.grow(&mut second, MIB, 0).unwrap();
        assert_eq!((first.bytes(), second.bytes()), (MIB, MIB));

        memory.grow(&mut third, MIB, 0).unwrap();
        assert_eq!(third.bytes(), FIRST_BYTES);
        memory.grow(&mut third, MIB, FIRST_BYTES).unwrap();
        assert_eq!(third.bytes(), 2 * FIRST_BYTES);
        drop((first, second, third));
        assert_eq!(memory.bytes.available_permits(), 4 * MIB);
    }

    #[test]
    fn whoever_waits_is_served_in_order_and_nobody_overtakes() {
        let memory = Arc::new(RequestMemory::new(FIRST_BYTES));
        let mut holder = Share::default();
        memory.grow(&mut holder, FIRST_BYTES, 0).unwrap();
        let mut first = Box::pin(Arc::clone(&memory).wait(FIRST_BYTES, false));
        let mut second = Box::pin(Arc::clone(&memory).wait(1, false));
        assert!(is_granted(&mut first).is_none());
        assert!(is_granted(&mut second).is_none());
        assert!(memory.is_short());

        drop(holder);
        assert!(is_granted(&mut second).is_none());
        assert!(memory.grow(&mut Share::default(), 1, 0).is_err());
        let granted = is_granted(&mut first).unwrap();
        assert!(is_granted(&mut second).is_none());
        drop(granted);
        drop(is_granted(&mut second).unwrap());
        assert!(!memory.is_short());
    }

    #[test]
    fn requests_that_are_here_in_part_finish_one_after_the_other() {
        let memory = Arc::new(RequestMemory::new(2 * FIRST_BYTES));
        let mut shares = [Share::default(), Share::default()];
        for share in &mut shares {
            memory.grow(share, MIB, 0).unwrap();
        }
        let lacks = memory.grow(&mut shares[0], MIB, FIRST_BYTES).unwrap_err();
        let mut waits: Vec<_> =
            (0..2).map(|_| Box::pin(Arc::clone(&memory).wait(lacks, true))).collect();

        // The first goes over the budget, the second does not.
        shares[0].add(is_granted(&mut waits[0]).unwrap());
        assert_eq!(shares[0].bytes(), usize::MAX);
        assert!(is_granted(&mut waits[1]).is_none());
        let [first, _second] = shares;
        drop(first);
        assert!(is_granted(&mut waits[1]).is_some());
    }

    #[test]
    fn a_wait_that_is_given_up_takes_nothing_with_it() {
        let memory = Arc::new(RequestMemory::new(FIRST_BYTES));
        let mut holder = Share::default();
        memory.grow(&mut holder, FIRST_BYTES, 0).unwrap();
        let mut wait = Box::pin(Arc::clone(&memory).wait(FIRST_BYTES, false));
        assert!(is_granted(&mut wait).is_none());
        drop(wait);
        assert!(!memory.is_short());
        drop(holder);
        assert_eq!(memory.bytes.available_permits(), FIRST_BYTES);
    }
}
