//! The reserve: how much of the disk is left free, and who may still write below it.
//!
//! What was accepted must find its way into segments, and deletions need a little room too. So nothing new is accepted once the file
//! system has less left than the reserve, long before the operating system would say no: appends are refused before anything of them is
//! written, while reads, flushes, retention and deletions go on. Logs of the system itself may use half of the reserve, so that users'
//! records cannot stop them. The disk may run full all the same (other programs write there too); a write that finds no space counts like
//! a reserve that is used up, until one succeeds.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use thalweg_env::fs::{Fs, Space};

/// The automatic reserve is at least this part of the file system, and at most that one.
const AUTOMATIC_PERCENT: u64 = 2;
const AUTOMATIC_PERCENT_MAX: u64 = 5;

/// Space has come back when there is this much more than the reserve, in percent of it: else every deleted file would be news.
const BACK_PERCENT: u64 = 10;

/// How much of the file system is left free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    Bytes(u64),
    /// 2 % of the file system, but at least as many bytes as given, and at most 5 % of it.
    Automatic {
        bytes_min: u64,
    },
}

/// What is known of the room on a log dir's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    pub total_bytes: u64,
    pub available_bytes: u64,
    pub reserve_bytes: u64,
    /// Whether records and new logs are refused.
    pub is_low: bool,
}

/// The room on the disk, as last measured.
#[derive(Debug)]
pub(crate) struct Room {
    reserve: Reserve,
    total_bytes: AtomicU64,
    available_bytes: AtomicU64,
    reserve_bytes: AtomicU64,
    /// Less is available than the reserve, or than half of it.
    below_reserve: AtomicBool,
    below_half: AtomicBool,
    /// The last attempt to write something found no space.
    write_failed: AtomicBool,
    /// What was reported last.
    reported_low: AtomicBool,
}

impl Reserve {
    fn of(self, space: Space) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Automatic { bytes_min } => {
                let percent = |percent| space.total_bytes / 100 * percent;
                percent(AUTOMATIC_PERCENT).max(bytes_min).min(percent(AUTOMATIC_PERCENT_MAX))
            }
        }
    }
}

impl Room {
    pub(super) fn new(reserve: Reserve) -> Self {
        Self {
            reserve,
            total_bytes: AtomicU64::new(u64::MAX),
            available_bytes: AtomicU64::new(u64::MAX),
            reserve_bytes: AtomicU64::new(0),
            below_reserve: AtomicBool::new(false),
            below_half: AtomicBool::new(false),
            write_failed: AtomicBool::new(false),
            reported_low: AtomicBool::new(false),
        }
    }

    /// Looks at the file system. One that does not tell its size is taken for large enough.
    pub(super) fn measure(&self, fs: &dyn Fs, path: &Path) {
        let Ok(space) = fs.space(path) else { return };
        let reserve = self.reserve.of(space);
        self.total_bytes.store(space.total_bytes, Ordering::Relaxed);
        self.available_bytes.store(space.available_bytes, Ordering::Relaxed);
        self.reserve_bytes.store(reserve, Ordering::Relaxed);
        let available = space.available_bytes;
        for (flag, reserve) in [(&self.below_reserve, reserve), (&self.below_half, reserve / 2)] {
            let enough = if flag.load(Ordering::Relaxed) {
                reserve + reserve / 100 * BACK_PERCENT
            } else {
                reserve
            };
            flag.store(available < enough, Ordering::Release);
        }
    }

    /// How the last attempt to write ended.
    pub(super) fn wrote(&self, found_space: bool) {
        self.write_failed.store(!found_space, Ordering::Release);
    }

    pub(super) fn is_low(&self) -> bool {
        self.below_reserve.load(Ordering::Acquire) || self.write_failed.load(Ordering::Acquire)
    }

    /// Whether a log may be written to; one of the system itself longer than others.
    pub(crate) fn admits(&self, is_internal: bool) -> bool {
        let below = if is_internal { &self.below_half } else { &self.below_reserve };
        !below.load(Ordering::Acquire) && !self.write_failed.load(Ordering::Acquire)
    }

    /// Whether that changed since the last call, and to what.
    pub(super) fn take_change(&self) -> Option<bool> {
        let low = self.is_low();
        (self.reported_low.swap(low, Ordering::AcqRel) != low).then_some(low)
    }

    pub(super) fn space(&self) -> DiskSpace {
        DiskSpace {
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
            available_bytes: self.available_bytes.load(Ordering::Relaxed),
            reserve_bytes: self.reserve_bytes.load(Ordering::Relaxed),
            is_low: self.is_low(),
        }
    }
}

#[cfg(test)]
mod tests {
    use thalweg_env::fs::SimFs;

    use super::*;

    fn space(total_bytes: u64) -> Space {
        Space { total_bytes, available_bytes: total_bytes }
    }

    #[test]
    fn the_automatic_reserve_grows_with_the_disk_and_leaves_small_ones_usable() {
        let reserve = Reserve::Automatic { bytes_min: 1_000 };
        assert_eq!(reserve.of(space(10_000)), 500, "at most 5 %");
        assert_eq!(reserve.of(space(30_000)), 1_000, "what was asked for");
        assert_eq!(reserve.of(space(1_000_000)), 20_000, "2 %");
        assert_eq!(Reserve::Bytes(7).of(space(1)), 7);
    }

    #[test]
    fn users_stop_at_the_reserve_and_the_system_at_half_of_it_and_space_must_come_back_for_good() {
        let fs = SimFs::new(1);
        let room = Room::new(Reserve::Bytes(1_000));
        let admits = |available: u64| {
            fs.set_capacity_bytes(available);
            room.measure(&fs, Path::new("/"));
            (room.admits(false), room.admits(true), room.take_change())
        };
        assert_eq!(admits(1_000), (true, true, None));
        assert_eq!(admits(999), (false, true, Some(true)));
        assert_eq!(admits(499), (false, false, None));
        assert_eq!(admits(560), (false, true, None));
        assert_eq!(admits(1_099), (false, true, None));
        assert_eq!(admits(1_100), (true, true, Some(false)));
    }

    #[test]
    fn a_write_without_space_counts_until_one_succeeds() {
        let room = Room::new(Reserve::Bytes(0));
        room.wrote(false);
        assert_eq!((room.admits(true), room.take_change()), (false, Some(true)));
        room.wrote(true);
        assert_eq!((room.admits(false), room.take_change()), (true, Some(false)));
    }
}
