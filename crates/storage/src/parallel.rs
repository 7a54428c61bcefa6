//! The same work for each of very many logs, by several threads: what it waits for is the disk, which serves several at a time in little
//! more time than one.

use std::io;

/// Threads at a time.
const WORKERS_MAX: usize = 16;

/// Logs that are not worth a thread of their own.
const SHARE_MIN: usize = 32;

/// How many threads to use on this machine: beyond the processors, more bring a little where the disk is waited for.
pub(crate) fn workers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.saturating_mul(4).min(WORKERS_MAX)
}

/// What `work` gives for each item, in their order. With one worker, or few items, the caller's thread does it all.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    workers: usize,
    work: impl Fn(&T) -> R + Sync,
) -> io::Result<Vec<R>> {
    let share = items.len().div_ceil(workers.max(1)).max(SHARE_MIN);
    if items.len() <= share {
        return Ok(items.iter().map(work).collect());
    }
    let work = &work;
    std::thread::scope(|scope| {
        let start = |items| {
            let named = std::thread::Builder::new().name("log-worker".to_owned());
            named.spawn_scoped(scope, move || share_of(items, work))
        };
        let started = items.chunks(share).map(start).collect::<io::Result<Vec<_>>>()?;
        let mut done = Vec::with_capacity(items.len());
        for worker in started {
            done.extend(worker.join().map_err(|_| io::Error::other("a thread panicked"))?);
        }
        Ok(done)
    })
}

fn share_of<T, R>(items: &[T], work: &impl Fn(&T) -> R) -> Vec<R> {
    items.iter().map(work).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_however_many_work() {
        let items: Vec<u32> = (0..1_000).collect();
        let expected: Vec<u32> = items.iter().map(|item| item * 3).collect();
        for workers in [0, 1, 2, 7, 2_000] {
            assert_eq!(in_parallel(&items, workers, |item| item * 3).unwrap(), expected);
        }
        assert_eq!(in_parallel(&items[..0], 4, |item| *item).unwrap(), []);
    }

    #[test]
    fn a_panic_is_an_error_of_the_whole() {
        let items: Vec<u32> = (0..100).collect();
        let done = in_parallel(&items, 2, |item| assert!(*item < 99, "on purpose"));
        assert!(done.is_err());
    }
}
