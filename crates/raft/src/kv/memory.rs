//! A store that forgets: for simulation, where no real file may be touched, and as the model the durable one is compared with.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{KvError, MetaKv};
use crate::machine::KvChange;

/// Keys, values and mark in memory.
#[derive(Debug, Default)]
pub struct MemoryKv {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Bytes, Bytes>,
    mark: Option<Bytes>,
}

impl MetaKv for MemoryKv {
    fn mark(&self) -> Result<Option<Bytes>, KvError> {
        Ok(self.state.read().mark.clone())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.state.read().entries.get(key).cloned())
    }

    fn write(&self, changes: &[KvChange], mark: &Bytes) -> Result<(), KvError> {
        let mut state = self.state.write();
        for change in changes {
            match change {
                KvChange::Put { key, value } => state.entries.insert(key.clone(), value.clone()),
                KvChange::Delete { key } => state.entries.remove(key),
            };
        }
        state.mark = Some(mark.clone());
        Ok(())
    }

    fn scan(&self) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let state = self.state.read();
        Ok(state.entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn replace_all(&self, entries: &[(Bytes, Bytes)], mark: &Bytes) -> Result<(), KvError> {
        *self.state.write() =
            State { entries: entries.iter().cloned().collect(), mark: Some(mark.clone()) };
        Ok(())
    }

    fn flush(&self) -> Result<(), KvError> {
        Ok(())
    }
}
