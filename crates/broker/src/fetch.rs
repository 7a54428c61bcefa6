//! Reading: fetch with long poll, and looking up offsets.
//!
//! A fetch looks at its partitions; if what it finds is enough, or wrong, it answers. Otherwise it registers with every partition,
//! looks again (so that nothing that came in between is missed) and sleeps until one of them moves or the wait is over. Nobody polls.
//!
//! A leader may know a follower that is nearer to the reader, and name it (KIP-392); a follower answers who allows it to.
//!
//! What a reader may see ends at the high watermark, or at the last stable offset for `read_committed`. Batches still in memory are
//! handed out as they came in. Older ones are read from their segment: at once when little is asked and cached, otherwise on a blocking
//! thread, so that a slow disk holds up nobody else; their checksums are verified on the way (D2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thalweg_storage::{Chunk, ReadSlice};
use thalweg_types::{IsolationLevel, LeaderEpoch, NodeId, Offset, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::error::{FetchError, NotCurrent, Unknown};
use crate::partition::{Partition, View};
pub use thalweg_kafka::fetch::FetchMemory;
use thalweg_kafka::fetch::Lease;

/// What a reader asks for.
#[derive(Debug)]
pub struct FetchCall {
    pub partitions: Vec<FetchPartition>,
    /// Index of the partition that is looked at first, the others following in their order and then from the start: who comes late may
    /// find that `max_bytes` are used up.
    pub first: usize,
    /// Wait until this many bytes are there; 0 answers at once.
    pub min_bytes: usize,
    /// Bound of the whole answer. The first batch found is sent even if it is larger, so that a reader always gets on.
    pub max_bytes: usize,
    pub max_wait: Duration,
    pub isolation: IsolationLevel,
    pub replicas: Replicas,
}

/// Which replicas may answer a reader (KIP-392).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replicas {
    /// Not the leader only.
    pub followers_too: bool,
    /// Brokers that the leader sends the reader to, where they are in sync and have what it asks for.
    pub preferred: Vec<NodeId>,
}

#[derive(Debug)]
pub struct FetchPartition {
    /// The partition, or why there is none.
    pub target: Result<Arc<Partition>, Unknown>,
    pub offset: Offset,
    pub max_bytes: usize,
    /// The leader epoch the reader believes in; `LeaderEpoch::NONE` when it gives none.
    pub reader_epoch: LeaderEpoch,
}

/// What one partition had to give.
#[derive(Debug)]
pub struct Fetched {
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    /// Whole batches, back to back; the first may begin below the offset asked for. A slice holds one batch or several.
    pub batches: Vec<Bytes>,
    /// Read there instead; then there are no batches.
    pub read_at: Option<NodeId>,
}

/// Which offset a reader looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    Earliest,
    /// The next offset a reader of this isolation level will see appear.
    Latest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record at or after this time.
    Timestamp(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    pub offset: Offset,
    /// Of the record found; `Timestamp::NONE` for earliest and latest.
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}

/// What one look found, its segment ranges not yet read.
enum Found {
    Slice { view: View, slice: ReadSlice },
    Nothing { view: View },
    Elsewhere { view: View, node: NodeId },
}

/// One look at all partitions of a fetch, in the order of looking.
struct Look {
    found: Vec<Result<Found, FetchError>>,
    bytes: usize,
    /// A partition cannot be read, or is to be read elsewhere.
    is_final: bool,
}

/// Keeps a reader registered with its partitions, and takes it back however the fetch ends.
struct Registration<'a> {
    partitions: &'a [FetchPartition],
    reader: Arc<Notify>,
}

/// Answers a fetch: one result per partition asked, in the order asked. Its records are counted in `memory`, if given, until they have
/// been sent.
pub async fn fetch(
    call: &FetchCall,
    memory: Option<&FetchMemory>,
) -> Vec<Result<Fetched, FetchError>> {
    let mut look = look(call, call.max_bytes);
    if !look.answers(call) {
        look = wait_for_more(call).await;
    }
    let mut lease = Lease::default();
    if let Some(memory) = memory {
        let allowance = memory.allowance();
        if look.bytes > allowance {
            look = self::look(call, allowance);
        }
        lease = memory.take(look.bytes).await;
    }
    let mut answer = Vec::with_capacity(look.found.len());
    for found in look.found {
        answer.push(match found {
            Ok(found) => load(found, &mut lease).await,
            Err(error) => Err(error),
        });
    }
    let last = answer.iter_mut().rev().flatten().find_map(|one| one.batches.last_mut());
    if let Some(last) = last {
        lease.tie_rest(last);
    }
    answer.rotate_right(call.first());
    answer
}

/// Looks up one offset; `None` when no record matches a timestamp. A look-up by timestamp may read segments, on a blocking thread.
///
/// # Errors
///
/// As a fetch of the partition, never out of range; and [`NotCurrent`] while a new leader does not know the end.
pub async fn list_offset(
    partition: &Arc<Partition>,
    query: OffsetQuery,
    isolation: IsolationLevel,
    reader_epoch: LeaderEpoch,
) -> Result<Option<ListedOffset>, FetchError> {
    let view = partition.view(reader_epoch)?;
    if !view.is_current && query != OffsetQuery::Earliest {
        return Err(NotCurrent.into());
    }
    let end = readable_end(&view, isolation);
    let at = |offset: Offset| ListedOffset {
        offset,
        timestamp: Timestamp::NONE,
        leader_epoch: partition.log().epoch_at(offset).unwrap_or(view.epoch),
    };
    let log = Arc::clone(partition.log());
    let search = match query {
        OffsetQuery::Earliest => return Ok(Some(at(view.offsets.log_start()))),
        OffsetQuery::Latest => return Ok(Some(at(end))),
        OffsetQuery::MaxTimestamp => blocking(move || log.max_timestamp()).await,
        OffsetQuery::Timestamp(timestamp) => {
            blocking(move || log.offset_for_timestamp(timestamp)).await
        }
    };
    Ok(search?.filter(|found| found.offset < end).map(|found| ListedOffset {
        offset: found.offset,
        timestamp: found.timestamp,
        leader_epoch: found.leader_epoch,
    }))
}

async fn wait_for_more(call: &FetchCall) -> Look {
    let deadline = Instant::now() + call.max_wait;
    let registration = Registration::new(&call.partitions);
    loop {
        let look = look(call, call.max_bytes);
        if look.answers(call) {
            return look;
        }
        if timeout_at(deadline, registration.reader.notified()).await.is_err() {
            return look;
        }
    }
}

fn look(call: &FetchCall, max_bytes: usize) -> Look {
    let mut look =
        Look { found: Vec::with_capacity(call.partitions.len()), bytes: 0, is_final: false };
    let (late, early) = call.partitions.split_at(call.first());
    for wanted in early.iter().chain(late) {
        let found = look_at(wanted, call, max_bytes, look.bytes);
        match &found {
            Ok(Found::Slice { slice, .. }) => look.bytes += slice.bytes,
            Ok(Found::Nothing { .. }) => {}
            Ok(Found::Elsewhere { .. }) | Err(_) => look.is_final = true,
        }
        look.found.push(found);
    }
    look
}

fn look_at(
    wanted: &FetchPartition,
    call: &FetchCall,
    max_bytes: usize,
    bytes_so_far: usize,
) -> Result<Found, FetchError> {
    let partition = wanted.target.as_ref().map_err(Clone::clone)?;
    let view = match call.replicas.followers_too {
        true => partition.any_view(wanted.reader_epoch)?,
        false => partition.view(wanted.reader_epoch)?,
    };
    let (start, end) = (view.offsets.log_start(), view.offsets.log_end());
    if !view.is_leaders && wanted.offset > end {
        return Err(FetchError::AheadOfFollower { offset: wanted.offset, end });
    }
    if wanted.offset < start || wanted.offset > end {
        return Err(FetchError::OutOfRange { offset: wanted.offset, start, end });
    }
    let preferred = &call.replicas.preferred;
    if view.is_leaders
        && !preferred.is_empty()
        && let Some(node) = partition.preferred_reader(preferred, wanted.offset)
    {
        return Ok(Found::Elsewhere { view, node });
    }
    let readable_end = readable_end(&view, call.isolation);
    let room = max_bytes.saturating_sub(bytes_so_far).min(wanted.max_bytes);
    let first = bytes_so_far == 0;
    if wanted.offset >= readable_end || (room == 0 && !first) {
        return Ok(Found::Nothing { view });
    }
    let slice = partition.log().read(wanted.offset, readable_end, room, first)?;
    Ok(Found::Slice { view, slice })
}

async fn load(found: Found, lease: &mut Lease) -> Result<Fetched, FetchError> {
    let (view, chunks, read_at) = match found {
        Found::Nothing { view } => (view, Vec::new(), None),
        Found::Slice { view, slice } => (view, slice.chunks, None),
        Found::Elsewhere { view, node } => (view, Vec::new(), Some(node)),
    };
    let mut batches = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        batches.push(match chunk {
            Chunk::Tail(bytes) => lease.tie(bytes),
            Chunk::File(range) => lease.tie(match range.read_cached()? {
                Some(slice) => slice.bytes,
                None => blocking(move || range.read()).await?.bytes,
            }),
        });
    }
    Ok(Fetched {
        high_watermark: view.offsets.high_watermark(),
        last_stable_offset: view.offsets.last_stable(),
        log_start_offset: view.offsets.log_start(),
        batches,
        read_at,
    })
}

/// Runs what may wait for the disk where that holds up nobody else. A panic there is a panic here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

fn readable_end(view: &View, isolation: IsolationLevel) -> Offset {
    match isolation {
        IsolationLevel::ReadUncommitted => view.offsets.high_watermark(),
        IsolationLevel::ReadCommitted => view.offsets.last_stable(),
    }
}

impl FetchCall {
    fn first(&self) -> usize {
        self.first.min(self.partitions.len())
    }
}

impl Look {
    /// An error is told at once, as Kafka does: the reader should not wait to learn that it is lost. Nor that it should be elsewhere.
    fn answers(&self, call: &FetchCall) -> bool {
        self.is_final
            || self.bytes >= call.min_bytes
            || call.max_wait.is_zero()
            || call.partitions.is_empty()
    }
}

impl<'a> Registration<'a> {
    fn new(partitions: &'a [FetchPartition]) -> Self {
        let reader = Arc::new(Notify::new());
        for target in partitions.iter().filter_map(|wanted| wanted.target.as_ref().ok()) {
            target.notify_on_change(Arc::clone(&reader));
        }
        Self { partitions, reader }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        for target in self.partitions.iter().filter_map(|wanted| wanted.target.as_ref().ok()) {
            target.forget_reader(&self.reader);
        }
    }
}

#[cfg(test)]
mod tests;
