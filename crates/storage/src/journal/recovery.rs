//! Finding the journal's stream again: which files belong to it, in which order, and where it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;

use thalweg_env::fs::{Fs, OpenMode};

use super::entry::{self, Entry, FILE_HEADER, FREE_FILE, FileHeader, MARK};
use super::{FILE_HEADER_BYTES, FileSlot, Generation, HEADER_COPY_BYTES};
use crate::error::OpenError;
use crate::frame::{self, Frame, ScanOptions};

/// Generation numbers are given out in blocks of this size, one block per life of the journal. After a power cut nobody knows which
/// numbers the last life used: a header may have been lost while frames behind it survived. The next life's numbers are all new.
const GENERATIONS_PER_LIFE: u64 = 1 << 24;

/// For the same reason each life's stream begins at a position of its own, above all that checkpoints and folders of earlier lives may
/// remember. Leaves room for 16 TiB a life and a million lives.
const POSITIONS_PER_LIFE: u64 = 1 << 44;

/// What a scan found, and where the stream goes on.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) live: VecDeque<Generation>,
    pub(super) dead: Vec<Generation>,
    pub(super) free: Vec<FileSlot>,
    pub(super) next_file_number: u64,
    pub(super) next_generation: u64,
    pub(super) next_base_position: u64,
    pub(super) oldest: Option<u64>,
    /// The generation that the stream ends in, and where.
    pub(super) previous: Option<u64>,
    pub(super) previous_end: u64,
}

/// An entry of the stream, in order.
#[derive(Debug)]
pub(crate) struct FoundEntry<'a> {
    pub(crate) position: u64,
    pub(crate) end_position: u64,
    pub(crate) entry: Entry<'a>,
    /// The batch as a buffer of its own; empty for other entries.
    pub(crate) frame: &'a Frame,
}

/// The files as their headers show them.
#[derive(Debug, Default)]
struct Files {
    used: BTreeMap<u64, (Generation, FileHeader)>,
    freed: BTreeSet<u64>,
    free: Vec<FileSlot>,
    /// Number of a file whose header is damaged, both copies of it.
    unreadable: Option<u64>,
    file_number_max: u64,
    end_position_max: u64,
}

/// Reads the whole stream, handing each entry to `visit` in order. Refuses a stream that is damaged below what is known to have been
/// durable. Every file whose entries were handed on is synced, so that they are durable on return.
pub(crate) fn scan(
    fs: &dyn Fs,
    dir: &Path,
    position_min: u64,
    mut visit: impl FnMut(&FoundEntry<'_>) -> Result<(), OpenError>,
) -> Result<Found, OpenError> {
    let io_error =
        |operation| move |source| OpenError::Io { path: dir.to_owned(), operation, source };
    let files = read_headers(fs, dir).map_err(io_error("reading journal files"))?;
    let corrupt = |reason: String| OpenError::Corrupt { path: dir.to_owned(), reason };
    // A power cut leaves one copy of a header whole: anything else is damage, and what the file held may have been the newest.
    if let Some(number) = files.unreadable {
        return Err(corrupt(format!("the header of journal file {number} is damaged")));
    }
    let chain = chain(&files);

    // Entries are handed on as they are read: whether the stream ends where it may is known only when all files were looked at, and if
    // it does not, all was for nothing.
    let last = chain.last().map(|(generation, _)| generation.number);
    let mut durable_position =
        marks_beyond(&files, last).map_err(io_error("scanning the journal"))?;
    let mut live = VecDeque::new();
    // Where the first generation ends that does not reach its recorded end: the stream's end.
    let mut stream_end = None;
    let mut previous_end = 0;
    for (at, (generation, header)) in chain.iter().enumerate() {
        let end = chain.get(at + 1).map(|(_, next)| next.previous_end);
        let mut entries = Entries::new(&mut visit);
        let found = frame::scan(
            &*generation.slot.file,
            scan_options(generation, end),
            &entry::is_named_batch,
            |frame| {
                if stream_end.is_none() {
                    entries.take(&frame);
                }
            },
        )
        .map_err(io_error("scanning the journal"))?;
        entries.finish()?;
        durable_position = durable_position.max(found.durable_position);
        // A new life's first header claims that all before it is durable: what it found was synced first.
        durable_position = durable_position.max(header.durable_position);
        if stream_end.is_some() {
            continue;
        }
        previous_end = found.position;
        live.push_back(generation.clone());
        stream_end = (end != Some(found.position)).then_some(found.position);
    }
    if let Some(end) = stream_end.filter(|end| *end < durable_position) {
        return Err(corrupt(format!(
            "the journal is damaged at stream position {end}, and was durable up to {durable_position}"
        )));
    }
    for generation in &live {
        generation.slot.file.sync_data().map_err(io_error("syncing the journal"))?;
    }
    let kept_numbers: BTreeSet<u64> = live.iter().map(|generation| generation.number).collect();
    let newest = files.used.keys().chain(&files.freed).max().copied().unwrap_or(0);
    let next_generation = (newest | (GENERATIONS_PER_LIFE - 1)) + 1;
    let dead = files
        .used
        .into_values()
        .map(|(generation, _)| generation)
        .filter(|generation| !kept_numbers.contains(&generation.number))
        .collect();
    Ok(Found {
        oldest: live.front().map(|generation| generation.number),
        previous: live.back().map(|generation| generation.number),
        live,
        dead,
        free: files.free,
        next_file_number: files.file_number_max + 1,
        next_generation,
        next_base_position: files
            .end_position_max
            .max(position_min)
            .max((next_generation / GENERATIONS_PER_LIFE).saturating_mul(POSITIONS_PER_LIFE)),
        previous_end,
    })
}

fn read_headers(fs: &dyn Fs, dir: &Path) -> io::Result<Files> {
    let mut files = Files::default();
    for found in fs.list(dir)? {
        let Some(number) = found.name.strip_suffix(".journal").and_then(|n| n.parse().ok()) else {
            continue;
        };
        files.file_number_max = files.file_number_max.max(number);
        let file = fs.open(&dir.join(&found.name), OpenMode::ReadWrite)?;
        let bytes = file.len()?;
        if bytes < 2 * FILE_HEADER_BYTES {
            // A creation that was cut short.
            fs.remove_file(&dir.join(&found.name))?;
            continue;
        }
        let mut start = [0; FILE_HEADER_BYTES as usize];
        file.read_exact_at(&mut start, 0)?;
        let (first, second) = start.split_at(HEADER_COPY_BYTES);
        let contents = read_header(first).or_else(|| read_header(second));
        files.add(FileSlot { number, file, bytes }, contents);
    }
    Ok(files)
}

/// What one copy of a header says.
#[derive(Debug, Clone, Copy)]
enum HeaderCopy {
    Used {
        generation: u64,
        header: FileHeader,
    },
    Freed {
        generation: u64,
    },
    /// Never written.
    Empty,
}

/// `None` when the copy is damaged.
fn read_header(copy: &[u8]) -> Option<HeaderCopy> {
    let Some(frame) = frame::Header::parse(copy) else {
        return copy.iter().all(|byte| *byte == 0).then_some(HeaderCopy::Empty);
    };
    let payload = copy.get(frame::HEADER_BYTES..)?.get(..frame.payload_bytes as usize)?;
    let generation = frame.generation;
    match frame.kind {
        _ if crc_fast::crc32_iscsi(payload) != frame.payload_crc => None,
        FREE_FILE => Some(HeaderCopy::Freed { generation }),
        FILE_HEADER => FileHeader::decode(payload, frame.durable_position)
            .map(|header| HeaderCopy::Used { generation, header }),
        _ => None,
    }
}

impl Files {
    fn add(&mut self, slot: FileSlot, contents: Option<HeaderCopy>) {
        match contents {
            Some(HeaderCopy::Used { generation, header }) => {
                let base_position = header.base_position;
                self.end_position_max = self.end_position_max.max(base_position + slot.bytes);
                let used = Generation { number: generation, slot, base_position };
                self.used.insert(generation, (used, header));
            }
            Some(HeaderCopy::Freed { generation }) => {
                self.freed.insert(generation);
                self.free.push(slot);
            }
            Some(HeaderCopy::Empty) => self.free.push(slot),
            None => self.unreadable = Some(slot.number),
        }
    }
}

/// The generations of the stream, oldest first: from the newest back along "follows", until one that was freed.
///
/// A generation on the way that is neither there nor freed lost its header in a power cut, and with it all that came later: none of that
/// was flushed. The stream then ends before it.
fn chain(files: &Files) -> Vec<(Generation, FileHeader)> {
    let mut chain = VecDeque::new();
    let mut next = files.used.keys().next_back().copied();
    // By the newest header of the chain: files freed since an older one was written may have been used again.
    let mut oldest_in_use = 0;
    while let Some(number) = next {
        if let Some((generation, header)) = files.used.get(&number) {
            chain.push_front((generation.clone(), *header));
            oldest_in_use = oldest_in_use.max(header.oldest_generation);
            next = header
                .previous_generation
                .filter(|previous| *previous >= oldest_in_use && !files.freed.contains(previous));
        } else {
            chain.clear();
            oldest_in_use = 0;
            next = files.used.range(..number).next_back().map(|(older, _)| *older);
        }
    }
    chain.into()
}

/// What the generations after the stream's last know to have been durable.
fn marks_beyond(files: &Files, last: Option<u64>) -> io::Result<u64> {
    let beyond = last.map_or(0, |last| last + 1);
    let mut durable_position = 0;
    for (generation, header) in files.used.range(beyond..).map(|(_, used)| used) {
        let file = &*generation.slot.file;
        let options = scan_options(generation, None);
        let found = frame::scan(file, options, &entry::is_named_batch, |_| {})?;
        durable_position =
            durable_position.max(found.durable_position).max(header.durable_position);
    }
    Ok(durable_position)
}

fn scan_options(generation: &Generation, end: Option<u64>) -> ScanOptions {
    ScanOptions {
        generation: generation.number,
        base_position: generation.base_position,
        start: generation.base_position + FILE_HEADER_BYTES,
        end: end.unwrap_or(u64::MAX),
        durable_position: 0,
    }
}

/// Hands on the entries of one file.
struct Entries<'a, V> {
    visit: &'a mut V,
    outcome: Result<(), OpenError>,
    unknown_kind: Option<u8>,
}

impl<'a, V: FnMut(&FoundEntry<'_>) -> Result<(), OpenError>> Entries<'a, V> {
    fn new(visit: &'a mut V) -> Self {
        Self { visit, outcome: Ok(()), unknown_kind: None }
    }

    fn take(&mut self, frame: &Frame) {
        if self.outcome.is_err() {
            return;
        }
        match Entry::decode(frame) {
            Some(entry) => {
                let (position, end_position) = (frame.header.position, frame.header.end_position());
                self.outcome = (self.visit)(&FoundEntry { position, end_position, entry, frame });
            }
            None if frame.header.kind == MARK => {}
            None => self.unknown_kind = Some(frame.header.kind),
        }
    }

    fn finish(self) -> Result<(), OpenError> {
        if let Some(kind) = self.unknown_kind {
            tracing::warn!(kind, "the journal holds entries of a kind this version does not know");
        }
        self.outcome
    }
}
