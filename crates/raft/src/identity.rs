//! Whose disk this is: the small file that binds a directory to one voter.
//!
//! ```text
//! quorum.meta         version=1
//!                     node.id=2
//!                     directory.id=<22 characters>
//!                     checksum=<CRC-32C of the lines above, 8 hexadecimal digits>
//! ```
//!
//! A voter's promises are on its disk. So the disk has an identity of its own, which the membership carries and every message between
//! members names: the same node id on another disk is another voter, and is refused (C2). The file is written once, before the first
//! vote; it is never made anew beside a log that has held one.

use std::io;
use std::path::Path;

use thalweg_env::fs::{Fs, read_whole, replace_whole};
use thalweg_types::DirId;

use crate::error::StartError;

const FILE: &str = "quorum.meta";

/// A file larger than this is not ours.
const BYTES_MAX: u64 = 4096;

/// The voter a directory belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node_id: u64,
    pub(crate) dir_id: DirId,
}

/// The identity in `dir`, if it has one. A file that is not readable is an error: the disk may have been a voter's.
pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Identity>, StartError> {
    let path = dir.join(FILE);
    let damaged = || StartError::IdentityDamaged { path: path.clone() };
    let bytes = match read_whole(fs, &path, BYTES_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(damaged()),
        Err(error) => return Err(StartError::io("read", &path)(error)),
    };
    let identity = std::str::from_utf8(&bytes).ok().and_then(Identity::from_text);
    identity.map(Some).ok_or_else(damaged)
}

/// Durable on return; cut short, it leaves no identity.
pub(crate) fn write(fs: &dyn Fs, dir: &Path, identity: Identity) -> Result<(), StartError> {
    let path = dir.join(FILE);
    replace_whole(fs, &path, identity.to_text().as_bytes()).map_err(StartError::io("write", &path))
}

impl Identity {
    fn to_text(self) -> String {
        let text = format!("version=1\nnode.id={}\ndirectory.id={}\n", self.node_id, self.dir_id);
        let checksum = crc_fast::crc32_iscsi(text.as_bytes());
        format!("{text}checksum={checksum:08x}\n")
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix('=');
        let is_known = value("version")? == "1";
        let node_id = value("node.id")?.parse().ok()?;
        let dir_id: DirId = value("directory.id")?.parse().ok()?;
        let identity = Self { node_id, dir_id };
        (is_known && !dir_id.is_zero() && identity.to_text() == text).then_some(identity)
    }
}

#[cfg(test)]
mod tests {
    use thalweg_env::fs::{OpenMode, SimFs};
    use thalweg_types::Uuid;

    use super::*;

    fn identity() -> Identity {
        Identity { node_id: 2, dir_id: DirId(Uuid::from_bytes([7; 16])) }
    }

    #[test]
    fn what_is_written_is_read_and_no_changed_byte_is() {
        let fs = SimFs::new(1);
        let dir = Path::new("/quorum");
        fs.create_dir(dir).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), None);
        write(&fs, dir, identity()).unwrap();
        assert_eq!(read(&fs, dir).unwrap(), Some(identity()));

        let whole = identity().to_text();
        for position in 0..whole.len() {
            let mut bytes = whole.clone().into_bytes();
            bytes[position] ^= 1;
            let changed = std::str::from_utf8(&bytes).ok().and_then(Identity::from_text);
            assert_eq!(changed, None, "byte {position}");
            let cut = whole.get(..position).and_then(Identity::from_text);
            assert_eq!(cut, None, "cut at {position}");
        }
    }

    #[test]
    fn a_file_of_garbage_is_refused_and_left() {
        let fs = SimFs::new(1);
        let dir = Path::new("/quorum");
        fs.create_dir(dir).unwrap();
        for size in [0, 10, 5000] {
            let file = fs.open(&dir.join(FILE), OpenMode::CreateOrTruncate).unwrap();
            file.write_all_at(&vec![b'x'; size], 0).unwrap();
            let refused = read(&fs, dir).unwrap_err();
            assert!(matches!(refused, StartError::IdentityDamaged { .. }), "{refused}");
        }
    }
}
