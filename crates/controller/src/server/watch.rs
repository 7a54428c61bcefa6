//! One watcher's stream: what it lacks, then every entry as it is committed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::codec::{position_to_proto, record_to_proto};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::watch_metadata_response::Event;
use thalweg_rpc::Error as RpcError;
use thalweg_types::{ErrorCode, LogIndex};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::history::{Behind, Committed};
use crate::machine::State;

/// Messages ready for a watcher that does not take them; the rest waits in the history.
const MESSAGES_WAITING_MAX: usize = 4;

/// Facts in one piece of a snapshot: some tens of kilobytes.
const PIECE_RECORDS_MAX: usize = 1000;

/// Entries in one message, unless they hold many facts.
const MESSAGE_ENTRIES_MAX: usize = 256;

type Message = Result<proto::WatchMetadataResponse, Status>;

/// The stream that tonic sends. Dropped with the call, which ends its task.
pub struct Watch(mpsc::Receiver<Message>);

impl Stream for Watch {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_recv(cx)
    }
}

/// Begins behind `from` and goes on until the watcher leaves, `stop` says so, or this controller is not `in_touch` with its quorum any more.
pub(super) fn start(
    state: State,
    from: LogIndex,
    (mut in_touch, mut stop): (watch::Receiver<bool>, watch::Receiver<bool>),
) -> Watch {
    let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        let ended = tokio::select! {
            () = stopped(&mut stop) => return,
            () = left_alone(&mut in_touch) => Err(Some(alone().into())),
            ended = follow(&state, from, &sender) => ended,
        };
        if let Err(Some(status)) = ended {
            let _ = sender.send(Err(status)).await;
        }
    });
    Watch(receiver)
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Never, if nobody tells any more: then the controller stops.
async fn left_alone(in_touch: &mut watch::Receiver<bool>) {
    if in_touch.wait_for(|in_touch| !*in_touch).await.is_err() {
        std::future::pending().await
    }
}

/// `Err(None)`: the watcher left.
async fn follow(
    state: &State,
    from: LogIndex,
    sender: &mpsc::Sender<Message>,
) -> Result<(), Option<Status>> {
    let mut changed = state.feed.changed();
    let mut sent = from;
    loop {
        let behind = state.history.lock().since(sent);
        match behind {
            Behind::By(entries) => {
                sent = send_entries(&entries, sender).await?.unwrap_or(sent);
            }
            Behind::TooFar => sent = send_snapshot(&state.feed.image(), sender).await?,
            Behind::Ahead => return Err(Some(ahead(sent).into())),
        }
        let seen = sent;
        let newer = changed.wait_for(|applied| *applied > seen);
        tokio::select! {
            newer = newer => newer.map_err(|_| None).map(|_| ())?,
            () = sender.closed() => return Err(None),
        }
    }
}

/// What this controller knows may be old, and it would not notice.
pub(super) fn alone() -> RpcError {
    RpcError::new(ErrorCode::NotController, "this controller has lost the quorum").not_applied()
}

pub(super) fn ahead(sent: LogIndex) -> RpcError {
    let message = format!("this controller has not applied log index {sent} yet");
    RpcError::new(ErrorCode::NotController, message).not_applied()
}

async fn send_snapshot(
    image: &Arc<Image>,
    sender: &mpsc::Sender<Message>,
) -> Result<LogIndex, Option<Status>> {
    let position = Some(position_to_proto(image.position()));
    let records = image.to_records();
    // An empty image is one empty piece.
    let pieces = records.chunks(PIECE_RECORDS_MAX).map(Some).collect::<Vec<_>>();
    let pieces = if pieces.is_empty() { vec![None] } else { pieces };
    let piece_count = pieces.len();
    for (at, piece) in pieces.into_iter().enumerate() {
        let records = piece.unwrap_or_default().iter().map(record_to_proto).collect();
        let last = at + 1 == piece_count;
        send(sender, Event::Snapshot(proto::SnapshotPiece { position, records, last })).await?;
    }
    Ok(image.position().index)
}

/// The last entry's index, if there is one.
async fn send_entries(
    entries: &[Arc<Committed>],
    sender: &mpsc::Sender<Message>,
) -> Result<Option<LogIndex>, Option<Status>> {
    let mut rest = entries;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(message_entry_count(rest));
        let entries = now.iter().map(|entry| proto::Entry {
            position: Some(position_to_proto(entry.position)),
            previous_index: entry.previous.0,
            records: entry.records.iter().map(record_to_proto).collect(),
        });
        send(sender, Event::Entries(proto::Entries { entries: entries.collect() })).await?;
        rest = later;
    }
    Ok(entries.last().map(|entry| entry.position.index))
}

/// Entries that go together into one message: at least one, which alone fits, since the quorum bounds its size.
fn message_entry_count(entries: &[Arc<Committed>]) -> usize {
    let mut record_count = 0;
    let fitting = entries.iter().take(MESSAGE_ENTRIES_MAX).take_while(|entry| {
        record_count += entry.records.len();
        record_count <= PIECE_RECORDS_MAX
    });
    fitting.count().max(1)
}

async fn send(sender: &mpsc::Sender<Message>, event: Event) -> Result<(), Option<Status>> {
    let message = proto::WatchMetadataResponse { event: Some(event) };
    sender.send(Ok(message)).await.map_err(|_| None)
}
