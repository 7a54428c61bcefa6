//! Taking back a log's end on disk: what the folder is to hold is written down, durably, before anything of it goes.
//!
//! What is written down is the log's checkpoint as it will be, in a file of the folder's own, `truncation`, in one frame. From the moment
//! it is durable the log ends there; until then it ends where it did. It speaks for the log until the dir's checkpoint covers more of the
//! journal than it does:
//!
//! ```text
//!   journal   ... 20 21 22 | truncation to 10 | 10' 11' ...
//!                          |<- covered position of the file
//! ```
//!
//! Whatever the journal has about this log below its covered position counts no more, or the batches that were cut would come back. What
//! is in segments beyond its facts is cut again at a start: either it was cut off and is still there, or it came later, and then the
//! journal has it, which keeps everything until the dir's checkpoint covers it. Once that does, the file says no more than where in the
//! journal the log's present history begins. If the dir's checkpoint is lost, nobody knows whether it did: the file is *settled*, that is,
//! replaced by one that says no more than this for good, and what is in segments is taken as it is.

use std::io;
use std::path::Path;
use std::sync::Arc;

use thalweg_env::fs::{self, File, Fs, OpenMode, is_out_of_space, remove_file_if_there};
use thalweg_types::Offset;

use crate::checkpoint::{self, LogCheckpoint};
use crate::layout;
use crate::log::failed_sync;
use crate::open_files::OpenFiles;
use crate::segment::Segment;

/// Where a folder is and what its segments need.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    pub(crate) open_files: &'a Arc<OpenFiles>,
    pub(crate) folder: &'a Path,
}

/// What a folder's `truncation` file says.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    Cut { to: Box<LogCheckpoint>, is_settled: bool },
    Damaged,
}

/// Reads the folder's `truncation` file.
pub(crate) fn read(fs: &dyn Fs, folder: &Path) -> io::Result<Found> {
    let path = folder.join(layout::TRUNCATION);
    let Some(bytes) = fs::read_whole(fs, &path, layout::TEXT_BYTES_MAX)? else {
        return Ok(Found::Nothing);
    };
    let cut = checkpoint::decode_cut(&bytes);
    Ok(cut.map_or(Found::Damaged, |(to, is_settled)| Found::Cut { to: Box::new(to), is_settled }))
}

/// Decides, durably on return, that the log is what `to` says. A full disk is reported as such only if nothing is decided.
pub(crate) fn decide(place: Place<'_>, to: &LogCheckpoint) -> io::Result<()> {
    write(place, &checkpoint::encode_cut(to, false))
}

/// Says, durably on return, that nothing is to be cut any more.
pub(crate) fn settle(place: Place<'_>, to: &LogCheckpoint) -> io::Result<()> {
    write(place, &checkpoint::encode_cut(to, true))
}

fn write(place: Place<'_>, contents: &[u8]) -> io::Result<()> {
    let path = place.folder.join(layout::TRUNCATION);
    let temporary = place.folder.join("truncation.tmp");
    let file = place.fs.open(&temporary, OpenMode::CreateOrTruncate)?;
    file.write_all_at(contents, 0)?;
    file.sync_all().map_err(failed_sync)?;
    place.fs.rename(&temporary, &path)?;
    place.fs.sync_dir(place.folder).map_err(failed_sync)
}

/// Brings the folder to what was decided, durably on return. May be done again, whatever of it was done before. Gives the segment that is
/// the active one then, if it has a file.
pub(crate) fn carry_out(place: Place<'_>, to: &LogCheckpoint) -> io::Result<Option<Arc<Segment>>> {
    let active_base = to.active.base_offset;
    let names: Vec<String> =
        place.fs.list(place.folder)?.into_iter().map(|entry| entry.name).collect();
    let bases = layout::offsets_of(&names, "log");
    // Newest first, so that what is left is one piece at any time.
    for base_offset in bases.iter().rev().filter(|base| **base > active_base) {
        remove_segment(place, *base_offset)?;
    }
    // A new beginning has no history before it.
    let is_anew = is_anew(to);
    for base_offset in bases.iter().filter(|base| is_anew && **base < active_base) {
        remove_segment(place, *base_offset)?;
    }
    for snapshot in layout::offsets_of(&names, "snapshot") {
        if !keeps_snapshot(to, snapshot) {
            let path = place.folder.join(layout::file_name(snapshot, "snapshot"));
            remove_file_if_there(&**place.fs, &path)?;
        }
    }
    let segment = Segment::new(
        Arc::clone(place.fs),
        Arc::clone(place.open_files),
        place.folder.to_owned(),
        active_base,
        0,
    );
    let has_file = match bases.contains(&active_base) {
        true => cut_segment(&segment, to).map(|()| true)?,
        false if to.active.is_empty() => begin_segment(place, &segment)?,
        // For the opening of the folder to judge.
        false => false,
    };
    place.fs.sync_dir(place.folder).map_err(failed_sync)?;
    Ok(has_file.then(|| Arc::new(segment)))
}

/// Whether a producer snapshot is of the history that is left.
pub(crate) fn keeps_snapshot(to: &LogCheckpoint, snapshot: Offset) -> bool {
    !is_anew(to) && snapshot <= to.active.next_offset
}

fn is_anew(to: &LogCheckpoint) -> bool {
    to.active.is_empty() && to.log_start == to.active.base_offset
}

fn remove_segment(place: Place<'_>, base_offset: Offset) -> io::Result<()> {
    ["log", "index", "timeindex"].iter().try_for_each(|extension| {
        let path = place.folder.join(layout::file_name(base_offset, extension));
        remove_file_if_there(&**place.fs, &path)
    })
}

/// Cuts the active segment's file and indexes to its facts. A file that is too short stays as it is, for the opening to judge.
fn cut_segment(segment: &Segment, to: &LogCheckpoint) -> io::Result<()> {
    let file = segment.log_file()?;
    let (found, bytes) = (file.len()?, to.active.size_bytes);
    if found < bytes {
        return Ok(());
    }
    if bytes == 0 {
        segment.create_log()?;
        return sync(segment, &*segment.log_file()?);
    }
    segment.set_written_bytes(found);
    segment.cut_indexes(bytes, to.active.next_offset)?;
    segment.set_written_bytes(bytes);
    file.set_len(bytes)?;
    sync(segment, &*file)
}

fn sync(segment: &Segment, file: &dyn File) -> io::Result<()> {
    segment.sync_indexes().and_then(|()| file.sync_all()).map_err(failed_sync)
}

/// An empty file whose name remembers the log end. Says whether there was room for it: if not, the first batch brings it.
fn begin_segment(place: Place<'_>, segment: &Segment) -> io::Result<bool> {
    match segment.create_log() {
        Ok(()) => sync(segment, &*segment.log_file()?).map(|()| true),
        Err(error) if is_out_of_space(&error) => {
            segment.close();
            remove_segment(place, segment.base_offset).map(|()| false)
        }
        Err(error) => Err(error),
    }
}
