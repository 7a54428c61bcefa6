//! The state machine under the quorum: committed facts become the image, the stored keys and values, and the watchers' history.
//!
//! Stored under each fact's key is the one fact that says how the entity stands now, and under a key of its own the position that all
//! of them together stand at:
//!
//! ```text
//!  0                   index u64, controller epoch i64, both big-endian
//!  1 .. 8 ...          encoded fact (the metadata core's `Key`)
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use thalweg_metadata_core::{Image, Key, Position, Record};
use thalweg_metadata_feed::{Feed, Publisher, decode_record, encode_record};
use thalweg_raft::{CorruptState, KvChange, StateMachine};
use thalweg_types::{ControllerEpoch, LogIndex};

use crate::history::History;

const POSITION_KEY: &[u8] = &[0];
const POSITION_BYTES: usize = 16;

/// What the rest of the service sees of the applied state.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) feed: Feed,
    pub(crate) history: Arc<Mutex<History>>,
}

/// Owned by the quorum.
pub(crate) struct Machine {
    publisher: Publisher,
    history: Arc<Mutex<History>>,
}

impl Machine {
    pub(crate) fn new() -> (Self, State) {
        let (feed, publisher) = Feed::manual(Image::default());
        let history = Arc::new(Mutex::new(History::default()));
        (Self { publisher, history: Arc::clone(&history) }, State { feed, history })
    }
}

impl StateMachine for Machine {
    fn load(&mut self, entries: Vec<(Bytes, Bytes)>) -> Result<(), CorruptState> {
        let mut position = Position::START;
        let mut records = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if key == POSITION_KEY {
                position = read_position(value)?;
                continue;
            }
            let record = decode_record(value)
                .map_err(|error| CorruptState(format!("value of key {key:02x?}: {error}")))?;
            if key != record.key().to_bytes() {
                return Err(CorruptState(format!("key {key:02x?} holds a fact of another entity")));
            }
            records.push(record);
        }
        self.history.lock().restart(position.index);
        self.publisher.replace(Image::restore(position, &records));
        Ok(())
    }

    /// Panics on a fact that this build cannot read: it must not go on with a state that lacks a committed fact, and the quorum stops with
    /// this task.
    fn apply(&mut self, at: thalweg_raft::Position, facts: &[Bytes]) -> Vec<KvChange> {
        let position = Position {
            index: at.index,
            controller_epoch: ControllerEpoch(i64::try_from(at.epoch.0).unwrap_or(i64::MAX)),
        };
        let records: Vec<Record> = facts
            .iter()
            .map(|fact| {
                decode_record(fact.clone()).unwrap_or_else(|error| {
                    panic!("the metadata log at {} needs a newer version: {error}", at.index)
                })
            })
            .collect();
        let keys = changed_keys(&self.publisher.image(), position, &records);
        // History first: whoever is woken by the image looks there.
        let mut history = self.history.lock();
        history.push(position, records.clone());
        self.publisher.apply(position, records);
        drop(history);
        kv_changes(&self.publisher.image(), &keys)
    }
}

/// The entities that the facts change. One fact may concern what the one before it made.
fn changed_keys(before: &Image, position: Position, records: &[Record]) -> BTreeSet<Key> {
    let mut image = before.clone();
    let mut keys = BTreeSet::new();
    for record in records {
        keys.extend(image.keys_changed_by(record));
        image.apply(position, record);
    }
    keys
}

fn kv_changes(image: &Image, keys: &BTreeSet<Key>) -> Vec<KvChange> {
    let position = KvChange::Put {
        key: Bytes::from_static(POSITION_KEY),
        value: write_position(image.position()),
    };
    let entities = keys.iter().map(|key| {
        let stored_key = Bytes::from(key.to_bytes());
        match image.record_at(key) {
            Some(record) => KvChange::Put { key: stored_key, value: encode_record(&record) },
            None => KvChange::Delete { key: stored_key },
        }
    });
    std::iter::once(position).chain(entities).collect()
}

fn write_position(position: Position) -> Bytes {
    let mut value = BytesMut::with_capacity(POSITION_BYTES);
    value.put_u64(position.index.0);
    value.put_i64(position.controller_epoch.0);
    value.freeze()
}

fn read_position(mut value: Bytes) -> Result<Position, CorruptState> {
    if value.len() != POSITION_BYTES {
        return Err(CorruptState(format!("a position of {} bytes", value.len())));
    }
    let index = LogIndex(value.get_u64());
    Ok(Position { index, controller_epoch: ControllerEpoch(value.get_i64()) })
}

#[cfg(test)]
mod tests;
