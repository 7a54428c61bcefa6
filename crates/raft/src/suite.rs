//! The consensus library's own test suite over our log, state and snapshots, with every kind of [`MetaKv`](crate::kv::MetaKv).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use thalweg_env::fs::{Fs, RealFs, SimFs};
use thalweg_types::{DirId, NodeId, Uuid};

use crate::apply::Applier;
use crate::kv::KvKind;
use crate::log::LogStore;
use crate::machine::{CorruptState, KvChange, Position, StateMachine};
use crate::quorum::{Opened, QuorumOptions, open};
use crate::types::TypeConfig;

/// Every fact is one key and value.
#[derive(Default)]
struct Pairs(BTreeMap<Bytes, Bytes>);

impl StateMachine for Pairs {
    fn load(&mut self, entries: Vec<(Bytes, Bytes)>) -> Result<(), CorruptState> {
        self.0 = entries.into_iter().collect();
        Ok(())
    }

    fn apply(&mut self, _at: Position, facts: &[Bytes]) -> Vec<KvChange> {
        facts.iter().map(|fact| KvChange::Put { key: fact.clone(), value: fact.clone() }).collect()
    }
}

struct Builder {
    kv: KvKind,
    runtime: tokio::runtime::Handle,
    built: AtomicU64,
}

/// Keeps a store's directory as long as its test runs.
struct Guard {
    _dir: Option<tempfile::TempDir>,
}

impl StoreBuilder<TypeConfig, LogStore, Applier<Pairs>, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, Applier<Pairs>), StorageError<TypeConfig>> {
        let (dir, path, fs): (_, PathBuf, Arc<dyn Fs>) = match self.kv {
            KvKind::Memory => {
                // Two members of one test must not have the same directory.
                let number = self.built.fetch_add(1, Ordering::Relaxed);
                (None, format!("/quorum-{number}").into(), Arc::new(SimFs::new(1)))
            }
            KvKind::Sled => {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("quorum");
                (Some(dir), path, Arc::new(RealFs))
            }
        };
        let mut options = QuorumOptions::new(path, fs, NodeId(0));
        options.kv = self.kv;
        options.new_dir_id = DirId(Uuid::from_bytes([1; 16]));
        options.log_file_bytes_max = 2048;
        let Opened { log, applier, .. } = self
            .runtime
            .spawn_blocking(move || open(&options, Pairs::default()).unwrap())
            .await
            .unwrap();
        Ok((Guard { _dir: dir }, log, applier))
    }
}

async fn run(kv: KvKind) {
    let builder =
        Builder { kv, runtime: tokio::runtime::Handle::current(), built: AtomicU64::new(0) };
    Suite::test_all(builder).await.unwrap();
}

// The suite sleeps for what stores may do in the background; ours do nothing there.
#[tokio::test(start_paused = true)]
async fn the_storage_suite_passes_over_simulated_files_and_state_in_memory() {
    run(KvKind::Memory).await;
}

#[tokio::test(start_paused = true)]
async fn the_storage_suite_passes_over_real_files_and_state_on_disk() {
    run(KvKind::Sled).await;
}
