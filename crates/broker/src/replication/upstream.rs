//! The follower's side of replication streams: one for each broker that leads partitions followed here.
//!
//! ```text
//!  partitions ─ list themselves ─► Upstream ─► handshakes, reports, responses taken in ─► leader
//!  partitions ◄── answers, checked pushes ◄──────────────────────────────────────────── leader
//! ```
//!
//! A stream is opened when a partition has something to say to the leader, and opened again, after waits that grow, as long as one has. When
//! it breaks, every partition that follows that leader is told, and asks anew.

mod exchange;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_metadata_core::Endpoint;
use thalweg_metadata_feed::Feed;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId};
use tokio::task::JoinSet;

use super::{Hub, Mailbox};
use crate::admission::Admission;
use crate::hosting::Hosted;
use crate::partition::Partition;

/// Waits between attempts to open a stream to a leader.
const RETRY_WAIT_FIRST: Duration = Duration::from_millis(20);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);

/// A stream that lived this long was a good one: the next attempt does not wait.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// What partitions have to say to one leader.
#[derive(Debug)]
pub(crate) struct Upstream {
    leader: NodeId,
    pub(crate) outbox: Mailbox<Arc<Partition>>,
}

/// All of them, and the leaders for which nobody sends yet.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    /// At most one for each node there ever was.
    by_leader: Mutex<HashMap<NodeId, Arc<Upstream>>>,
    unserved: Mailbox<Arc<Upstream>>,
    /// Numbers the streams opened in this session, whomever to.
    streams: AtomicU64,
}

/// What it takes to follow.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) hub: Arc<Hub>,
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) feed: Feed,
    pub(crate) admission: Arc<Admission>,
}

impl Upstreams {
    pub(crate) fn get(&self, leader: NodeId) -> Arc<Upstream> {
        let mut by_leader = self.by_leader.lock();
        let upstream = by_leader.entry(leader).or_insert_with(|| {
            let upstream = Arc::new(Upstream { leader, outbox: Mailbox::default() });
            self.unserved.put(Arc::clone(&upstream));
            upstream
        });
        Arc::clone(upstream)
    }

    fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Keeps a stream to every leader that is followed here.
pub(crate) async fn follow_leaders(following: Arc<Following>) {
    let mut tasks = JoinSet::new();
    loop {
        for upstream in following.hub.upstreams.unserved.take().await {
            tasks.spawn(follow_leader(Arc::clone(&following), upstream));
        }
    }
}

async fn follow_leader(following: Arc<Following>, upstream: Arc<Upstream>) {
    let mut wait = RETRY_WAIT_FIRST;
    loop {
        upstream.outbox.filled().await;
        let began = tokio::time::Instant::now();
        let error = following.exchange(&upstream).await;
        let lived = began.elapsed();
        let leader = upstream.leader;
        if wait == RETRY_WAIT_FIRST {
            tracing::warn!(%leader, %error, "the stream to the leader is gone, and is opened again");
        } else {
            tracing::debug!(%leader, %error, "no stream to the leader");
        }
        for partition in following.hosted.all() {
            partition.handle_leader_gone(upstream.leader);
        }
        wait = if lived >= GOOD_LIFE { RETRY_WAIT_FIRST } else { (wait * 2).min(RETRY_WAIT_MAX) };
        tokio::time::sleep(wait).await;
    }
}

impl Following {
    /// `host:port` of the listener where brokers call the leader.
    fn address(&self, leader: NodeId) -> Result<String, Error> {
        let unknown = |what: &str| {
            let message = format!("node {leader} {what}");
            Error::new(ErrorCode::BrokerNotAvailable, message)
        };
        let image = self.feed.image();
        let node = image.node(leader).ok_or_else(|| unknown("is not registered"))?;
        let endpoint = node.endpoint(Endpoint::INTERNAL);
        Ok(endpoint.ok_or_else(|| unknown("has no internal listener"))?.address())
    }
}
