//! Bytes of answers that clients have not taken yet, over all connections of a listener.
//!
//! An answer is encoded when it is ready, whether or not its client is there to read it. One connection is bounded by itself; this is
//! for ten thousand of them, each with one large answer that nobody takes. Beyond the limit no connection begins another request, until
//! clients have taken some of theirs, or were closed for not taking any.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Unsent {
    bytes: AtomicUsize,
    bytes_max: usize,
    room: Notify,
}

/// What one connection adds to it. Taken away when dropped.
#[derive(Debug)]
pub(super) struct UnsentShare {
    all: Arc<Unsent>,
    bytes: usize,
}

impl Unsent {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), bytes_max: bytes_max.max(1), room: Notify::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    pub(super) async fn until_room(self: Arc<Self>) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // From here on no notice is missed, so that looking after it is safe.
            room.as_mut().enable();
            if !self.is_full() {
                return;
            }
            room.await;
        }
    }

    fn change(&self, from: usize, to: usize) {
        if to > from {
            self.bytes.fetch_add(to - from, Ordering::SeqCst);
        } else if from > to {
            let before = self.bytes.fetch_sub(from - to, Ordering::SeqCst);
            let after = before - (from - to);
            if before >= self.bytes_max && after < self.bytes_max {
                self.room.notify_waiters();
            }
        }
    }
}

impl UnsentShare {
    pub(super) fn new(all: Arc<Unsent>) -> Self {
        Self { all, bytes: 0 }
    }

    /// So many bytes wait for this client now.
    pub(super) fn set(&mut self, bytes: usize) {
        self.all.change(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for UnsentShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn beyond_the_limit_others_wait_until_something_is_taken_or_a_connection_goes() {
        let all = Arc::new(Unsent::new(100));
        let mut first = UnsentShare::new(Arc::clone(&all));
        let mut second = UnsentShare::new(Arc::clone(&all));
        first.set(60);
        assert!(!all.is_full());
        second.set(40);
        assert!(all.is_full());
        let mut wait = Box::pin(Arc::clone(&all).until_room());
        let context = &mut Context::from_waker(Waker::noop());
        assert_eq!(wait.as_mut().poll(context), Poll::Pending);

        first.set(70);
        assert_eq!(wait.as_mut().poll(context), Poll::Pending);
        drop(first);
        assert_eq!(wait.as_mut().poll(context), Poll::Ready(()));
        second.set(0);
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }
}
