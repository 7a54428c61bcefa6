//! Replication: what stands between the partitions here and their other replicas.
//!
//! The rules are `replication-core`'s; each [`Partition`](crate::partition::Partition) drives one of its replicas under its own lock. What
//! the partitions of a broker share is here:
//!
//! | read | for |
//! |---|---|
//! | `serving` | the leader's side of the streams between brokers |
//! | `upstream` | the follower's side |
//! | `wire` | their messages |
//! | `proposals` | what leaders propose to the controller, and who is unfit |
//! | `cuts` | cutting a follower's log to its leader's |
//! | `deadlines` | one timer for all partitions |
//! | `lease` | how long this broker may take itself for alive (R11) |
//! | `mailbox` | what partitions want done elsewhere, gathered until somebody does it |
//! | `registration` | from the metadata image to what the rules go by |

mod cuts;
mod deadlines;
mod lease;
mod mailbox;
mod proposals;
mod registration;
mod serving;
mod upstream;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thalweg_env::Clock;
use thalweg_metadata_core::config::BrokerConfig;
use thalweg_metadata_core::{Image, StaticConfigs};
use thalweg_replication_core::{Fitness, Identity, Proposal, Replica, Timing};
use thalweg_types::{Moment, NodeId, TopicIdPartition};

use crate::hosting::Hosted;
use crate::partition::Partition;
pub(crate) use cuts::make_cuts;
use deadlines::Deadlines;
pub(crate) use lease::Lease;
pub(crate) use mailbox::Mailbox;
pub(crate) use proposals::{propose, report_unfit};
pub(crate) use registration::{of_image, peers};
pub use serving::ReplicationService;
pub(crate) use serving::{FollowerStream, Throttle};
pub(crate) use upstream::{Following, follow_leaders};
use upstream::{Upstream, Upstreams};

/// What all partitions of a broker share for replication.
#[derive(Debug)]
pub(crate) struct Hub {
    me: Identity,
    timing: Timing,
    /// As they hold now.
    configs: ArcSwap<Configs>,
    /// What replicas that are catching up are pushed, all together.
    pub(crate) catch_up: Mutex<Throttle>,
    clock: Arc<dyn Clock>,
    pub(crate) lease: Lease,
    pub(crate) deadlines: Deadlines,
    /// To the controller; what becomes of each is always told to its partition.
    pub(crate) proposals: Mailbox<(TopicIdPartition, Proposal)>,
    /// To the controller: replicas here whose data may be incomplete.
    pub(crate) unfit: Mailbox<(TopicIdPartition, Fitness)>,
    /// Followers whose logs are to be cut.
    pub(crate) cuts: Mailbox<Arc<Partition>>,
    upstreams: Upstreams,
}

/// The configs that replication goes by.
#[derive(Debug, Default)]
struct Configs {
    own: BrokerConfig,
    /// How fast each broker's replicas may catch up.
    followers: HashMap<NodeId, u64>,
}

impl Hub {
    pub(crate) fn new(me: Identity, timing: Timing, lease: Lease, clock: Arc<dyn Clock>) -> Self {
        Self {
            me,
            timing,
            configs: ArcSwap::default(),
            catch_up: Mutex::default(),
            clock,
            lease,
            deadlines: Deadlines::default(),
            proposals: Mailbox::default(),
            unfit: Mailbox::default(),
            cuts: Mailbox::default(),
            upstreams: Upstreams::default(),
        }
    }

    /// Where what is to be said to a leader is put.
    pub(crate) fn upstream(&self, leader: NodeId) -> Arc<Upstream> {
        self.upstreams.get(leader)
    }

    pub(crate) fn me(&self) -> Identity {
        self.me
    }

    /// This broker's configs as they hold now.
    pub(crate) fn configs(&self) -> BrokerConfig {
        self.configs.load().own
    }

    /// Takes over what the metadata says now.
    pub(crate) fn configure(&self, image: &Image, settings: &StaticConfigs) {
        let own = BrokerConfig::resolve(image, self.me.node, settings);
        let nobodys = StaticConfigs::default();
        let rate = |id| BrokerConfig::resolve(image, id, &nobodys).follower_catch_up_rate;
        let followers = image.nodes().map(|node| (node.id, rate(node.id))).collect();
        self.configs.store(Arc::new(Configs { own, followers }));
    }

    /// Bytes a second that a follower wants to be pushed at most while it catches up.
    pub(crate) fn follower_catch_up_rate(&self, node: NodeId) -> u64 {
        self.configs.load().followers.get(&node).copied().unwrap_or(u64::MAX)
    }

    /// The machine's monotonic clock, as the rules measure time.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.clock.monotonic_ns() / 1_000_000)
    }

    /// A replica of a log as recovery found it.
    pub(crate) fn replica(&self, fitness: Fitness) -> Replica {
        Replica::new(self.me, fitness, self.timing)
    }
}

/// Wakes every partition at the moments it has asked for.
pub(crate) async fn watch_deadlines(hub: Arc<Hub>, hosted: Arc<Hosted>) {
    loop {
        let first = hub.deadlines.first();
        let left = first.map_or(Duration::MAX, |at| Duration::from_millis(at.ms_since(hub.now())));
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = hub.deadlines.changed() => {}
        }
        for (deadline, id) in hub.deadlines.passed(hub.now()) {
            if let Some(partition) = hosted.get(id) {
                partition.handle_deadline(deadline);
            }
        }
    }
}
