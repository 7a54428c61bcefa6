//! A quorum of one, from outside: what survives restarts, crashes and damage, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use thalweg_env::fs::{
    DirEntry, DirLock, EntryKind, Fault, File, Fs, OpenMode, RealFs, SimFs, Space,
};
use thalweg_raft::{
    CorruptState, KvChange, KvKind, Leadership, Position, ProposeError, Quorum, QuorumOptions,
    StartError, StateMachine,
};
use thalweg_types::{DirId, LogIndex, NodeId, Outcome, Uuid};

type State = Arc<Mutex<BTreeMap<Bytes, Bytes>>>;

/// A fact `key=value` puts, a fact `key` deletes. The test holds the other end of the state.
#[derive(Default, Clone)]
struct Table {
    state: State,
}

impl StateMachine for Table {
    fn load(&mut self, entries: Vec<(Bytes, Bytes)>) -> Result<(), CorruptState> {
        *self.state.lock() = entries.into_iter().collect();
        Ok(())
    }

    fn apply(&mut self, _at: Position, facts: &[Bytes]) -> Vec<KvChange> {
        let mut state = self.state.lock();
        let mut changes = Vec::new();
        for fact in facts {
            match fact.iter().position(|byte| *byte == b'=') {
                Some(at) => {
                    let (key, value) = (fact.slice(..at), fact.slice(at + 1..));
                    state.insert(key.clone(), value.clone());
                    changes.push(KvChange::Put { key, value });
                }
                None => {
                    state.remove(fact);
                    changes.push(KvChange::Delete { key: fact.clone() });
                }
            }
        }
        changes
    }
}

/// A member's place on a disk.
#[derive(Clone)]
struct Place {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    kv: KvKind,
}

impl Place {
    fn simulated(fs: &SimFs) -> Self {
        Self { fs: Arc::new(fs.clone()), dir: "/quorum".into(), kv: KvKind::Memory }
    }

    fn real(dir: &tempfile::TempDir) -> Self {
        Self { fs: Arc::new(RealFs), dir: dir.path().join("quorum"), kv: KvKind::Sled }
    }

    fn options(&self) -> QuorumOptions {
        let mut options = QuorumOptions::new(&self.dir, self.fs.clone(), NodeId(1));
        options.kv = self.kv;
        options.new_dir_id = DirId(Uuid::from_bytes([1; 16]));
        options.log_file_bytes_max = 16 * 1024;
        options.snapshot_after_entries = 50;
        options.entries_kept = 10;
        options
    }

    async fn start(&self) -> (Quorum, State) {
        let table = Table::default();
        let state = table.state.clone();
        (Quorum::start(self.options(), table).await.unwrap(), state)
    }

    async fn refusal(&self) -> StartError {
        match Quorum::start(self.options(), Table::default()).await {
            Ok(_) => panic!("the quorum started"),
            Err(error) => error,
        }
    }
}

fn fact(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn table(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<Bytes, Bytes> {
    pairs.into_iter().map(|(key, value)| (Bytes::from(key), Bytes::from(value))).collect()
}

async fn propose_numbers(quorum: &Quorum, numbers: std::ops::Range<u32>) {
    for number in numbers {
        quorum.propose(vec![fact(&format!("{number}=value {number}"))]).await.unwrap();
    }
}

fn numbers(numbers: std::ops::Range<u32>) -> BTreeMap<Bytes, Bytes> {
    table(numbers.map(|number| (number.to_string(), format!("value {number}"))))
}

/// Runs one test over a member in memory and one on a real disk.
async fn over_every_place<F: Future<Output = ()>>(test: impl Fn(Place) -> F) {
    test(Place::simulated(&SimFs::new(1))).await;
    let dir = tempfile::tempdir().unwrap();
    test(Place::real(&dir)).await;
}

// ---- Serving ------------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_new_quorum_leads_when_started_and_applies_what_is_proposed() {
    over_every_place(async |place: Place| {
        let (quorum, state) = place.start().await;
        assert!(matches!(*quorum.leadership().borrow(), Leadership::Leading { .. }));

        let first = quorum.propose(vec![fact("a=1"), fact("b=2")]).await.unwrap();
        let second = quorum.propose(vec![fact("a"), fact("c=3")]).await.unwrap();

        assert_eq!(second, LogIndex(first.0 + 1));
        assert_eq!(*state.lock(), table([("b".into(), "2".into()), ("c".into(), "3".into())]));
        assert!(quorum.ensure_linearizable().await.unwrap() >= second);
        quorum.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_finds_everything_and_leads_in_a_later_epoch() {
    over_every_place(async |place: Place| {
        let (quorum, _) = place.start().await;
        let Leadership::Leading { epoch } = *quorum.leadership().borrow() else { panic!() };
        propose_numbers(&quorum, 0..20).await;
        quorum.shutdown().await;

        let (quorum, state) = place.start().await;

        assert_eq!(*state.lock(), numbers(0..20));
        let Leadership::Leading { epoch: later } = *quorum.leadership().borrow() else { panic!() };
        assert!(later > LogIndex(epoch.0 + 20), "{later} after {epoch} and twenty entries");
        propose_numbers(&quorum, 20..25).await;
        assert_eq!(*state.lock(), numbers(0..25));
        quorum.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn snapshot_purge_and_restart_keep_the_state() {
    over_every_place(async |place: Place| {
        let (quorum, _) = place.start().await;
        propose_numbers(&quorum, 0..400).await;
        let snapshot = quorum.snapshot().await.unwrap();
        assert!(snapshot >= LogIndex(400));
        propose_numbers(&quorum, 400..405).await;
        quorum.shutdown().await;
        let first_file = place.dir.join("log/00000000000000000000.log");
        assert_eq!(place.fs.kind(&first_file).unwrap(), None, "the log was not purged");
        assert_eq!(place.fs.list(&place.dir.join("snapshots")).unwrap().len(), 1);

        let (quorum, state) = place.start().await;

        assert_eq!(*state.lock(), numbers(0..405));
        quorum.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn concurrent_proposals_share_flushes() {
    let slow = SlowFs { fs: SimFs::new(1), flush_takes: Duration::from_millis(100) };
    let place = Place { fs: Arc::new(slow), dir: "/quorum".into(), kv: KvKind::Memory };
    let (quorum, state) = place.start().await;
    let flushes_before = quorum.log_counters().flush_count();
    let records_before = quorum.log_counters().record_count();

    let proposals = (0..128).map(|number| propose_numbers(&quorum, number..number + 1));
    futures_util::future::join_all(proposals).await;

    assert_eq!(*state.lock(), numbers(0..128));
    // The entries, and perhaps a purge behind a snapshot.
    let record_count = quorum.log_counters().record_count() - records_before;
    assert!((128..=132).contains(&record_count), "{record_count} records for 128 proposals");
    // All are handed over while the first flush runs, if this test is not kept from running for as long as that takes.
    let flush_count = quorum.log_counters().flush_count() - flushes_before;
    assert!(flush_count <= 8, "{flush_count} flushes for 128 proposals");
    quorum.shutdown().await;
}

#[tokio::test]
async fn proposals_that_cannot_be_taken_say_that_nothing_happened() {
    let (quorum, state) = Place::simulated(&SimFs::new(1)).start().await;

    let too_large = quorum.propose(vec![Bytes::from(vec![0; 9 << 20])]).await.unwrap_err();
    assert!(matches!(too_large, ProposeError::TooLarge { .. }));
    assert_eq!(too_large.outcome(), Outcome::NotApplied);

    quorum.shutdown().await;
    let stopped = quorum.propose(vec![fact("a=1")]).await.unwrap_err();
    assert!(matches!(stopped, ProposeError::Stopped { .. }));
    assert_eq!(stopped.outcome(), Outcome::NotApplied);
    assert_eq!(*quorum.leadership().borrow(), Leadership::Stopped);
    assert!(state.lock().is_empty());
}

// ---- Crashes ------------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_killed_member_finds_every_acknowledged_proposal() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::real(&dir);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let killed = place.clone();
    runtime
        .spawn(async move {
            let (quorum, _) = killed.start().await;
            propose_numbers(&quorum, 0..120).await;
            // No shutdown: whatever was not written yet is lost.
            drop(quorum);
        })
        .await
        .unwrap();
    runtime.shutdown_background();
    tokio::time::sleep(Duration::from_millis(300)).await;

    let (quorum, state) = place.start().await;

    assert_eq!(*state.lock(), numbers(0..120));
    quorum.shutdown().await;
}

#[tokio::test]
async fn a_power_cut_at_any_moment_loses_no_acknowledged_proposal() {
    let whole = SimFs::new(0);
    let (quorum, _) = Place::simulated(&whole).start().await;
    propose_numbers(&quorum, 0..80).await;
    quorum.shutdown().await;
    let operation_count = whole.operations();

    // Every operation costs a start; a stride that is prime to the pattern of the operations meets all kinds.
    for (seed, operation) in (0..operation_count).step_by(7).enumerate() {
        let disk = SimFs::new(seed as u64);
        disk.inject(operation, Fault::PowerCut);
        let place = Place::simulated(&disk);
        let mut acknowledged = 0;
        if let Ok(quorum) = Quorum::start(place.options(), Table::default()).await {
            while acknowledged < 80 {
                let text = format!("{acknowledged}=value {acknowledged}");
                match quorum.propose(vec![fact(&text)]).await {
                    Ok(_) => acknowledged += 1,
                    Err(error) => {
                        assert!(!disk.is_powered(), "operation {operation}: {error}");
                        break;
                    }
                }
            }
            quorum.shutdown().await;
        }
        disk.restart_after_power_cut();

        let (quorum, state) = place.start().await;

        let found = u32::try_from(state.lock().len()).unwrap();
        let possible = acknowledged..=acknowledged + 1;
        assert!(possible.contains(&found), "operation {operation}: {found} of {acknowledged}");
        assert_eq!(*state.lock(), numbers(0..found), "operation {operation}");
        quorum.shutdown().await;
    }
}

#[tokio::test]
async fn a_failed_flush_stops_the_member_and_leaves_the_outcome_unknown() {
    let disk = SimFs::new(1);
    let (quorum, _) = Place::simulated(&disk).start().await;
    propose_numbers(&quorum, 0..3).await;
    for operation in 0..2 {
        disk.inject(disk.operations() + operation, Fault::Io);
    }

    let failed = quorum.propose(vec![fact("a=1")]).await.unwrap_err();

    assert_eq!(failed.outcome(), Outcome::Unknown, "{failed}");
    let mut leadership = quorum.leadership();
    leadership.wait_for(|now| *now == Leadership::Stopped).await.unwrap();
    quorum.shutdown().await;
}

// ---- Damage -------------------------------------------------------------------------------------------------------------------

/// Changes every byte of every file below a directory.
fn scramble(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scramble(&path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, bytes.iter().map(|byte| byte ^ 0x5a).collect::<Vec<_>>())
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_damaged_state_directory_is_set_aside_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::real(&dir);
    let (quorum, _) = place.start().await;
    propose_numbers(&quorum, 0..120).await;
    quorum.snapshot().await.unwrap();
    propose_numbers(&quorum, 120..130).await;
    quorum.shutdown().await;
    scramble(&place.dir.join("state"));

    let (quorum, state) = place.start().await;

    assert_eq!(*state.lock(), numbers(0..130));
    assert!(place.dir.join("state.damaged").is_dir());
    propose_numbers(&quorum, 130..131).await;
    quorum.shutdown().await;
    let (quorum, state) = place.start().await;
    assert_eq!(*state.lock(), numbers(0..131));
    quorum.shutdown().await;
}

#[tokio::test]
async fn a_flipped_byte_anywhere_in_the_state_directory_never_changes_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::real(&dir);
    let (quorum, _) = place.start().await;
    propose_numbers(&quorum, 0..60).await;
    quorum.snapshot().await.unwrap();
    quorum.shutdown().await;
    let db = place.dir.join("state/db");
    let whole = std::fs::read(&db).unwrap();
    let used_bytes = whole.iter().rposition(|byte| *byte != 0).unwrap();

    for position in (0..used_bytes).step_by(used_bytes / 16) {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x04;
        std::fs::write(&db, bytes).unwrap();
        let (quorum, state) = place.start().await;
        assert_eq!(*state.lock(), numbers(0..60), "byte {position}");
        quorum.shutdown().await;
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_replaced_when_the_stored_state_has_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::real(&dir);
    let (quorum, _) = place.start().await;
    propose_numbers(&quorum, 0..400).await;
    quorum.snapshot().await.unwrap();
    quorum.shutdown().await;
    scramble(&place.dir.join("snapshots"));

    let (quorum, state) = place.start().await;

    assert_eq!(*state.lock(), numbers(0..400));
    quorum.shutdown().await;
    // The state directory alone could not be rebuilt without a new snapshot.
    std::fs::remove_dir_all(place.dir.join("state")).unwrap();
    let (quorum, state) = place.start().await;
    assert_eq!(*state.lock(), numbers(0..400));
    quorum.shutdown().await;
}

// ---- Refusals -----------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    over_every_place(async |place: Place| {
        let (quorum, _) = place.start().await;

        assert!(matches!(place.refusal().await, StartError::InUse { .. }));
        quorum.shutdown().await;
        place.start().await.0.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn state_without_its_log_is_refused_because_the_vote_is_gone() {
    over_every_place(async |place: Place| {
        let (quorum, _) = place.start().await;
        propose_numbers(&quorum, 0..60).await;
        quorum.snapshot().await.unwrap();
        quorum.shutdown().await;
        let log = place.dir.join("log");
        for entry in place.fs.list(&log).unwrap() {
            place.fs.remove_file(&log.join(entry.name)).unwrap();
        }

        assert!(matches!(place.refusal().await, StartError::VoteLost { .. }));
        // Nor when nothing says any more that there was an identity: the stored state does, where it is on a disk.
        if place.kv == KvKind::Sled {
            place.fs.remove_file(&place.dir.join("quorum.meta")).unwrap();
            assert!(matches!(place.refusal().await, StartError::LogLost { .. }));
        }
    })
    .await;
}

#[tokio::test]
async fn a_purged_log_without_snapshot_and_state_is_refused() {
    let place = Place::simulated(&SimFs::new(1));
    let (quorum, _) = place.start().await;
    propose_numbers(&quorum, 0..400).await;
    quorum.snapshot().await.unwrap();
    quorum.shutdown().await;
    let snapshots = place.dir.join("snapshots");
    for entry in place.fs.list(&snapshots).unwrap() {
        place.fs.remove_file(&snapshots.join(entry.name)).unwrap();
    }

    assert!(matches!(place.refusal().await, StartError::StateLost { .. }));
}

#[tokio::test]
async fn another_members_directory_is_refused() {
    let place = Place::simulated(&SimFs::new(1));
    place.start().await.0.shutdown().await;
    let mut options = place.options();
    options.node_id = NodeId(2);

    let refused = Quorum::start(options, Table::default()).await.err().unwrap();

    assert!(matches!(refused, StartError::NotAMember { .. }), "{refused}");
    // And left as it was.
    place.start().await.0.shutdown().await;
}

// ---- A slow disk --------------------------------------------------------------------------------------------------------------

/// A disk whose flushes take their time, so that what comes meanwhile must wait.
#[derive(Debug)]
struct SlowFs {
    fs: SimFs,
    flush_takes: Duration,
}

#[derive(Debug)]
struct SlowFile {
    file: Arc<dyn File>,
    flush_takes: Duration,
}

impl Fs for SlowFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.fs.open(path, mode)?;
        Ok(Arc::new(SlowFile { file, flush_takes: self.flush_takes }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.fs.list(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.fs.kind(path)
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.fs.rename(source, target)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.sync_dir(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.fs.space(path)
    }

    fn lock_dir(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.fs.lock_dir(path)
    }
}

impl File for SlowFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_cached_at(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.file.read_cached_at(buffer, position)
    }

    fn write_all_vectored_at(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_all_vectored_at(slices, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(self.flush_takes);
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }
}
