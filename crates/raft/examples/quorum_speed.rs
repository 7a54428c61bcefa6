//! Measures a quorum of one on a real disk: time from nothing, and from a restart, to a serving leader, and durable proposals a second.
//!
//! ```sh
//! cargo run --release -p thalweg-raft --example quorum_speed -- <empty directory> [writers] [seconds]
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thalweg_env::fs::RealFs;
use thalweg_raft::{CorruptState, KvChange, Position, Quorum, QuorumOptions, StateMachine};
use thalweg_types::{DirId, NodeId, Uuid};

/// About the size of a partition's change.
const FACT_BYTES: usize = 100;

/// Keys that are overwritten over and over: the state stays small.
const KEY_COUNT: u64 = 10_000;

/// Stores each fact under one of a few keys.
struct Sink;

impl StateMachine for Sink {
    fn load(&mut self, _entries: Vec<(Bytes, Bytes)>) -> Result<(), CorruptState> {
        Ok(())
    }

    fn apply(&mut self, at: Position, facts: &[Bytes]) -> Vec<KvChange> {
        let key = Bytes::copy_from_slice(&(at.index.0 % KEY_COUNT).to_be_bytes());
        facts.iter().map(|value| KvChange::Put { key: key.clone(), value: value.clone() }).collect()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("give an empty directory")?;
    let writers: u64 = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;

    let quorum = timed_start("first start", &dir).await?;
    propose_for(&Arc::new(quorum), writers, Duration::from_secs(seconds)).await?;
    let quorum = timed_start("restart", &dir).await?;
    quorum.shutdown().await;
    Ok(())
}

async fn timed_start(what: &str, dir: &str) -> Result<Quorum, Box<dyn Error>> {
    let mut options = QuorumOptions::new(dir, Arc::new(RealFs), NodeId(1));
    options.new_dir_id = DirId(Uuid::from_bytes([1; 16]));
    let started = Instant::now();
    let quorum = Quorum::start(options, Sink).await?;
    println!("{what} to serving leader: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    Ok(quorum)
}

async fn propose_for(
    quorum: &Arc<Quorum>,
    writers: u64,
    duration: Duration,
) -> Result<(), Box<dyn Error>> {
    let flushes_before = quorum.log_counters().flush_count();
    let committed = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (quorum, committed) = (quorum.clone(), committed.clone());
            tokio::spawn(async move {
                let fact = Bytes::from(vec![b'x'; FACT_BYTES]);
                while started.elapsed() < duration {
                    quorum.propose(vec![fact.clone()]).await?;
                    committed.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), thalweg_raft::ProposeError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let committed = committed.load(Ordering::Relaxed);
    let flushes = quorum.log_counters().flush_count() - flushes_before;
    println!(
        "{writers} writers: {:.0} proposals/s, {:.0} flushes/s, {:.1} proposals a flush",
        committed as f64 / elapsed,
        flushes as f64 / elapsed,
        committed as f64 / flushes as f64
    );
    quorum.shutdown().await;
    Ok(())
}
