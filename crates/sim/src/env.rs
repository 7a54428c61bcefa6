//! What all parts of a run share: the time, what is to happen, the network, the counters, the trace, the oracle.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use thalweg_metadata_core::HoldId;
use thalweg_types::{LeaderEpoch, Moment, TopicIdPartition};

use crate::checker::Checker;
use crate::coordinators::Batches;
use crate::message::{Ask, HOSTS, Host, Message, StreamMessage};
use crate::network::{MS, Network, Time};
use crate::oracle::Oracle;
use crate::rng::Rng;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        from: Host,
        to: Host,
        message: Message,
    },
    Stream {
        from: Host,
        to: Host,
        connection: u64,
        message: StreamMessage,
    },
    StreamBroken {
        at: Host,
        connection: u64,
    },
    /// One end of what holds a broker's session notices that it has ended.
    HoldEnds {
        at: Host,
        broker: Host,
        hold: HoldId,
    },
    FlushDone {
        broker: Host,
        life: u64,
    },
    Wake {
        broker: Host,
        life: u64,
        partition: TopicIdPartition,
        deadline: Moment,
    },
    AlterTimeout {
        broker: Host,
        life: u64,
        partition: TopicIdPartition,
        epoch: LeaderEpoch,
        attempt: u32,
    },
    Cut {
        broker: Host,
        life: u64,
        partition: TopicIdPartition,
    },
    BrokerTick {
        broker: Host,
        life: u64,
    },
    StartBroker {
        broker: Host,
    },
    QuorumTick,
    CommitDone {
        controller: usize,
        proposal: u64,
    },
    Learn {
        controller: usize,
        upto: u64,
    },
    ClientTick {
        client: usize,
    },
    CallTimeout {
        id: u64,
    },
    CoordinatorTick {
        host: Host,
        life: u64,
    },
    CoordinatorTimeout {
        host: Host,
        life: u64,
        call: u64,
    },
    StartCoordinator {
        host: Host,
    },
    /// A client of coordinators asks something.
    Coordinated,
    /// Something befalls a coordinator.
    CoordinatorFault,
    Nemesis,
    Heal,
    Audit,
    Script(usize),
}

/// Small, because the queue moves it about; the event stays where it is.
struct Scheduled {
    at: Time,
    sequence: u64,
    place: usize,
}

/// One replication connection, from a follower's host to a leader's.
#[derive(Debug)]
struct Connection {
    follower: Host,
    leader: Host,
    is_broken: bool,
    /// When the last message towards the follower, and towards the leader, arrives.
    last: [Time; 2],
}

/// Counted over a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stats {
    pub(crate) events: u64,
    pub(crate) faults: u64,
    pub(crate) power_losses: u64,
    pub(crate) batches_lost_unflushed: u64,
    pub(crate) elections: u64,
    pub(crate) truncations: u64,
    pub(crate) halts: u64,
    pub(crate) suspects: u64,
    /// Calls that were sent twice.
    pub(crate) repeats: u64,
}

pub(crate) struct Env {
    pub(crate) now: Time,
    queue: BinaryHeap<Reverse<Scheduled>>,
    /// By place; `None` where nothing waits.
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
    pub(crate) network: Network,
    connections: BTreeMap<u64, Connection>,
    next_id: u64,
    /// Counts writes to all disks.
    pub(crate) writes: u64,
    pub(crate) disk_rng: Rng,
    pub(crate) stats: Stats,
    pub(crate) oracle: Oracle,
    pub(crate) checker: Checker,
    pub(crate) batches: Batches,
    trace_hash: u64,
    pub(crate) is_tracing: bool,
    /// Until when each host stands still.
    pub(crate) paused: [Time; HOSTS],
    /// On links that are held up.
    held: Vec<(Host, Host, Event)>,
    holds_proposals: bool,
}

impl Env {
    pub(crate) fn new(seed: u64, is_tracing: bool) -> Self {
        Self {
            now: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            network: Network::new(seed),
            connections: BTreeMap::new(),
            next_id: 1,
            writes: 0,
            disk_rng: Rng::new(seed, "disk"),
            stats: Stats::default(),
            oracle: Oracle::default(),
            checker: Checker::default(),
            batches: Batches::default(),
            trace_hash: 0xcbf2_9ce4_8422_2325,
            is_tracing,
            paused: [0; HOSTS],
            held: Vec::new(),
            holds_proposals: false,
        }
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        let sequence = self.sequence;
        self.sequence += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), sequence, place }));
    }

    pub(crate) fn after(&mut self, delay: Time, event: Event) {
        self.at(self.now + delay, event);
    }

    /// The next event before `until`; moves the time to it.
    pub(crate) fn next(&mut self, until: Time) -> Option<Event> {
        if self.queue.peek().is_none_or(|Reverse(next)| next.at > until) {
            return None;
        }
        let Reverse(next) = self.queue.pop()?;
        self.now = next.at;
        self.stats.events += 1;
        self.mark(&[next.at, next.sequence]);
        self.free.push(next.place);
        self.events.get_mut(next.place).and_then(Option::take)
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    // ---- Trace ----

    /// Takes numbers into the hash that two runs of one seed must agree on.
    pub(crate) fn mark(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.trace_hash =
                (self.trace_hash ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        }
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    /// A line of the readable trace.
    #[expect(clippy::print_stdout, reason = "the readable trace is what `replay --trace` is for")]
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.is_tracing {
            let (seconds, rest) = (self.now / 1_000_000, self.now % 1_000_000);
            println!("{seconds:>4}.{rest:06} {}", line());
        }
    }

    pub(crate) fn fault(&mut self, what: impl FnOnce() -> String) {
        self.stats.faults += 1;
        self.note(|| format!("FAULT {}", what()));
    }

    // ---- Network ----

    pub(crate) fn send(&mut self, from: Host, to: Host, message: Message) {
        if message.may_be_repeated() && self.network.is_repeated() {
            self.stats.repeats += 1;
            self.send_once(from, to, message.clone());
        }
        self.send_once(from, to, message);
    }

    fn send_once(&mut self, from: Host, to: Host, message: Message) {
        if let Some(delay) = self.network.route(from, to) {
            let at = self.now + delay;
            self.arrive(from, to, at, Event::Deliver { from, to, message });
        }
    }

    /// Sends once and behind what arrives at `last`; returns when it arrives.
    pub(crate) fn send_behind(
        &mut self,
        from: Host,
        to: Host,
        last: Time,
        message: Message,
    ) -> Time {
        let Some(delay) = self.network.route(from, to) else { return last };
        let at = (self.now + delay).max(last + 1);
        self.arrive(from, to, at, Event::Deliver { from, to, message });
        at
    }

    /// Schedules an arrival, or keeps it while the link is held.
    fn arrive(&mut self, from: Host, to: Host, at: Time, event: Event) {
        let is_proposal = matches!(
            &event,
            Event::Deliver { message: Message::Ask { ask: Ask::Alter { .. }, .. }, .. }
        );
        let is_held = self.network.is_held(from, to) || (is_proposal && self.holds_proposals);
        match is_held {
            true => self.held.push((from, to, event)),
            false => self.at(at, event),
        }
    }

    /// From now on everything from one host to the other waits, in order.
    pub(crate) fn hold(&mut self, from: Host, to: Host) {
        self.fault(|| format!("what goes from {from} to {to} is held up"));
        self.network.set_held(from, to, true);
    }

    /// The same for AlterPartition alone, from anybody.
    pub(crate) fn hold_proposals(&mut self) {
        self.fault(|| "proposals are held up".to_owned());
        self.holds_proposals = true;
    }

    pub(crate) fn release_proposals(&mut self) {
        self.note(|| "proposals that were held up arrive".to_owned());
        self.holds_proposals = false;
        for (_, _, event) in std::mem::take(&mut self.held) {
            self.at(self.now, event);
        }
    }

    /// What was held up arrives at once, before anything that is sent later.
    pub(crate) fn release(&mut self, from: Host, to: Host) {
        if !self.network.is_held(from, to) {
            return;
        }
        self.note(|| format!("what was held up from {from} to {to} arrives"));
        self.network.set_held(from, to, false);
        let waiting = std::mem::take(&mut self.held);
        for (a, b, event) in waiting {
            match (a, b) == (from, to) {
                true => self.at(self.now, event),
                false => self.held.push((a, b, event)),
            }
        }
    }

    /// Whether something waits on a link that is held up.
    pub(crate) fn has_held(&self, from: Host, to: Host) -> bool {
        self.held.iter().any(|(a, b, _)| (*a, *b) == (from, to))
    }

    pub(crate) fn release_all(&mut self) {
        for from in 0..HOSTS {
            for to in 0..HOSTS {
                self.release(from, to);
            }
        }
    }

    pub(crate) fn connect(&mut self, follower: Host, leader: Host) -> u64 {
        let id = self.fresh_id();
        let last = [self.now; 2];
        let connection = Connection { follower, leader, is_broken: false, last };
        self.connections.insert(id, connection);
        id
    }

    pub(crate) fn stream(&mut self, from: Host, connection: u64, message: StreamMessage) {
        let Some(known) = self.connections.get(&connection).filter(|known| !known.is_broken) else {
            return;
        };
        let to_leader = from == known.follower;
        let to = if to_leader { known.leader } else { known.follower };
        if self.is_tracing {
            self.note(|| format!("stream {connection} from {from} to {to}: {message:?}"));
        }
        let Some(delay) = self.network.route(from, to) else {
            self.break_stream(connection);
            return;
        };
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let last = &mut known.last[usize::from(to_leader)];
        *last = (*last + 1).max(self.now + delay);
        let at = *last;
        self.arrive(from, to, at, Event::Stream { from, to, connection, message });
    }

    pub(crate) fn break_stream(&mut self, connection: u64) {
        let Some(known) = self.connections.get_mut(&connection).filter(|known| !known.is_broken)
        else {
            return;
        };
        known.is_broken = true;
        let ends = [known.follower, known.leader];
        self.note(|| format!("stream {connection} breaks"));
        for at in ends {
            let delay = self.network.notice();
            self.after(delay, Event::StreamBroken { at, connection });
        }
    }

    /// Every stream from this follower to this leader is reset; the follower notices at once.
    pub(crate) fn reset_streams(&mut self, follower: Host, leader: Host) {
        let is_one = |known: &Connection| (known.follower, known.leader) == (follower, leader);
        let ids: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| is_one(c) && !c.is_broken)
            .map(|c| *c.0)
            .collect();
        for connection in ids {
            self.break_stream(connection);
            self.after(1, Event::StreamBroken { at: follower, connection });
        }
    }

    /// The process on `host` is gone, and with it its connections.
    pub(crate) fn break_streams_of(&mut self, host: Host) {
        let of_host = |known: &Connection| known.follower == host || known.leader == host;
        let ids: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, known)| of_host(known))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.break_stream(id);
        }
        let long_gone = self.next_id.saturating_sub(100_000);
        self.connections.retain(|id, known| !known.is_broken || *id > long_gone);
    }
}

/// A time as milliseconds.
pub(crate) fn ms(time: Time) -> u64 {
    time / MS
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}
