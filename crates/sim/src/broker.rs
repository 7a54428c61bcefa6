//! A simulated broker: the shell around the cores that a real one is, with its process, its disk and its clock.
//!
//! What it keeps that no core can: metadata is applied in order and without gaps; nothing leads or follows before the broker's own
//! registration is applied; a failed flush is the end of the process; a replica of which nothing is known is set aside, and deleted only
//! when a committed fact says so; a stream from a follower counts only until a newer one from it is there.

mod holds;
mod lifecycle;
mod metadata;
mod replicas;
mod serving;
mod streams;

use std::collections::BTreeMap;

use thalweg_log_core::Chain;
use thalweg_metadata_core::{HoldId, Image};
use thalweg_replication_core::{ControllerLease, Fitness, Identity, Replica, Timing};
use thalweg_types::{
    Acks, BrokerEpoch, ClusterId, DirId, IncarnationId, LeaderEpoch, Moment, NodeId, Offset,
    Timestamp, TopicIdPartition, Uuid,
};

use crate::disk::DiskLog;
use crate::env::{Env, ms};
use crate::log::Log;
use crate::message::{Ask, CONTROLLERS, FIRST_CONTROLLER, Host, Message};
use crate::quorum::{RETURN_MS, SESSION_MS};
use crate::rng::Rng;
use holds::Holds;

pub(crate) const TIMING: Timing = Timing { lag_ms_max: 3_000, retry_ms: 100 };

/// The wall clock when a run begins.
const WALL_START_MS: i64 = 1_700_000_000_000;

pub(crate) struct Broker {
    pub(crate) host: Host,
    /// Counts the starts of its process.
    pub(crate) life: u64,
    pub(crate) is_up: bool,
    pub(crate) disk: Disk,
    incarnation: IncarnationId,
    /// `None` until it is registered.
    session: Option<(NodeId, BrokerEpoch)>,
    /// Of the life before, when it ended cleanly.
    proof: Option<BrokerEpoch>,
    image: Image,
    lease: ControllerLease,
    lease_is_valid: bool,
    pub(crate) parts: BTreeMap<TopicIdPartition, Part>,
    /// Found on disk, and not known yet.
    stray: BTreeMap<TopicIdPartition, (Log, Fitness)>,
    /// To leaders.
    streams: BTreeMap<Host, u64>,
    /// The newest from each follower.
    newest: BTreeMap<Host, u64>,
    asked: BTreeMap<u64, Asked>,
    controller: usize,
    /// Writes that the flush under way covers.
    flushing: Option<u64>,
    is_dirty: bool,
    pub(crate) wants_shutdown: bool,
    /// Known to the simulation only.
    has_ended_cleanly: bool,
    pub(crate) faults: Faults,
    pub(crate) holds: Holds,
    rng: Rng,
    later_rng: Rng,
}

/// What outlives the process.
pub(crate) struct Disk {
    dir_id: DirId,
    node: Option<NodeId>,
    cluster: Option<ClusterId>,
    /// The clean-shutdown marker.
    marker: Option<BrokerEpoch>,
    /// A marker whose removal was not flushed: it is there again after a loss of power.
    removed_marker: Option<BrokerEpoch>,
    pub(crate) logs: BTreeMap<TopicIdPartition, DiskLog>,
}

/// What is wrong with the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) slow_disk: bool,
    pub(crate) fail_flush: bool,
    pub(crate) disk_full: bool,
    /// The high watermark that a log notes down for its next life is an old one.
    pub(crate) keeps_old_positions: bool,
    /// Cuts wait for the disk, and other things happen first.
    pub(crate) late_cuts: bool,
    /// Metadata entries that come together are followed together: nobody sees what was between them.
    pub(crate) coalesces: bool,
    /// Of the wall clock.
    pub(crate) skew_ms: i64,
    /// Of the monotonic clock, in thousandths.
    pub(crate) rate: u64,
}

/// One replica.
pub(crate) struct Part {
    pub(crate) replica: Replica,
    pub(crate) log: Log,
    waiters: Vec<Waiter>,
    chain: Chain,
    /// Accepted handshakes, by follower and session: on which stream.
    sessions: BTreeMap<(NodeId, u32), u64>,
    /// When it is woken next.
    wake_at: Option<Moment>,
    /// Ordered in this epoch, and not made yet.
    cut: Option<(LeaderEpoch, Cut)>,
}

/// What a follower wants of its log.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Truncate { to: Offset, unclean: bool },
    Restart { at: Offset },
}

/// Who waits for the high watermark, or for the leader's own disk.
struct Waiter {
    asker: Host,
    id: u64,
    base: Offset,
    end: Offset,
    acks: Acks,
}

enum Asked {
    Register,
    Heartbeat { sent_at: Moment },
    Hold { hold: HoldId },
    Alter { partition: TopicIdPartition, epoch: LeaderEpoch, attempt: u32 },
    Unfit,
}

impl Broker {
    pub(crate) fn new(seed: u64, host: Host) -> Self {
        let mut rng = Rng::new(seed, &format!("broker {host}"));
        let dir_id = DirId(Uuid::from_random_bits(rng.bits_128()));
        Self {
            host,
            life: 0,
            is_up: false,
            disk: Disk {
                dir_id,
                node: None,
                cluster: None,
                marker: None,
                removed_marker: None,
                logs: BTreeMap::new(),
            },
            incarnation: IncarnationId(Uuid::ZERO),
            session: None,
            proof: None,
            image: Image::default(),
            lease: ControllerLease::new(SESSION_MS, RETURN_MS),
            lease_is_valid: false,
            parts: BTreeMap::new(),
            stray: BTreeMap::new(),
            streams: BTreeMap::new(),
            newest: BTreeMap::new(),
            asked: BTreeMap::new(),
            controller: 0,
            flushing: None,
            is_dirty: false,
            wants_shutdown: false,
            has_ended_cleanly: false,
            faults: Faults {
                slow_disk: false,
                fail_flush: false,
                disk_full: false,
                keeps_old_positions: false,
                late_cuts: false,
                coalesces: false,
                skew_ms: 0,
                rate: 1_000,
            },
            holds: Holds::new(seed, host),
            rng,
            later_rng: Rng::new(seed, &format!("later broker {host}")),
        }
    }

    // ---- Clocks ----

    /// Its monotonic clock.
    pub(crate) fn moment(&self, env: &Env) -> Moment {
        Moment(env.now * self.faults.rate / 1_000_000)
    }

    /// When its clock shows `moment`.
    fn time_of(&self, moment: Moment) -> u64 {
        (moment.0 + 1) * 1_000_000 / self.faults.rate + 1
    }

    fn wall(&self, env: &Env) -> Timestamp {
        let ms = i64::try_from(ms(env.now)).unwrap_or(i64::MAX);
        Timestamp(WALL_START_MS + ms + self.faults.skew_ms)
    }

    // ---- Accessors ----

    pub(crate) fn node(&self) -> Option<NodeId> {
        self.session.map(|(node, _)| node)
    }

    /// The node its disk belongs to, running or not.
    pub(crate) fn disk_node(&self) -> Option<NodeId> {
        self.disk.node
    }

    pub(crate) fn session(&self) -> Option<(NodeId, BrokerEpoch)> {
        self.session
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// The files of a replica that is not in use.
    pub(crate) fn files(&self, id: TopicIdPartition) -> Option<&DiskLog> {
        let stray = self.stray.get(&id).map(|(log, _)| &log.disk);
        stray.or_else(|| self.disk.logs.get(&id))
    }

    fn identity(&self) -> Option<Identity> {
        let (node, broker_epoch) = self.session?;
        Some(Identity { node, broker_epoch, dir_id: self.disk.dir_id })
    }

    /// Where a node is, as its registration says.
    fn host_of(&self, node: NodeId) -> Option<Host> {
        let endpoint = self.image.node(node)?.endpoints.first()?;
        Some(usize::from(endpoint.port).saturating_sub(1))
    }

    // ---- Asking controllers ----

    fn ask(&mut self, env: &mut Env, asked: Asked, ask: Ask) {
        let id = env.fresh_id();
        self.asked.insert(id, asked);
        let to = FIRST_CONTROLLER + self.controller;
        env.send(self.host, to, Message::Ask { life: self.life, id, ask });
    }

    fn try_another_controller(&mut self) {
        self.controller = (self.controller + 1) % CONTROLLERS;
    }
}
