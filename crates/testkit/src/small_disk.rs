//! A small file system of its own, for what happens when it is full.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::skip::skip;

/// An ext4 file system in a file, mounted; gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    place: TempDir,
}

impl SmallDisk {
    /// `None`, with a recorded skip of `test`, where this user may not mount anything.
    ///
    /// # Panics
    /// When the temporary directory cannot be written.
    pub fn mount(test: &str, bytes: u64) -> Option<Self> {
        let place = tempfile::tempdir().expect("a temporary directory");
        let image = place.path().join("image");
        let file = File::create(&image).expect("the temporary directory is writable");
        file.set_len(bytes).expect("the temporary directory is writable");
        let disk = Self { place };
        std::fs::create_dir(disk.path()).expect("the temporary directory is writable");
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let mounted =
            || run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()));
        if made && mounted() {
            return Some(disk);
        }
        skip(test, "no small file system: needs root, mkfs.ext4 and loop devices");
        None
    }

    pub fn path(&self) -> PathBuf {
        self.place.path().join("mounted")
    }

    /// Takes all that is left, as another program would; given back when the file is removed.
    ///
    /// # Panics
    /// When that fails for any reason but a full disk.
    pub fn fill(&self, file: &Path) {
        let mut file = File::create(file).expect("a file can be created");
        for bytes in [1 << 20, 1 << 10] {
            let zeros = vec![0; bytes];
            let full = loop {
                if let Err(error) = file.write_all(&zeros) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing to do about it when a process still has a file open there but to let go of the name.
        run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

/// Whether a command succeeded.
fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
