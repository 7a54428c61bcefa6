//! One of several data directories on a shared disk.
//!
//! Containers of one service that is scaled have one volume among them, and nothing but their host names tells them apart, which are new
//! whenever they are made anew. So a path may leave its number open: `/var/lib/thalweg/broker-{n}` is the first of `broker-1`, `broker-2`, ...
//! that no other process has. Whoever comes back takes up what is there, and only whoever finds every directory taken makes a new one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::DataDirError;

/// What stands for the number.
const OPEN_NUMBER: &str = "{n}";

/// Held, with a lock, by the process that has the directory. The lock ends with the process, however it ends.
const LOCK_FILE: &str = "in-use";

/// More processes than anybody runs on one disk.
const NUMBER_MAX: u32 = 1000;

/// A data directory that is this process's for as long as the value lives.
#[derive(Debug)]
pub(in crate::process) struct Slot {
    pub(in crate::process) path: PathBuf,
    _lock: Option<File>,
}

impl Slot {
    /// `path` itself when it leaves nothing open; otherwise the first directory that is free, which is made when there is none. Waits for
    /// the disk.
    pub(in crate::process) fn claim(path: &Path) -> Result<Self, DataDirError> {
        let Some(pattern) = path.to_str().filter(|path| path.contains(OPEN_NUMBER)) else {
            return Ok(Self { path: path.to_owned(), _lock: None });
        };
        for number in 1..=NUMBER_MAX {
            let path = PathBuf::from(pattern.replace(OPEN_NUMBER, &number.to_string()));
            if let Some(lock) = lock(&path).map_err(|error| super::unusable(&path, error))? {
                tracing::info!(path = %path.display(), "data directory taken");
                return Ok(Self { path, _lock: Some(lock) });
            }
        }
        Err(DataDirError::NoneFree { pattern: path.to_owned(), tried: NUMBER_MAX })
    }
}

/// `None`: another process has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    std::fs::create_dir_all(path)?;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK_FILE))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_an_open_number_is_taken_as_it_is() {
        let slot = Slot::claim(Path::new("/nowhere/broker-1")).expect("claimed");
        assert_eq!(slot.path, Path::new("/nowhere/broker-1"));
    }

    #[test]
    fn whoever_comes_back_takes_up_what_was_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let pattern = dir.path().join("broker-{n}");
        let claim = || Slot::claim(&pattern).expect("claimed");
        let (first, second, third) = (claim(), claim(), claim());
        let name = |slot: &Slot| slot.path.strip_prefix(dir.path()).expect("inside").to_owned();
        assert_eq!(
            [&first, &second, &third].map(name),
            ["broker-1", "broker-2", "broker-3"].map(PathBuf::from)
        );
        std::fs::write(second.path.join("mine"), "kept").expect("written");

        drop(second);
        let again = claim();
        assert_eq!(name(&again), Path::new("broker-2"));
        assert_eq!(std::fs::read_to_string(again.path.join("mine")).expect("there"), "kept");
        assert_eq!(name(&claim()), Path::new("broker-4"));
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_said_so() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("broker-1"), "a file in the way").expect("written");
        let error = Slot::claim(&dir.path().join("broker-{n}")).expect_err("refused");
        assert!(error.to_string().contains("broker-1"), "{error}");
    }
}
