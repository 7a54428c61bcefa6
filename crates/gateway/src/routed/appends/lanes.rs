//! Which batch is where: the bookkeeping of all appends under way, without any waiting.
//!
//! A *lane* holds the unanswered batches of one partition in their order. A *link* is one stream to one broker. A batch waits in its lane,
//! is queued at the lane's link, and counts as sent from the moment the link takes it out of the queue:
//!
//! ```text
//!            dispatch                taken by the stream               answered
//!  Waiting ────────────► Queued ──────────────────────────► Sent ───────────────────► gone
//!     ▲                    │                                  │
//!     └────── stall ◄──────┴── refused because of the place, ─┘
//!                              or lost, if it may be repeated
//! ```
//!
//! A lane stalls when one of its batches has to go again. Then nothing of it is sent until every batch that was sent has an answer; after
//! that all go again in their order, in a new round. So two batches of a partition never change places.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use thalweg_rpc::Error;
use thalweg_types::{Acks, ErrorCode, LeaderEpoch, NodeId, Offset, Outcome, TopicPartition};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::budget::Budget;
use super::link::{Link, LinkId, Queued, Taken};
use crate::port::Produced;
use crate::routed::words;

/// Wait before a partition is tried again at the leader that has just refused; doubled with every further refusal.
const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(5);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(250);

/// Brokers asked one after the other, as each names the next.
const TRIES_AT_ONCE_MAX: u32 = 3;

/// What a producer is told.
pub(super) type Verdict = Result<Produced, Error>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId(u64);

/// Finds a batch again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) lane: LaneId,
    position: u64,
}

/// Who leads a partition. [`NodeId::NONE`]: nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) node: NodeId,
    pub(super) epoch: LeaderEpoch,
}

/// A batch to be appended.
#[derive(Debug)]
pub(super) struct NewBatch {
    pub(super) bytes: Bytes,
    pub(super) acks: Acks,
    pub(super) deadline: Instant,
    /// Brokers recognise it when it comes again.
    pub(super) is_idempotent: bool,
    /// Its place, if it may have no other.
    pub(super) expected_offset: Option<Offset>,
}

/// What is to be done with a lane now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Dispatch what waits.
    Send(Leader),
    /// Nothing before something happens, or before this moment.
    Wait(Option<Instant>),
}

/// What is left to do when the lock on the lanes has been released.
#[derive(Debug, Default)]
#[must_use = "dropping it leaves somebody waiting"]
pub(super) struct Effects {
    verdicts: Vec<(oneshot::Sender<Verdict>, Verdict)>,
    wakers: Vec<Waker>,
    /// A lane has stalled, or has drained: somebody must plan on.
    pub(super) needs_plan: bool,
}

#[derive(Debug)]
pub(super) struct Lanes {
    drain_time_max: Duration,
    budget: Budget,
    ids: HashMap<TopicPartition, LaneId>,
    lanes: HashMap<LaneId, Lane>,
    stalled: BTreeSet<LaneId>,
    links: HashMap<LinkId, Link>,
    links_by_node: HashMap<NodeId, LinkId>,
    /// Counts lanes, links and rounds: none of them ever comes again.
    next: u64,
    effects: Effects,
}

#[derive(Debug)]
struct Lane {
    at: TopicPartition,
    /// By position.
    entries: BTreeMap<u64, Entry>,
    next_position: u64,
    /// From here on all entries wait.
    waiting_from: u64,
    sent_count: usize,
    route: Option<Route>,
    stall: Option<Stall>,
    /// Refusals since the last success.
    tries: u32,
    /// What a refusal told of the leader.
    hint: Option<Leader>,
}

#[derive(Debug)]
struct Entry {
    batch: NewBatch,
    place: Place,
    /// It was sent once without learning what became of it.
    is_in_doubt: bool,
    /// `None`: nobody waits for the verdict any more.
    verdict: Option<oneshot::Sender<Verdict>>,
    /// Whose share of the budget it takes.
    charged_to: NodeId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    Queued,
    /// By its number in the stream.
    Sent(u64),
}

/// Where a lane's batches go.
#[derive(Debug, Clone, Copy)]
struct Route {
    link: LinkId,
    leader: Leader,
    round: u64,
}

/// Why nothing of a lane is sent.
#[derive(Debug)]
struct Stall {
    /// Who did not take it.
    refused_by: Option<Leader>,
    retry_at: Instant,
    /// When batches sent to a leader of the past are given up.
    drain_until: Option<Instant>,
    error: Error,
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Lanes: producers
// ---------------------------------------------------------------------------------------------------------------------------------

impl Lanes {
    pub(super) fn new(append_bytes_max: usize, drain_time_max: Duration) -> Self {
        Self {
            drain_time_max,
            budget: Budget::new(append_bytes_max),
            ids: HashMap::new(),
            lanes: HashMap::new(),
            stalled: BTreeSet::new(),
            links: HashMap::new(),
            links_by_node: HashMap::new(),
            next: 0,
            effects: Effects::default(),
        }
    }

    /// Puts a batch behind all others of its partition, which `leader` is said to lead.
    ///
    /// # Errors
    ///
    /// Too much waits for that leader's answers already.
    pub(super) fn add(
        &mut self,
        at: &TopicPartition,
        batch: NewBatch,
        leader: Leader,
    ) -> Result<(Ticket, oneshot::Receiver<Verdict>), Error> {
        self.budget.take(leader.node, batch.bytes.len())?;
        let id = match self.ids.get(at) {
            Some(id) => *id,
            None => self.add_lane(at),
        };
        let (verdict, receiver) = oneshot::channel();
        let entry = Entry {
            batch,
            place: Place::Waiting,
            is_in_doubt: false,
            verdict: Some(verdict),
            charged_to: leader.node,
        };
        let lane = self.lanes.get_mut(&id).expect("known by name, so there is one");
        let position = lane.next_position;
        lane.next_position += 1;
        lane.entries.insert(position, entry);
        Ok((Ticket { lane: id, position }, receiver))
    }

    /// The producer does not wait any more, or will not much longer. What was not sent is withdrawn; `None` if its verdict is there or, unless
    /// `is_final`, may still come.
    pub(super) fn give_up(&mut self, ticket: Ticket, is_final: bool) -> Option<Error> {
        let lane = self.lanes.get_mut(&ticket.lane)?;
        let entry = lane.entries.get_mut(&ticket.position)?;
        if matches!(entry.place, Place::Sent(_)) {
            if is_final {
                entry.verdict = None;
            }
            let error = Error::from(ErrorCode::RequestTimedOut).outcome_unknown();
            return is_final.then_some(error);
        }
        let mut error = match &lane.stall {
            Some(stall) => stall.error.clone(),
            None => Error::new(ErrorCode::RequestTimedOut, "the batch could not be sent in time"),
        };
        error = match entry.is_in_doubt {
            true => Error::from(ErrorCode::RequestTimedOut).outcome_unknown(),
            false => error.not_applied(),
        };
        self.remove(ticket);
        Some(error)
    }

    fn add_lane(&mut self, at: &TopicPartition) -> LaneId {
        let id = LaneId(self.count());
        let lane = Lane {
            at: at.clone(),
            entries: BTreeMap::new(),
            next_position: 0,
            waiting_from: 0,
            sent_count: 0,
            route: None,
            stall: None,
            tries: 0,
            hint: None,
        };
        self.ids.insert(at.clone(), id);
        self.lanes.insert(id, lane);
        id
    }

    /// Takes a batch out, and with the last one its lane.
    fn remove(&mut self, ticket: Ticket) -> Option<Entry> {
        let lane = self.lanes.get_mut(&ticket.lane)?;
        let entry = lane.entries.remove(&ticket.position)?;
        self.budget.give_back(entry.charged_to, entry.batch.bytes.len());
        if lane.entries.is_empty() {
            self.ids.remove(&lane.at);
            self.lanes.remove(&ticket.lane);
            self.stalled.remove(&ticket.lane);
        }
        Some(entry)
    }

    fn tell(&mut self, ticket: Ticket, verdict: Verdict) {
        let Some(entry) = self.remove(ticket) else { return };
        let verdict = match verdict {
            Err(error) if entry.is_in_doubt => Err(error.outcome_unknown()),
            verdict => verdict,
        };
        if let Some(sender) = entry.verdict {
            self.effects.verdicts.push((sender, verdict));
        }
    }

    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Lanes: planning
// ---------------------------------------------------------------------------------------------------------------------------------

impl Lanes {
    pub(super) fn all(&self) -> Vec<LaneId> {
        self.lanes.keys().copied().collect()
    }

    pub(super) fn stalled(&self) -> Vec<LaneId> {
        self.stalled.iter().copied().collect()
    }

    /// The partition of a lane that still has batches.
    pub(super) fn partition(&self, id: LaneId) -> Option<&TopicPartition> {
        self.lanes.get(&id).map(|lane| &lane.at)
    }

    /// What to do with a lane whose partition is led by `known`, as far as the metadata say.
    pub(super) fn plan(&mut self, id: LaneId, known: Leader, now: Instant) -> Plan {
        let Some(lane) = self.lanes.get(&id) else { return Plan::Wait(None) };
        let leader = lane.hint.filter(|hint| hint.epoch > known.epoch).unwrap_or(known);
        let (sent_count, is_stalled) = (lane.sent_count, lane.stall.is_some());
        let route = lane.route.filter(|route| self.is_open(route.link));
        let has_moved = route.is_none_or(|route| {
            leader.epoch > route.leader.epoch && leader.node != route.leader.node
        });
        match (is_stalled, route) {
            (false, Some(route)) if !has_moved => return Plan::Send(route.leader),
            (false, _) if sent_count > 0 => {
                let error = words::leaderless(&lane.at);
                self.stall(id, None, error, now);
            }
            (false, _) if leader.node == NodeId::NONE => {
                let error = words::leaderless(&lane.at);
                self.stall(id, Some(leader), error, now);
            }
            (false, _) => return Plan::Send(leader),
            (true, _) => {}
        }
        if sent_count > 0 {
            return self.drain(id, has_moved, now);
        }
        let Some(lane) = self.lanes.get(&id) else { return Plan::Wait(None) };
        let (Some(stall), tries) = (&lane.stall, lane.tries) else { return Plan::Wait(None) };
        let is_same = stall.refused_by.is_some_and(|refused_by| {
            refused_by.node == leader.node && leader.epoch <= refused_by.epoch
        });
        match leader.node {
            NodeId::NONE => Plan::Wait(None),
            // Two brokers that name each other are not asked in a circle without a pause.
            _ if (is_same || tries > TRIES_AT_ONCE_MAX) && now < stall.retry_at => {
                Plan::Wait(Some(stall.retry_at))
            }
            _ => Plan::Send(leader),
        }
    }

    /// Waits for the answers to what was sent; not for long, when another broker leads by now.
    fn drain(&mut self, id: LaneId, has_moved: bool, now: Instant) -> Plan {
        let drain_until = now + self.drain_time_max;
        let stall = self.lanes.get_mut(&id).and_then(|lane| lane.stall.as_mut());
        let Some(stall) = stall else { return Plan::Wait(None) };
        if !has_moved {
            stall.drain_until = None;
            return Plan::Wait(None);
        }
        let until = *stall.drain_until.get_or_insert(drain_until);
        if now < until {
            return Plan::Wait(Some(until));
        }
        self.abandon(id, now);
        self.effects.needs_plan = true;
        Plan::Wait(None)
    }

    /// Does not wait any longer for answers of a broker that does not lead any more.
    fn abandon(&mut self, id: LaneId, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let link = lane.route.map(|route| route.link);
        let sent: Vec<(u64, u64)> = lane
            .entries
            .iter()
            .filter_map(|(position, entry)| match entry.place {
                Place::Sent(number) => Some((*position, number)),
                Place::Waiting | Place::Queued => None,
            })
            .collect();
        lane.sent_count = 0;
        if let Some(link) = link.and_then(|link| self.links.get_mut(&link)) {
            sent.iter().for_each(|(_, number)| link.forget(*number));
        }
        let message =
            "the broker it was sent to leads no longer, and does not say what became of it";
        let error = Error::new(ErrorCode::RequestTimedOut, message).outcome_unknown();
        for (position, _) in sent {
            self.refused(Ticket { lane: id, position }, error.clone(), now);
        }
    }

    /// Sends what waits in a lane to `link`, which leads to `leader`. As [`Self::plan`] sees to it, nothing sent over another link is without
    /// an answer.
    pub(super) fn dispatch(&mut self, id: LaneId, link: LinkId, leader: Leader) {
        let round = self.count();
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(stream) = self.links.get_mut(&link) else { return };
        let was_stalled = lane.stall.take().is_some();
        self.stalled.remove(&id);
        let route = match lane.route {
            Some(route) if route.link == link && !was_stalled => route,
            _ => {
                // What is queued elsewhere goes here, too.
                lane.waiting_from = 0;
                Route { link, leader, round }
            }
        };
        lane.route = Some(route);
        for (position, entry) in lane.entries.range_mut(lane.waiting_from..) {
            entry.place = Place::Queued;
            stream.queue(Queued { lane: id, position: *position, round: route.round });
        }
        lane.waiting_from = lane.next_position;
        self.effects.wakers.extend(stream.wake());
    }

    /// The lane's leader cannot be reached; `error` tells why.
    pub(super) fn cannot_send(&mut self, id: LaneId, leader: Leader, error: Error, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.stall = None;
        }
        self.stall(id, Some(leader), error, now);
    }

    /// The partition is gone: whoever waits for it is told, and what was sent is answered by the broker.
    pub(super) fn end(&mut self, id: LaneId, error: &Error) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let unsent = lane.entries.iter().filter(|(_, entry)| entry.place == Place::Waiting);
        let unsent: Vec<u64> = unsent.map(|(position, _)| *position).collect();
        for position in unsent {
            self.tell(Ticket { lane: id, position }, Err(error.clone()));
        }
    }

    fn stall(&mut self, id: LaneId, refused_by: Option<Leader>, error: Error, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let told = error.leader.as_ref().filter(|hint| hint.node_id != NodeId::NONE);
        if let Some(told) = told.filter(|told| told.partition == lane.at) {
            lane.hint = Some(Leader { node: told.node_id, epoch: told.leader_epoch });
        }
        if lane.stall.is_some() {
            return;
        }
        let pause = RETRY_PAUSE_FIRST.saturating_mul(1 << lane.tries.min(16)).min(RETRY_PAUSE_MAX);
        lane.tries += 1;
        lane.stall = Some(Stall { refused_by, retry_at: now + pause, drain_until: None, error });
        for entry in lane.entries.values_mut().filter(|entry| entry.place == Place::Queued) {
            entry.place = Place::Waiting;
        }
        lane.waiting_from = 0;
        self.stalled.insert(id);
        self.effects.needs_plan = true;
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Lanes: links
// ---------------------------------------------------------------------------------------------------------------------------------

impl Lanes {
    /// The open link to a node at this address.
    pub(super) fn link_to(&self, node: NodeId, endpoint: &str) -> Option<LinkId> {
        let id = *self.links_by_node.get(&node)?;
        self.links.get(&id).filter(|link| link.endpoint == endpoint).map(|_| id)
    }

    /// Makes a link; the one to the node's former address, if any, takes nothing more.
    pub(super) fn open_link(
        &mut self,
        node: NodeId,
        endpoint: String,
        start: impl FnOnce(LinkId) -> AbortHandle,
    ) -> LinkId {
        if let Some(former) = self.links_by_node.get(&node) {
            self.retire(*former);
        }
        let id = LinkId(self.count());
        self.links.insert(id, Link::new(node, endpoint, start(id)));
        self.links_by_node.insert(node, id);
        id
    }

    /// Sends nothing more over a link; it ends when everything on it is answered.
    pub(super) fn retire(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        self.effects.wakers.extend(link.retire());
        self.links_by_node.retain(|_, kept| *kept != id);
        let now = Instant::now();
        for queued in link.take_queue() {
            let error = words::unavailable("the broker takes nothing more");
            self.stall(queued.lane, self.leader_of(queued.lane), error, now);
        }
    }

    /// Open links, for those who know whether they are still wanted.
    pub(super) fn open_links(&self) -> Vec<(NodeId, String, LinkId)> {
        let of = |(node, id): (&NodeId, &LinkId)| {
            Some((*node, self.links.get(id)?.endpoint.clone(), *id))
        };
        self.links_by_node.iter().filter_map(of).collect()
    }

    /// The next batch for a link to send.
    pub(super) fn take(&mut self, id: LinkId, waker: &Waker) -> Taken {
        loop {
            let Some(link) = self.links.get_mut(&id) else { return Taken::Finished };
            let queued = match link.next(waker) {
                Ok(queued) => queued,
                Err(nothing) => return nothing,
            };
            let Some(lane) = self.lanes.get_mut(&queued.lane) else { continue };
            let is_current = lane.route.is_some_and(|route| route.round == queued.round);
            let Some(entry) = lane.entries.get_mut(&queued.position) else { continue };
            if !is_current || entry.place != Place::Queued {
                continue;
            }
            let ticket = Ticket { lane: queued.lane, position: queued.position };
            entry.place = Place::Sent(link.send(ticket));
            lane.sent_count += 1;
            return Taken::Batch {
                at: lane.at.clone(),
                bytes: entry.batch.bytes.clone(),
                acks: entry.batch.acks,
                deadline: entry.batch.deadline,
                expected_offset: entry.batch.expected_offset,
                round: queued.round,
            };
        }
    }

    /// A broker's answer to one batch.
    pub(super) fn answered(&mut self, id: LinkId, number: u64, verdict: Verdict, now: Instant) {
        let ticket = self.links.get_mut(&id).and_then(|link| link.answered(number));
        // An answer to nothing, or to what was given up: nobody waits for it.
        let Some(ticket) = ticket else { return };
        let Some(lane) = self.lanes.get_mut(&ticket.lane) else { return };
        lane.sent_count = lane.sent_count.saturating_sub(1);
        self.effects.needs_plan |= lane.stall.is_some() && lane.sent_count == 0;
        match verdict {
            Ok(produced) => {
                lane.tries = 0;
                self.tell(ticket, Ok(produced));
            }
            Err(error) => self.refused(ticket, error, now),
        }
    }

    /// A link has broken, or could not be made: what was sent over it is left without an answer.
    pub(super) fn lost(&mut self, id: LinkId, error: &Error, now: Instant) {
        let Some(mut link) = self.links.remove(&id) else { return };
        self.links_by_node.retain(|_, kept| *kept != id);
        self.effects.wakers.extend(link.wake());
        for ticket in link.take_sent() {
            if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
                lane.sent_count = lane.sent_count.saturating_sub(1);
            }
            self.refused(ticket, error.clone().outcome_unknown(), now);
        }
        for queued in link.take_queue() {
            let refused_by = self.leader_of(queued.lane);
            self.stall(queued.lane, refused_by, error.clone().not_applied(), now);
        }
        self.effects.needs_plan = true;
    }

    /// Ends everything.
    pub(super) fn close(&mut self) {
        for mut link in std::mem::take(&mut self.links).into_values() {
            link.abort();
            // The connection keeps what it is sent from until that ends.
            self.effects.wakers.extend(link.wake());
        }
        self.links_by_node.clear();
        self.lanes.clear();
        self.ids.clear();
    }

    fn is_open(&self, id: LinkId) -> bool {
        self.links.get(&id).is_some_and(Link::is_open)
    }

    /// To whom the lane's batches went last.
    fn leader_of(&self, id: LaneId) -> Option<Leader> {
        self.lanes.get(&id).and_then(|lane| lane.route).map(|route| route.leader)
    }

    /// A batch that is not sent any more was not, or not surely, appended: it goes again, or its producer is told.
    fn refused(&mut self, ticket: Ticket, error: Error, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&ticket.lane) else { return };
        let refused_by = lane.route.map(|route| route.leader);
        let Some(entry) = lane.entries.get_mut(&ticket.position) else { return };
        let is_waited_for = now < entry.batch.deadline
            && entry.verdict.as_ref().is_some_and(|one| !one.is_closed());
        if !is_waited_for || !goes_again(&error, entry.batch.is_idempotent) {
            return self.tell(ticket, Err(error));
        }
        entry.place = Place::Waiting;
        entry.is_in_doubt |= error.outcome == Outcome::Unknown;
        lane.waiting_from = lane.waiting_from.min(ticket.position);
        self.stall(ticket.lane, refused_by, error, now);
    }
}

fn goes_again(error: &Error, is_idempotent: bool) -> bool {
    match error.outcome {
        Outcome::NotApplied => words::is_about_place(error),
        Outcome::Unknown => {
            is_idempotent
                && matches!(error.code, ErrorCode::RequestTimedOut | ErrorCode::NetworkException)
        }
    }
}

impl Effects {
    /// Call without holding any lock.
    pub(super) fn perform(self) {
        for (producer, verdict) in self.verdicts {
            // The producer may have given up meanwhile: then nobody is there to be told.
            let _ = producer.send(verdict);
        }
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
