//! Following the controller's stream, again and again.

use thalweg_metadata_core::{Image, Position, Record};
use thalweg_proto::internal::controller::v1::controller_client::ControllerClient;
use thalweg_proto::internal::controller::v1::watch_metadata_response::Event;
use thalweg_proto::internal::controller::v1::{Entry, SnapshotPiece, WatchMetadataRequest};
use thalweg_rpc::{Error as RpcError, LeaderChannel};
use thalweg_types::LogIndex;
use tonic::Status;

use super::{FeedOptions, Publisher};
use crate::codec::{DecodeError, position_from_proto, position_to_proto, record_from_proto};

/// Largest message of the stream: one entry of the log, at most 8 MiB, and its framing.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a stream ended. The next one begins where the image stands.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the controller closed it")]
    Closed,
    #[error("{0}")]
    Failed(RpcError),
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    #[error("the entry at {index} follows {previous}, but {applied} is applied")]
    Gap { index: LogIndex, previous: LogIndex, applied: LogIndex },
    #[error("it is at {stream:?}, which is behind {applied:?}")]
    Stale { stream: Position, applied: Position },
    #[error("an event or position is missing")]
    Incomplete,
}

/// Runs until it is aborted.
pub(super) async fn run(channel: LeaderChannel, options: FeedOptions, publisher: Publisher) {
    let client = ControllerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut wait = options.retry_first;
    loop {
        let before = publisher.image().position();
        let ended = follow(client.clone(), &publisher).await;
        let progressed = publisher.image().position() != before;
        if progressed {
            wait = options.retry_first;
        }
        publisher.trouble.send_replace(Some(ended.to_string()));
        tracing::debug!(%ended, wait_ms = wait.as_millis(), "the metadata stream ended");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(options.retry_max);
    }
}

async fn follow(mut client: ControllerClient<LeaderChannel>, publisher: &Publisher) -> Ended {
    match follow_stream(&mut client, publisher).await {
        Ok(()) => Ended::Closed,
        Err(ended) => ended,
    }
}

async fn follow_stream(
    client: &mut ControllerClient<LeaderChannel>,
    publisher: &Publisher,
) -> Result<(), Ended> {
    let applied = publisher.image().position();
    let request = WatchMetadataRequest { applied: Some(position_to_proto(applied)) };
    let failed = |status: Status| Ended::Failed(RpcError::from(status));
    let mut stream = client.watch_metadata(request).await.map_err(failed)?.into_inner();
    publisher.trouble.send_replace(None);
    let mut snapshot = Vec::new();
    while let Some(response) = stream.message().await.map_err(failed)? {
        match response.event.ok_or(Ended::Incomplete)? {
            Event::Snapshot(piece) => take_piece(publisher, &mut snapshot, piece)?,
            Event::Entries(entries) => {
                for entry in entries.entries {
                    take_entry(publisher, entry)?;
                }
            }
        }
    }
    Ok(())
}

fn take_piece(
    publisher: &Publisher,
    snapshot: &mut Vec<Record>,
    piece: SnapshotPiece,
) -> Result<(), Ended> {
    for record in piece.records {
        snapshot.push(record_from_proto(record)?);
    }
    if piece.last {
        let records = std::mem::take(snapshot);
        let stream = position_from_proto(&piece.position.ok_or(Ended::Incomplete)?);
        let applied = publisher.image().position();
        if stream.index < applied.index || stream.controller_epoch < applied.controller_epoch {
            return Err(Ended::Stale { stream, applied });
        }
        publisher.replace(Image::restore(stream, &records));
    }
    Ok(())
}

fn take_entry(publisher: &Publisher, entry: Entry) -> Result<(), Ended> {
    let stream = position_from_proto(&entry.position.ok_or(Ended::Incomplete)?);
    let applied = publisher.image().position();
    if stream.controller_epoch < applied.controller_epoch || stream.index <= applied.index {
        return Err(Ended::Stale { stream, applied });
    }
    let previous = LogIndex(entry.previous_index);
    if previous != applied.index {
        return Err(Ended::Gap { index: stream.index, previous, applied: applied.index });
    }
    let records =
        entry.records.into_iter().map(record_from_proto).collect::<Result<Vec<_>, _>>()?;
    publisher.apply(stream, records);
    Ok(())
}

#[cfg(test)]
mod tests {
    use thalweg_proto::internal::metadata::v1 as metadata;

    use super::super::Feed;
    use super::*;

    fn at(index: u64, controller_epoch: i64) -> Option<metadata::Position> {
        Some(metadata::Position { index, controller_epoch })
    }

    fn entry(index: u64, previous_index: u64, controller_epoch: i64) -> Entry {
        Entry { position: at(index, controller_epoch), previous_index, records: Vec::new() }
    }

    #[test]
    fn only_the_entry_that_follows_is_taken_and_none_of_an_older_controller() {
        let (feed, publisher) = Feed::manual(Image::default());
        take_entry(&publisher, entry(3, 0, 2)).unwrap();
        for (wrong, why) in [
            (entry(3, 0, 2), "again"),
            (entry(7, 5, 2), "a gap"),
            (entry(4, 3, 1), "an older controller"),
            (Entry { position: None, ..entry(4, 3, 2) }, "nowhere"),
        ] {
            assert!(take_entry(&publisher, wrong).is_err(), "{why}");
        }
        take_entry(&publisher, entry(9, 3, 2)).unwrap();
        assert_eq!(feed.image().position().index, LogIndex(9));
    }

    #[test]
    fn a_snapshot_counts_once_it_is_whole_and_only_if_it_is_not_older() {
        let (feed, publisher) = Feed::manual(Image::default());
        let fact = metadata::record::Fact::ProducerIdsAllocated(metadata::ProducerIdsAllocated {
            next_producer_id: 1000,
        });
        let records = vec![metadata::Record { fact: Some(fact) }];
        let piece = SnapshotPiece { position: at(5, 2), records, last: false };
        let mut snapshot = Vec::new();
        take_piece(&publisher, &mut snapshot, piece.clone()).unwrap();
        assert_eq!(feed.image().position(), Position::START);
        let last = SnapshotPiece { records: Vec::new(), last: true, ..piece.clone() };
        take_piece(&publisher, &mut snapshot, last).unwrap();
        assert_eq!(feed.image().next_producer_id().0, 1000);

        for position in [at(4, 2), at(6, 1), None] {
            let older = SnapshotPiece { position, records: Vec::new(), last: true };
            assert!(take_piece(&publisher, &mut Vec::new(), older).is_err());
        }
        assert_eq!(feed.image().position().index, LogIndex(5));
    }
}
