//! The materialised state with a check on it: beside the keys and values stands a digest over all of them.
//!
//! A store may be damaged in ways it does not notice itself: a lost page, a stale one. The digest is a sum over the checksum of every
//! entry, so that it follows each change without reading the rest, and a restart that reads everything anyway can compare it. What
//! does not match is damage; the state is then rebuilt from snapshot and log.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use prost::Message;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_types::LogIndex;

use super::{KvError, MetaKv};
use crate::codec;
use crate::machine::KvChange;
use crate::types::{LogId, SnapshotMeta, StoredMembership};

/// How far the state was brought, by whom, and by which membership.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AppliedState {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    /// Index of the first entry of the leader that proposed `last`.
    pub(crate) epoch: LogIndex,
}

impl AppliedState {
    /// Takes in the entry at `log_id`, as far as it concerns everybody.
    pub(crate) fn advance(&mut self, log_id: LogId) {
        if self.last.is_none_or(|last| last.leader_id != log_id.leader_id) {
            self.epoch = LogIndex(log_id.index);
        }
        self.last = Some(log_id);
    }

    /// In the library's words.
    pub(crate) fn to_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }
}

/// Order-free sum over a set of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Digest {
    pub(crate) sum: u64,
    pub(crate) entry_count: u64,
}

/// One writer's view of a [`MetaKv`].
pub(crate) struct GuardedKv {
    kv: Box<dyn MetaKv>,
    applied: AppliedState,
    digest: Digest,
}

/// Keys with their values, in order of key.
pub(crate) type Entries = Vec<(Bytes, Bytes)>;

impl Digest {
    pub(crate) fn of(entries: &[(Bytes, Bytes)]) -> Self {
        let mut digest = Self::default();
        for (key, value) in entries {
            digest.add(key, value);
        }
        digest
    }

    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.sum = self.sum.wrapping_add(entry_checksum(key, value));
        self.entry_count = self.entry_count.wrapping_add(1);
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.sum = self.sum.wrapping_sub(entry_checksum(key, value));
        self.entry_count = self.entry_count.wrapping_sub(1);
    }
}

impl GuardedKv {
    /// Reads everything and checks it. The entries are returned because the state machine is loaded from them.
    pub(crate) fn load(kv: Box<dyn MetaKv>) -> Result<(Self, Entries), KvError> {
        let entries = kv.scan()?;
        let (applied, digest) = match kv.mark()? {
            Some(mark) => decode_mark(mark)?,
            // A replacement that was cut short leaves entries without a mark: the digest tells.
            None => (AppliedState::default(), Digest::default()),
        };
        if Digest::of(&entries) != digest {
            let cause = format!(
                "{} entries do not add up to the {} entries last written",
                entries.len(),
                digest.entry_count
            );
            return Err(KvError::Damaged(cause));
        }
        Ok((Self { kv, applied, digest }, entries))
    }

    pub(crate) fn applied(&self) -> &AppliedState {
        &self.applied
    }

    /// Applies the changes in order and remembers that they bring the state to `applied`.
    pub(crate) fn write(
        &mut self,
        changes: &[KvChange],
        applied: AppliedState,
    ) -> Result<(), KvError> {
        let digest = self.digest_after(changes)?;
        self.kv.write(changes, &encode_mark(&applied, digest))?;
        self.applied = applied;
        self.digest = digest;
        Ok(())
    }

    pub(crate) fn replace_all(
        &mut self,
        entries: &[(Bytes, Bytes)],
        applied: AppliedState,
    ) -> Result<(), KvError> {
        let digest = Digest::of(entries);
        self.kv.replace_all(entries, &encode_mark(&applied, digest))?;
        self.applied = applied;
        self.digest = digest;
        Ok(())
    }

    /// Everything, checked: a damaged store must not become a snapshot.
    pub(crate) fn entries(&self) -> Result<Entries, KvError> {
        let entries = self.kv.scan()?;
        if Digest::of(&entries) == self.digest {
            Ok(entries)
        } else {
            Err(KvError::Damaged("entries read back are not the entries written".to_owned()))
        }
    }

    pub(crate) fn flush(&self) -> Result<(), KvError> {
        self.kv.flush()
    }

    #[cfg(test)]
    pub(crate) fn kv_for_test(&self) -> &dyn MetaKv {
        self.kv.as_ref()
    }

    /// A batch may name a key more than once: what the store holds counts only for its first mention.
    fn digest_after(&self, changes: &[KvChange]) -> Result<Digest, KvError> {
        let mut digest = self.digest;
        let mut pending = std::collections::HashMap::<&Bytes, Option<&Bytes>>::new();
        for change in changes {
            let new = match change {
                KvChange::Put { value, .. } => Some(value),
                KvChange::Delete { .. } => None,
            };
            let key = change.key();
            match pending.insert(key, new) {
                Some(Some(earlier)) => digest.remove(key, earlier),
                Some(None) => {}
                None => {
                    if let Some(stored) = self.kv.get(key)? {
                        digest.remove(key, &stored);
                    }
                }
            }
            if let Some(value) = new {
                digest.add(key, value);
            }
        }
        Ok(digest)
    }
}

fn entry_checksum(key: &[u8], value: &[u8]) -> u64 {
    let mut checksum = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
    // The length first: moving a byte from value to key is another entry.
    checksum.update(&(key.len() as u64).to_le_bytes());
    checksum.update(key);
    checksum.update(value);
    checksum.finalize()
}

fn encode_mark(applied: &AppliedState, digest: Digest) -> Bytes {
    let mark = proto::Applied {
        last: codec::optional_log_id_to_proto(applied.last.as_ref()),
        membership: Some(codec::stored_membership_to_proto(&applied.membership)),
        digest: digest.sum,
        entry_count: digest.entry_count,
        epoch: applied.epoch.0,
    };
    Bytes::from(mark.encode_to_vec())
}

fn decode_mark(mark: Bytes) -> Result<(AppliedState, Digest), KvError> {
    let damaged = |error: codec::CodecError| KvError::Damaged(error.to_string());
    let mark: proto::Applied = codec::decode("mark of the state", mark).map_err(damaged)?;
    let applied = AppliedState {
        last: codec::optional_log_id_from_proto(mark.last.as_ref()),
        membership: codec::stored_membership_from_proto(mark.membership.as_ref())
            .map_err(damaged)?,
        epoch: LogIndex(mark.epoch),
    };
    Ok((applied, Digest { sum: mark.digest, entry_count: mark.entry_count }))
}
