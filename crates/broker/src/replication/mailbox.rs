//! Things gathered by many for one task, which takes them all at once.
//!
//! Putting never waits and may happen under a partition's lock, on any thread. There is no bound here: each use puts at most one thing for
//! each partition until it is taken.

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    items: Mutex<Vec<T>>,
    filled: Notify,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), filled: Notify::new() }
    }
}

impl<T> Mailbox<T> {
    pub(crate) fn put(&self, item: T) {
        self.items.lock().push(item);
        self.filled.notify_one();
    }

    /// Lets whoever waits look again: one that does not wait any more may have been told instead.
    pub(crate) fn nudge(&self) {
        self.filled.notify_one();
    }

    /// Everything there is, in the order in which it was put; waits until there is something. For one task at a time.
    pub(crate) async fn take(&self) -> Vec<T> {
        loop {
            let items = self.take_now();
            if !items.is_empty() {
                return items;
            }
            self.filled.notified().await;
        }
    }

    /// Returns when there may be something. For one task at a time.
    pub(crate) async fn filled(&self) {
        if self.items.lock().is_empty() {
            self.filled.notified().await;
        }
    }

    /// Everything there is, which may be nothing.
    pub(crate) fn take_now(&self) -> Vec<T> {
        std::mem::take(&mut *self.items.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_put_before_and_while_somebody_waits_is_taken_in_order() {
        let mailbox = Mailbox::default();
        mailbox.put(1);
        mailbox.put(2);
        assert_eq!(mailbox.take().await, [1, 2]);
        let (taken, ()) = tokio::join!(mailbox.take(), async { mailbox.put(3) });
        assert_eq!(taken, [3]);
        assert!(mailbox.take_now().is_empty());
    }
}
