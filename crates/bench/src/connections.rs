//! Several connections at once: each has a thread, all begin together, and what they moved is added up.

use std::sync::Barrier;
use std::thread;

use crate::error::Error;
use crate::figures::{Figures, Meter, Tally};

/// A connection that is ready waits for the others. Dropped instead, it lets them go all the same, so that one connection's failure
/// does not leave the others waiting.
pub(crate) struct Start<'a> {
    barrier: &'a Barrier,
    gone: bool,
}

impl Start<'_> {
    /// Blocks until every connection is ready.
    pub(crate) fn go(mut self) {
        self.gone = true;
        self.barrier.wait();
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        if !self.gone {
            self.barrier.wait();
        }
    }
}

/// Runs `work` for each connection, by its number from 0. The clock starts when all are ready and ends with the last of them. The first error,
/// by that number, is the error of all.
pub(crate) fn run(
    count: u32,
    server_pid: Option<u32>,
    work: impl Fn(u32, Start<'_>) -> Result<Tally, Error> + Sync,
) -> Result<Figures, Error> {
    let barrier = Barrier::new(count as usize + 1);
    thread::scope(|scope| {
        let running: Vec<_> = (0..count)
            .map(|index| {
                let start = Start { barrier: &barrier, gone: false };
                let work = &work;
                scope.spawn(move || work(index, start))
            })
            .collect();
        barrier.wait();
        let meter = Meter::start(server_pid);
        let mut total = Tally::default();
        let mut failed = None;
        for connection in running {
            match connection.join() {
                Ok(Ok(tally)) => total.add(tally),
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failed.map_or_else(|| Ok(meter.end(total)), Err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_connections_moved_is_added_up() {
        let figures = run(3, None, |index, start| {
            start.go();
            Ok(Tally { records: 1, bytes: u64::from(index), ..Tally::default() })
        });
        let figures = figures.expect("no connection failed");
        assert_eq!((figures.tally.records, figures.tally.bytes), (3, 3));
    }

    #[test]
    fn a_connection_that_fails_before_the_start_ends_the_run_with_its_error() {
        let outcome = run(3, None, |index, start| {
            if index == 1 {
                return Err(Error::NothingToSend);
            }
            start.go();
            Ok(Tally::default())
        });
        assert!(matches!(outcome, Err(Error::NothingToSend)));
    }
}
