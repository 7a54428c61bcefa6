//! Producing through the leaders: batches to lanes, lanes to links, and whoever keeps the lanes going when leaders change.

mod budget;
mod lanes;
mod link;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_metadata_core::Image;
use thalweg_metadata_feed::Feed;
use thalweg_record::BatchHeader;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId, ProducerId, TopicPartition};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::RoutedOptions;
use super::nodes::Nodes;
use super::words;
use crate::port::{ProduceCall, Produced};
use lanes::{LaneId, Lanes, Leader, NewBatch, Plan, Ticket};
use link::LinkId;

/// How much longer than its producer said a batch that was sent is waited for: the broker counts the same time from when it came.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// Appends of one gateway.
#[derive(Debug)]
pub(super) struct Appends {
    shared: Arc<Shared>,
    shepherd: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    feed: Feed,
    nodes: Arc<Nodes>,
    lanes: Mutex<Lanes>,
    /// Lanes want to be planned.
    plan: Notify,
}

/// Takes a batch back when its producer stops waiting.
struct Waiting<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Appends {
    pub(super) fn start(feed: Feed, nodes: Arc<Nodes>, options: &RoutedOptions) -> Self {
        let lanes = Lanes::new(options.append_bytes_max, options.drain_time_max);
        let shared =
            Arc::new(Shared { feed, nodes, lanes: Mutex::new(lanes), plan: Notify::new() });
        let shepherd = tokio::spawn(shepherd(Arc::clone(&shared)));
        Self { shared, shepherd }
    }

    /// Hands the batch over before it waits.
    pub(super) async fn produce(&self, call: ProduceCall) -> Result<Produced, Error> {
        let shared = &*self.shared;
        let ProduceCall { topic, partition, batch, acks, timeout, expected_offset } = call;
        let at = TopicPartition { topic, partition };
        let deadline = Instant::now() + timeout;
        let batch = NewBatch {
            is_idempotent: is_idempotent(&batch),
            bytes: batch.freeze(),
            acks,
            deadline,
            expected_offset,
        };
        let image = shared.feed.image();
        let leader = leader(&image, &at).ok_or_else(|| words::unknown_partition(&at))?;
        let (ticket, mut verdict) = self.shared.with(|lanes| {
            let (ticket, verdict) = lanes.add(&at, batch, leader)?;
            self.shared.advance(lanes, ticket.lane, &image);
            Ok::<_, Error>((ticket, verdict))
        })?;
        let waiting = Waiting { shared, ticket };
        if let Ok(verdict) = timeout_at(deadline, &mut verdict).await {
            return verdict.unwrap_or_else(|_| Err(closed()));
        }
        if let Some(error) = waiting.give_up(false) {
            return Err(error);
        }
        match timeout_at(deadline + ANSWER_GRACE, verdict).await {
            Ok(verdict) => verdict.unwrap_or_else(|_| Err(closed())),
            Err(_) => Err(Error::timed_out(timeout).outcome_unknown()),
        }
    }
}

impl Drop for Appends {
    fn drop(&mut self) {
        self.shepherd.abort();
        self.shared.with(Lanes::close);
    }
}

impl Shared {
    /// Works on the lanes, and tells everyone concerned when the lock is released.
    fn with<T>(&self, work: impl FnOnce(&mut Lanes) -> T) -> T {
        let (result, effects) = {
            let mut lanes = self.lanes.lock();
            let result = work(&mut lanes);
            (result, lanes.take_effects())
        };
        if effects.needs_plan {
            self.plan.notify_one();
        }
        effects.perform();
        result
    }

    /// Does with a lane what can be done now; returns when to look again if nothing happens before.
    fn advance(self: &Arc<Self>, lanes: &mut Lanes, id: LaneId, image: &Image) -> Option<Instant> {
        let at = lanes.partition(id)?.clone();
        let Some(leader) = leader(image, &at) else {
            lanes.end(id, &words::unknown_partition(&at));
            return None;
        };
        let now = Instant::now();
        match lanes.plan(id, leader, now) {
            Plan::Wait(until) => until,
            Plan::Send(leader) => match self.link(lanes, leader.node, image) {
                Ok(link) => {
                    lanes.dispatch(id, link, leader);
                    None
                }
                Err(error) => {
                    lanes.cannot_send(id, leader, error, now);
                    None
                }
            },
        }
    }

    /// The link to a node, made if there is none.
    fn link(
        self: &Arc<Self>,
        lanes: &mut Lanes,
        node: NodeId,
        image: &Image,
    ) -> Result<LinkId, Error> {
        let (endpoint, client) = self.nodes.appends(image, node)?;
        if let Some(link) = lanes.link_to(node, &endpoint) {
            return Ok(link);
        }
        let start = |id| -> AbortHandle {
            self.nodes.runtime.spawn(link::run(Arc::clone(self), id, client)).abort_handle()
        };
        Ok(lanes.open_link(node, endpoint, start))
    }

    /// Retires links to addresses that the metadata does not name any more.
    fn retire_links(&self, lanes: &mut Lanes, image: &Image) {
        for (node, endpoint, link) in lanes.open_links() {
            let is_wanted = self.nodes.appends(image, node).is_ok_and(|(now, _)| now == endpoint);
            if !is_wanted {
                lanes.retire(link);
            }
        }
    }
}

/// Keeps lanes going that cannot be sent at once: whenever the metadata changes, a lane stalls or drains, or a pause is over.
async fn shepherd(shared: Arc<Shared>) {
    let mut changed = shared.feed.changed();
    let mut is_new = true;
    loop {
        let image = shared.feed.image();
        let look = |lanes: &mut Lanes| {
            if is_new {
                shared.retire_links(lanes, &image);
                shared.nodes.follow(&image);
            }
            let ids = if is_new { lanes.all() } else { lanes.stalled() };
            ids.into_iter().filter_map(|id| shared.advance(lanes, id, &image)).min()
        };
        let next = shared.with(look);
        is_new = false;
        tokio::select! {
            change = changed.changed() => match change {
                Ok(()) => is_new = true,
                // No news will come; lanes still have to be tried again.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            () = shared.plan.notified() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// `None`: the partition does not exist.
fn leader(image: &Image, at: &TopicPartition) -> Option<Leader> {
    let partition = image.partition(at.topic.as_str(), at.partition)?;
    let node = partition.leader.unwrap_or(NodeId::NONE);
    Some(Leader { node, epoch: partition.leader_epoch })
}

fn is_idempotent(batch: &[u8]) -> bool {
    BatchHeader::parse(batch).is_ok_and(|header| header.producer_id != ProducerId::NONE)
}

fn closed() -> Error {
    Error::new(ErrorCode::BrokerNotAvailable, "this gateway is shutting down").outcome_unknown()
}

impl Waiting<'_> {
    fn give_up(&self, is_final: bool) -> Option<Error> {
        self.shared.with(|lanes| lanes.give_up(self.ticket, is_final))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Whatever the verdict would be, nobody hears it.
        let _ = self.give_up(true);
    }
}
