//! What the quorum agrees on, seen from the state that the agreement is about.
//!
//! The quorum orders and stores *facts*: opaque bytes that say what has happened. Whoever owns their meaning implements
//! [`StateMachine`]; applying is deterministic and cannot fail, because every voter must come to the same state. What it keeps is
//! mirrored as keys and values, from which a restart and a snapshot rebuild it.

use bytes::Bytes;
use thalweg_types::LogIndex;

/// Where in the log an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Dense; the index of a group of facts that were proposed together.
    pub index: LogIndex,
    /// Index of the first entry of the leader that proposed this one: the same on every member, another for every leadership, and it
    /// never falls from one entry to the next.
    pub epoch: LogIndex,
}

/// One step that keeps the stored keys and values equal to the state in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvChange {
    Put { key: Bytes, value: Bytes },
    Delete { key: Bytes },
}

impl KvChange {
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// The state that committed facts build. Owned by the quorum, called from one task at a time; it must not block.
pub trait StateMachine: Send + Sync + 'static {
    /// Replaces everything by these keys and values, which come in order of key and describe the state after some committed entry.
    fn load(&mut self, entries: Vec<(Bytes, Bytes)>) -> Result<(), CorruptState>;

    /// Applies the facts of one committed entry, all of them, and returns what that changes in the stored keys and values.
    ///
    /// Called once per entry in the order of the log, except that a restart repeats entries whose changes were not stored yet: onto
    /// the state loaded before them, so that nothing is ever applied twice to the same state.
    fn apply(&mut self, at: Position, facts: &[Bytes]) -> Vec<KvChange>;
}

/// Stored keys and values that the state machine cannot have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored state cannot be read: {0}")]
pub struct CorruptState(pub String);
