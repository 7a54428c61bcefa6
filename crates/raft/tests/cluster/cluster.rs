//! Members in one process, each on a simulated disk, and what must be true of them at every moment.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use thalweg_env::fs::{Fs, SimFs};
use thalweg_raft::{
    ChangeError, CorruptState, KvChange, KvKind, Leadership, Position, Quorum, QuorumOptions,
    StartError, StateMachine, Voter,
};
use thalweg_types::{DirId, LogIndex, NodeId, Uuid};

use super::wires::Wires;

/// Longer than anything here takes on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const HEARTBEAT: Duration = Duration::from_millis(30);
pub(crate) const ELECTION: Duration = Duration::from_millis(150);

/// What was applied, by log index: the epoch and the fact.
pub(crate) type Applied = BTreeMap<u64, (u64, Bytes)>;

/// Every fact that any member has ever applied. Two that differ at one index are the end of the test.
#[derive(Clone, Default)]
pub(crate) struct Truth(Arc<Mutex<Applied>>);

impl Truth {
    fn agree(&self, index: u64, entry: &(u64, Bytes)) {
        let mut truth = self.0.lock();
        let known = truth.entry(index).or_insert_with(|| entry.clone());
        assert_eq!(known, entry, "two members applied different entries at index {index}");
    }
}

/// Keeps everything it was told to apply, as the state.
pub(crate) struct Ledger {
    truth: Truth,
    applied: Arc<Mutex<Applied>>,
}

impl StateMachine for Ledger {
    fn load(&mut self, entries: Vec<(Bytes, Bytes)>) -> Result<(), CorruptState> {
        let mut applied = Applied::new();
        for (key, value) in entries {
            let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
            let entry = (number(&value[..8]), value.slice(8..));
            self.truth.agree(number(&key), &entry);
            applied.insert(number(&key), entry);
        }
        *self.applied.lock() = applied;
        Ok(())
    }

    fn apply(&mut self, at: Position, facts: &[Bytes]) -> Vec<KvChange> {
        let (index, epoch) = (at.index.0, at.epoch.0);
        let entry = (epoch, facts.concat().into());
        self.truth.agree(index, &entry);
        let mut applied = self.applied.lock();
        if let Some((last, (last_epoch, _))) = applied.last_key_value() {
            assert!(
                *last < index && *last_epoch <= epoch && epoch <= index,
                "{last} before {index}"
            );
        }
        let value = [&epoch.to_be_bytes()[..], &entry.1].concat();
        applied.insert(index, entry);
        vec![KvChange::Put {
            key: Bytes::copy_from_slice(&index.to_be_bytes()),
            value: value.into(),
        }]
    }
}

/// One member's disk, and its life if it is up.
pub(crate) struct Place {
    pub(crate) disk: SimFs,
    dir_id: DirId,
    pub(crate) quorum: Option<Arc<Quorum>>,
    pub(crate) applied: Arc<Mutex<Applied>>,
}

pub(crate) struct Cluster {
    pub(crate) wires: Wires,
    truth: Truth,
    pub(crate) places: BTreeMap<u64, Place>,
    /// What was acknowledged, by index.
    acknowledged: BTreeMap<u64, Bytes>,
    /// Who led in which epoch.
    leaders: BTreeMap<LogIndex, u64>,
    next_fact: u64,
    pub(crate) voters: Vec<Voter>,
}

pub(crate) fn endpoint(id: u64) -> String {
    format!("member-{id}")
}

impl Cluster {
    /// Members with empty disks, none of them up.
    pub(crate) fn new(seed: u64, ids: impl IntoIterator<Item = u64> + Clone) -> Self {
        let voters =
            ids.clone().into_iter().map(|id| Voter { node_id: id, endpoint: endpoint(id) });
        let mut cluster = Self {
            wires: Wires::default(),
            truth: Truth::default(),
            places: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            leaders: BTreeMap::new(),
            next_fact: 0,
            voters: voters.collect(),
        };
        for id in ids {
            cluster.new_place(id, seed);
        }
        cluster
    }

    /// All up, and one of them leads.
    pub(crate) async fn formed(seed: u64, ids: impl IntoIterator<Item = u64> + Clone) -> Self {
        let mut cluster = Self::new(seed, ids.clone());
        for id in ids {
            cluster.start(id).await.unwrap();
        }
        cluster.form().await;
        cluster.leader().await;
        cluster
    }

    pub(crate) fn new_place(&mut self, id: u64, seed: u64) {
        let bits = (u128::from(seed) << 64) | u128::from(id);
        let place = Place {
            disk: SimFs::new(seed * 100 + id),
            dir_id: DirId(Uuid::from_random_bits(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c))),
            quorum: None,
            applied: Arc::default(),
        };
        self.places.insert(id, place);
    }

    pub(crate) async fn start(&mut self, id: u64) -> Result<(), StartError> {
        let place = self.places.get_mut(&id).unwrap();
        let fs: Arc<dyn Fs> = Arc::new(place.disk.clone());
        let mut options = QuorumOptions::new("/quorum", fs, NodeId(i32::try_from(id).unwrap()));
        options.new_dir_id = place.dir_id;
        options.endpoint = endpoint(id);
        options.kv = KvKind::Memory;
        options.log_file_bytes_max = 8 * 1024;
        options.snapshot_after_entries = 60;
        options.entries_kept = 10;
        options.heartbeat_interval = HEARTBEAT;
        options.election_timeout = ELECTION;
        place.applied = Arc::default();
        let ledger = Ledger { truth: self.truth.clone(), applied: Arc::clone(&place.applied) };
        let quorum = Arc::new(Quorum::open(options, ledger, self.wires.wire(id)).await?);
        self.wires.plug_in(id, &quorum);
        place.quorum = Some(quorum);
        Ok(())
    }

    /// Everybody who is up finds or makes the quorum.
    pub(crate) async fn form(&self) {
        let forming = self.up().map(|(_, quorum)| quorum.form(&self.voters));
        let formed = tokio::time::timeout(PATIENCE, futures_util::future::join_all(forming)).await;
        for formed in formed.unwrap() {
            formed.unwrap();
        }
    }

    /// The machine of a member loses its power: what was not flushed may be gone.
    pub(crate) async fn crash(&mut self, id: u64) {
        self.wires.unplug(id);
        let place = self.places.get_mut(&id).unwrap();
        place.disk.restart_after_power_cut();
        if let Some(quorum) = place.quorum.take() {
            quorum.shutdown().await;
        }
    }

    pub(crate) fn up(&self) -> impl Iterator<Item = (u64, &Arc<Quorum>)> {
        self.places.iter().filter_map(|(id, place)| Some((*id, place.quorum.as_ref()?)))
    }

    pub(crate) fn quorum(&self, id: u64) -> Arc<Quorum> {
        Arc::clone(self.places[&id].quorum.as_ref().unwrap())
    }

    /// Whoever leads now, if anybody, after checking that nobody else ever led in that epoch.
    pub(crate) fn leader_now(&mut self) -> Option<u64> {
        let leading = self.up().filter_map(|(id, quorum)| match *quorum.leadership().borrow() {
            Leadership::Leading { epoch } => Some((epoch, id)),
            _ => None,
        });
        let leading: Vec<_> = leading.collect();
        for (epoch, id) in &leading {
            let known = *self.leaders.entry(*epoch).or_insert(*id);
            assert_eq!(known, *id, "two leaders in epoch {epoch}");
        }
        leading.into_iter().max().map(|(_, id)| id)
    }

    pub(crate) async fn leader(&mut self) -> u64 {
        let waiting = tokio::time::Instant::now();
        loop {
            if let Some(id) = self.leader_now() {
                return id;
            }
            assert!(waiting.elapsed() < PATIENCE, "nobody leads");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A change of the membership or the lead, asked of whoever leads, until it is done.
    pub(crate) async fn change(&mut self, call: impl AsyncFn(&Quorum) -> Result<(), ChangeError>) {
        let waiting = tokio::time::Instant::now();
        while let Err(error) = self.try_change(&call).await {
            let passing = matches!(
                error,
                ChangeError::UnderWay
                    | ChangeError::OutcomeUnknown { .. }
                    | ChangeError::WouldLoseQuorum { .. }
            );
            assert!(passing && waiting.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What the leader says to a change, whoever it is at the time.
    pub(crate) async fn try_change(
        &mut self,
        call: impl AsyncFn(&Quorum) -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        let waiting = tokio::time::Instant::now();
        loop {
            let leader = self.leader().await;
            let quorum = self.quorum(leader);
            match call(&quorum).await {
                Err(ChangeError::NotLeader { .. }) if waiting.elapsed() < PATIENCE => {}
                other => return other,
            }
        }
    }

    /// One try to commit a fact, through the leader if there is one.
    pub(crate) async fn try_propose(&mut self) -> bool {
        let Some(leader) = self.leader_now() else { return false };
        let fact = Bytes::from(format!("fact {}", self.next_fact));
        self.next_fact += 1;
        let quorum = self.quorum(leader);
        let proposed = tokio::time::timeout(ELECTION * 2, quorum.propose(vec![fact.clone()])).await;
        let Ok(Ok(index)) = proposed else { return false };
        self.acknowledged.insert(index.0, fact);
        true
    }

    /// Commits so many facts, whatever it takes.
    pub(crate) async fn propose(&mut self, count: usize) {
        let waiting = tokio::time::Instant::now();
        let mut done = 0;
        while done < count {
            done += usize::from(self.try_propose().await);
            assert!(waiting.elapsed() < PATIENCE, "only {done} of {count} facts were committed");
            if self.leader_now().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// A read that succeeds must not be older than what was acknowledged before it began.
    pub(crate) async fn try_read(&mut self, id: u64) {
        let newest = self.acknowledged.keys().next_back().copied().unwrap_or(0);
        let Some(quorum) = self.places[&id].quorum.clone() else { return };
        let read = tokio::time::timeout(ELECTION, quorum.ensure_linearizable()).await;
        if let Ok(Ok(index)) = read {
            assert!(index.0 >= newest, "a read at {index} after {newest} was acknowledged");
            let applied = self.places[&id].applied.lock();
            let seen = applied.keys().next_back().copied().unwrap_or(0);
            assert!(seen >= newest, "applied up to {seen}, but {newest} was acknowledged");
        }
    }

    /// Waits until every member that is up has applied everything acknowledged, and checks it.
    pub(crate) async fn settle(&mut self) {
        self.propose(1).await;
        let newest = *self.acknowledged.keys().next_back().unwrap();
        let waiting = tokio::time::Instant::now();
        for (id, place) in self.places.iter().filter(|(_, place)| place.quorum.is_some()) {
            while !place.applied.lock().contains_key(&newest) {
                assert!(waiting.elapsed() < PATIENCE, "member {id} did not catch up to {newest}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let applied = place.applied.lock();
            for (index, fact) in &self.acknowledged {
                let found = applied.get(index).map(|(_, fact)| fact);
                assert_eq!(found, Some(fact), "member {id} lost what was acknowledged at {index}");
            }
        }
        let applied =
            self.places.values().find(|place| place.quorum.is_some()).unwrap().applied.lock();
        let mut facts: Vec<_> = applied.values().map(|(_, fact)| fact).collect();
        facts.sort();
        let count = facts.len();
        facts.dedup();
        assert_eq!(facts.len(), count, "a fact was committed twice");
    }

    pub(crate) fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    pub(crate) fn epoch_count(&self) -> usize {
        self.leaders.len()
    }

    pub(crate) async fn stop(mut self) {
        for place in self.places.values_mut() {
            if let Some(quorum) = place.quorum.take() {
                quorum.shutdown().await;
            }
        }
    }

    /// Names in a folder of the member's directory.
    pub(crate) fn files(&self, id: u64, folder: &str) -> Vec<String> {
        let listed = self.places[&id].disk.list(&Path::new("/quorum").join(folder)).unwrap();
        listed.into_iter().map(|entry| entry.name).collect()
    }

    pub(crate) fn remove_files(&self, id: u64, folder: &str) {
        let path = Path::new("/quorum").join(folder);
        for name in self.files(id, folder) {
            self.places[&id].disk.remove_file(&path.join(name)).unwrap();
        }
    }
}
