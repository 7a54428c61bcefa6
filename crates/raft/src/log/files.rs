//! The files of the log: which there are, what they say together, and the one that is written.
//!
//! ```text
//! 00000000000000000000.log   header | frame | frame | ...          named by the stream position of their first byte
//! 00000000000000081920.log   header | frame | frame | ...  <- written
//! ```
//!
//! A file is begun only after everything before it is durable, and begins with a header that repeats what the files before it would
//! have told. So all files but the last must be whole, and the oldest can be deleted once their entries are purged. Only the last file
//! can have a torn tail, which is cut; whether a bad frame is torn or damaged is the frames' verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use thalweg_env::fs::{EntryKind, File, Fs, OpenMode, is_out_of_space, remove_file_if_there};
use thalweg_storage::frame::{self, ScanEnd, ScanOptions, Verdict};

use super::contents::Contents;
use super::record::{Found, Record, Summary};
use crate::error::StartError;
use crate::types::LogId;

const SUFFIX: &str = ".log";

/// Digits of a stream position: enough for every `u64`, so that names sort like numbers.
const POSITION_DIGITS: usize = 20;

/// The files, the last one open for writing.
#[derive(Debug)]
pub(super) struct Files {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// Oldest first; never empty.
    segments: Vec<Segment>,
    active: Arc<dyn File>,
    /// Stream position of the next frame.
    position: u64,
    /// Everything below was covered by a successful flush.
    durable_position: u64,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    base_position: u64,
    /// The entry that its first entry follows.
    follows: Option<LogId>,
}

/// The log as found.
pub(super) struct Recovered {
    pub(super) files: Files,
    pub(super) contents: Contents,
}

impl Files {
    /// Reads all files in `dir`, cuts a torn tail, and opens the last one. An empty directory becomes an empty log.
    pub(super) fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<Recovered, StartError> {
        let mut recovery = Recovery { fs: fs.as_ref(), dir, contents: None, segments: Vec::new() };
        let bases = recovery.list()?;
        let mut tail = None;
        for (number, base) in bases.iter().enumerate() {
            tail = recovery.read(*base, bases.get(number + 1).copied())?;
        }
        let Recovery { contents, segments, .. } = recovery;
        let contents = contents.unwrap_or_default();
        let Some(Tail { file: active, position }) = tail else {
            let files = Self::create(fs, dir, Vec::new(), 0, &Summary::default())
                .map_err(StartError::io("create the first log file in", dir))?;
            return Ok(Recovered { files, contents });
        };
        if !contents.is_complete() {
            let cause =
                "the log's oldest entries are missing although they were not purged".to_owned();
            return Err(corrupt(dir, segments[0].base_position, 0, cause));
        }
        // What was just read may still be in the page cache only: a crash may have hit between write and flush.
        active.sync_data().map_err(StartError::io("flush the log in", dir))?;
        let files = Self {
            fs,
            dir: dir.to_owned(),
            segments,
            active,
            position,
            durable_position: position,
        };
        Ok(Recovered { files, contents })
    }

    fn create(
        fs: Arc<dyn Fs>,
        dir: &Path,
        mut segments: Vec<Segment>,
        base_position: u64,
        summary: &Summary,
    ) -> std::io::Result<Self> {
        let active = fs.open(&path_of(dir, base_position), OpenMode::CreateNew)?;
        let mut header = BytesMut::new();
        Record::Header(*summary).encode(&mut header, base_position, base_position, base_position);
        active.write_all_at(&header, 0)?;
        active.sync_all()?;
        fs.sync_dir(dir)?;
        segments.push(Segment { base_position, follows: summary.last });
        let position = base_position + header.len() as u64;
        Ok(Self { fs, dir: dir.to_owned(), segments, active, position, durable_position: position })
    }

    /// Bytes of the file being written.
    pub(super) fn active_bytes(&self) -> u64 {
        self.position - self.active_base()
    }

    /// Begins another file; goes on in the present one while a full disk has no room for it. Everything written must be flushed.
    pub(super) fn roll(&mut self, summary: &Summary) -> std::io::Result<()> {
        let (fs, segments) = (self.fs.clone(), self.segments.clone());
        match Self::create(fs, &self.dir, segments, self.position, summary) {
            Ok(next) => *self = next,
            Err(error) if is_out_of_space(&error) => {
                // A file that stays would say that this one ends here.
                remove_file_if_there(self.fs.as_ref(), &path_of(&self.dir, self.position))?;
                self.fs.sync_dir(&self.dir)?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes the records behind each other and flushes them. After an error nobody knows what is durable: write no more. But for one that
    /// says that there was no space: then nothing counts of it, and the same may be written again.
    pub(super) fn write<'a>(
        &mut self,
        records: impl Iterator<Item = &'a Record>,
    ) -> std::io::Result<()> {
        let base = self.active_base();
        let mut bytes = BytesMut::new();
        for record in records {
            let position = self.position + bytes.len() as u64;
            record.encode(&mut bytes, base, position, self.durable_position);
        }
        self.active.write_all_at(&bytes, self.position - base)?;
        self.active.sync_data().map_err(failed_sync)?;
        self.position += bytes.len() as u64;
        self.durable_position = self.position;
        Ok(())
    }

    /// Deletes the oldest files whose entries are all purged, oldest first and each durably, so that never one in the middle is missing.
    pub(super) fn delete_purged(&mut self, purged: LogId) -> std::io::Result<()> {
        while let [oldest, next, ..] = self.segments.as_slice()
            && next.follows.is_none_or(|follows| follows.index <= purged.index)
        {
            self.fs.remove_file(&path_of(&self.dir, oldest.base_position))?;
            self.fs.sync_dir(&self.dir)?;
            self.segments.remove(0);
        }
        Ok(())
    }

    fn active_base(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.base_position)
    }
}

// ---- Recovery -----------------------------------------------------------------------------------------------------------------

/// The file to go on in, and where its frames end.
struct Tail {
    file: Arc<dyn File>,
    position: u64,
}

struct Recovery<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    /// `None` until the oldest file's header is read.
    contents: Option<Contents>,
    segments: Vec<Segment>,
}

impl Recovery<'_> {
    /// Base positions of the files, oldest first.
    fn list(&self) -> Result<Vec<u64>, StartError> {
        let entries = self.fs.list(self.dir).map_err(StartError::io("list", self.dir))?;
        let files = entries.into_iter().filter(|entry| entry.kind == EntryKind::File);
        Ok(files.filter_map(|entry| base_of(&entry.name)).collect())
    }

    /// Reads one file. `None` when it was begun but never used, and is removed.
    fn read(&mut self, base: u64, next: Option<u64>) -> Result<Option<Tail>, StartError> {
        let path = path_of(self.dir, base);
        let file =
            self.fs.open(&path, OpenMode::ReadWrite).map_err(StartError::io("open", &path))?;
        let options = ScanOptions {
            generation: base,
            base_position: base,
            start: base,
            end: u64::MAX,
            // The next file was begun when this one was durable up to there.
            durable_position: next.unwrap_or(0),
        };
        let dir = self.dir;
        let mut replayed = Ok(());
        let end = frame::scan(file.as_ref(), options, &|_| true, |frame| {
            if replayed.is_ok() {
                let position = frame.header.position;
                replayed = Found::decode(frame.header.kind, frame.payload)
                    .map_err(|error| error.to_string())
                    .and_then(|found| self.replay(base, position, found))
                    .map_err(|cause| corrupt(dir, base, position - base, cause));
            }
        })
        .map_err(StartError::io("read", &path))?;
        replayed?;
        self.judge(base, next, &path, file, end)
    }

    fn judge(
        &mut self,
        base: u64,
        next: Option<u64>,
        path: &Path,
        file: Arc<dyn File>,
        end: ScanEnd,
    ) -> Result<Option<Tail>, StartError> {
        let damaged =
            |cause: &str| Err(corrupt(self.dir, base, end.position - base, cause.to_owned()));
        if end.verdict == Verdict::Corrupt {
            return damaged("a frame that was durable is not readable");
        }
        if next.is_some_and(|next| next != end.position) {
            return damaged("the file does not end where the next one begins");
        }
        if end.position == base {
            if base > 0 && self.segments.is_empty() {
                return damaged("the only file has no header");
            }
            // A crash hit while this file was begun: nothing in it was ever acknowledged.
            self.fs.remove_file(path).map_err(StartError::io("remove", path))?;
            self.fs.sync_dir(self.dir).map_err(StartError::io("sync", self.dir))?;
            let Some(previous) = self.segments.last() else { return Ok(None) };
            let path = path_of(self.dir, previous.base_position);
            let file =
                self.fs.open(&path, OpenMode::ReadWrite).map_err(StartError::io("open", &path))?;
            return Ok(Some(Tail { file, position: end.position }));
        }
        if end.verdict == Verdict::Torn {
            tracing::warn!(file = %path.display(), position = end.position - base, "cutting a torn tail off the Raft log");
            file.set_len(end.position - base).map_err(StartError::io("cut", path))?;
            file.sync_all().map_err(StartError::io("flush", path))?;
        }
        Ok(Some(Tail { file, position: end.position }))
    }

    /// Repeats what one frame says; the error says why it cannot be.
    fn replay(&mut self, base: u64, position: u64, found: Found) -> Result<(), String> {
        if position == base {
            let Found::Header(summary) = found else {
                return Err("the first frame is not a header".to_owned());
            };
            return self.replay_header(base, &summary);
        }
        let contents = self.contents.as_mut().ok_or("a frame before the first header")?;
        match found {
            Found::Header(_) => return Err("a header in the middle of a file".to_owned()),
            Found::Entry(entry) => contents.append(entry).map_err(|hole| hole.to_string())?,
            Found::Vote(vote) => contents.save_vote(vote),
            Found::Truncated(last) => contents.truncate(last),
            Found::Purged(last) => contents.purge(last),
            Found::Seal => {}
        }
        Ok(())
    }

    /// The oldest file's header starts the log; a later one must repeat what was replayed.
    fn replay_header(&mut self, base: u64, summary: &Summary) -> Result<(), String> {
        match &self.contents {
            None => {
                self.contents = Some(Contents::behind(summary.vote, summary.purged, summary.last));
            }
            Some(contents) if !Summary::of(contents).agrees_with(summary) => {
                return Err("the header does not repeat what the files before it say".to_owned());
            }
            Some(_) => {}
        }
        self.segments.push(Segment { base_position: base, follows: summary.last });
        Ok(())
    }
}

/// A failed flush is never a matter of space alone, whatever it says.
fn failed_sync(error: std::io::Error) -> std::io::Error {
    if is_out_of_space(&error) { std::io::Error::other(format!("flush: {error}")) } else { error }
}

fn corrupt(dir: &Path, base: u64, position: u64, cause: String) -> StartError {
    StartError::LogCorrupt { dir: dir.to_owned(), file: path_of(dir, base), position, cause }
}

fn path_of(dir: &Path, base_position: u64) -> PathBuf {
    dir.join(format!("{base_position:0POSITION_DIGITS$}{SUFFIX}"))
}

fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == POSITION_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}
