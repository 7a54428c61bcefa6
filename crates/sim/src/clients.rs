//! Simulated clients: idempotent producers that retry until they know, producers that ask the leader only and never retry, and consumers
//! that read on.

use std::collections::{BTreeMap, VecDeque};

use thalweg_types::{
    Acks, ErrorCode, Offset, Outcome, ProducerEpoch, ProducerId, Sequence, Timestamp,
    TopicIdPartition,
};

use crate::broker::Broker;
use crate::checker::Fate;
use crate::disk::Batch;
use crate::env::{Env, Event};
use crate::message::{CLIENTS, Call, CallResult, Host, Message};
use crate::network::MS;
use crate::rng::Rng;

const CALL_TIMEOUT: u64 = 1_500 * MS;

/// Batches one producer has under way.
const IN_FLIGHT_MAX: usize = 4;

/// After so many refusals a producer gives a batch up.
const TRIES_MAX: u32 = 60;

/// All clients of a run.
pub(crate) struct Clients {
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    calls: BTreeMap<u64, Pending>,
    /// No new records any more.
    pub(crate) is_stopping: bool,
    rng: Rng,
}

enum Pending {
    Produce { producer: usize, value: u64 },
    Fetch { consumer: usize },
    End { partition: TopicIdPartition, floor: Option<Offset> },
}

struct Producer {
    id: ProducerId,
    epoch: ProducerEpoch,
    topic: String,
    partition: Option<TopicIdPartition>,
    next: Sequence,
    in_flight: VecDeque<Flight>,
    pace: u64,
    acks: Acks,
}

/// A batch whose fate is not known yet.
struct Flight {
    batch: Batch,
    /// Of the try under way.
    call: Option<u64>,
    tries: u32,
    /// Some try may have been applied.
    maybe: bool,
    floor: Option<Offset>,
}

struct Consumer {
    topic: String,
    partition: Option<TopicIdPartition>,
    position: Offset,
    call: Option<u64>,
}

impl Flight {
    fn records(&self) -> (u64, u64) {
        (self.batch.value, u64::from(self.batch.header.record_count.cast_unsigned()))
    }

    fn fate(&self) -> Fate {
        if self.maybe || self.call.is_some() { Fate::Unknown } else { Fate::Failed }
    }
}

impl Clients {
    /// `hasty` producers more are content with the leader.
    pub(crate) fn new(seed: u64, topics: &[String], producers: usize, hasty: usize) -> Self {
        let mut rng = Rng::new(seed, "clients");
        let topic = |at: usize| topics[at % topics.len()].clone();
        let producers = (0..producers).map(|at| Producer {
            id: ProducerId(100 + at as i64),
            epoch: ProducerEpoch(0),
            topic: topic(at),
            partition: None,
            next: Sequence::ZERO,
            in_flight: VecDeque::new(),
            pace: rng.between(15, 160),
            acks: Acks::All,
        });
        let mut producers: Vec<_> = producers.collect();
        producers.extend((0..hasty).map(|at| Producer {
            id: ProducerId::NONE,
            epoch: ProducerEpoch::NONE,
            topic: topic(at),
            partition: None,
            next: Sequence::NONE,
            in_flight: VecDeque::new(),
            pace: 90,
            acks: Acks::Leader,
        }));
        let consumers = (0..topics.len() + 1).map(|at| Consumer {
            topic: topic(at),
            partition: None,
            position: Offset::ZERO,
            call: None,
        });
        let consumers = consumers.collect();
        Self { producers, consumers, calls: BTreeMap::new(), is_stopping: false, rng }
    }

    pub(crate) fn count(&self) -> usize {
        self.producers.len() + self.consumers.len()
    }

    /// Nothing is under way any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.producers.iter().all(|producer| producer.in_flight.is_empty())
    }

    pub(crate) fn handle_tick(&mut self, env: &mut Env, brokers: &[Broker], client: usize) {
        let pace = match client.checked_sub(self.producers.len()) {
            None => {
                self.produce(env, brokers, client);
                self.producers[client].pace
            }
            Some(consumer) => {
                self.consume(env, brokers, consumer);
                120
            }
        };
        let delay = self.rng.between(pace * MS / 2, pace * MS * 2);
        env.after(delay, Event::ClientTick { client });
    }

    // ---- Producers ----

    fn produce(&mut self, env: &mut Env, brokers: &[Broker], at: usize) {
        let Some(view) = self.view(brokers) else { return };
        let known = partition_of(view, &self.producers[at].topic);
        let producer = &mut self.producers[at];
        if known.is_some() && known != producer.partition {
            self.give_up(env, at);
            self.producers[at].partition = known;
        }
        let Some(partition) = self.producers[at].partition else { return };
        if !self.is_stopping && self.producers[at].in_flight.len() < IN_FLIGHT_MAX {
            self.begin_batch(env, at, partition);
        }
        let Some(leader) = leader_of(view, partition) else { return };
        let producer = &mut self.producers[at];
        let acks = producer.acks;
        for flight in producer.in_flight.iter_mut().filter(|flight| flight.call.is_none()) {
            let id = env.fresh_id();
            flight.call = Some(id);
            flight.tries += 1;
            let value = flight.batch.value;
            self.calls.insert(id, Pending::Produce { producer: at, value });
            if acks == Acks::All && env.network.is_repeated() {
                // Whatever the first answer says, the other call may do something else.
                flight.maybe = true;
                env.stats.repeats += 1;
                call(env, leader, id, partition, Call::Produce(flight.batch, acks));
            }
            call(env, leader, id, partition, Call::Produce(flight.batch, acks));
        }
    }

    fn begin_batch(&mut self, env: &mut Env, at: usize, partition: TopicIdPartition) {
        let records = self.rng.between(1, 4);
        let producer = &mut self.producers[at];
        let number = at as u64;
        let value = env.checker.begin(partition, number, records);
        let count = i32::try_from(records).unwrap_or(1);
        let identity = (producer.id, producer.epoch, producer.next);
        let batch = Batch::new(identity, count, value, Timestamp::NONE);
        if producer.acks == Acks::All {
            producer.next = producer.next.advanced_by(count);
        }
        let floor = env.checker.floor(partition);
        producer.in_flight.push_back(Flight { batch, call: None, tries: 0, maybe: false, floor });
    }

    /// Ends everything under way as it is known, and begins a new producer epoch: the numbering has a gap now.
    fn give_up(&mut self, env: &mut Env, at: usize) {
        let producer = &mut self.producers[at];
        for flight in producer.in_flight.drain(..) {
            env.checker.ended(flight.records(), flight.fate());
        }
        if producer.acks == Acks::Leader {
            return;
        }
        producer.epoch = ProducerEpoch(producer.epoch.0.saturating_add(1));
        producer.next = Sequence::ZERO;
    }

    fn produced(&mut self, env: &mut Env, at: usize, value: u64, result: Option<CallResult>) {
        let producer = &mut self.producers[at];
        let found = producer.in_flight.iter().position(|flight| flight.batch.value == value);
        let Some(index) = found else { return };
        let flight = &mut producer.in_flight[index];
        flight.call = None;
        // A leader from before an unclean election may still succeed in what that one gave up.
        let is_given_up = |epoch| {
            producer.partition.is_some_and(|partition| env.oracle.is_given_up(partition, epoch))
        };
        let result = match result {
            Some(CallResult::Produced(_, epoch)) if is_given_up(epoch) => None,
            result => result,
        };
        if producer.acks == Acks::Leader {
            match result {
                Some(CallResult::Produced(base, _)) => {
                    env.checker.acknowledged_by_leader(flight.records(), base);
                }
                Some(CallResult::Error { outcome, .. }) => {
                    flight.maybe |= outcome == Outcome::Unknown;
                    env.checker.ended(flight.records(), flight.fate());
                }
                _ => env.checker.ended(flight.records(), Fate::Unknown),
            }
            producer.in_flight.remove(index);
            return;
        }
        match result {
            Some(CallResult::Produced(base, _)) => {
                env.checker.acknowledged(flight.records(), base, flight.floor);
                producer.in_flight.remove(index);
                return;
            }
            Some(CallResult::Error { code, outcome }) => {
                flight.maybe |= outcome == Outcome::Unknown;
                let is_over = code == ErrorCode::InvalidProducerEpoch || flight.tries > TRIES_MAX;
                if !is_over {
                    return;
                }
            }
            _ => {
                flight.maybe = true;
                return;
            }
        }
        self.give_up(env, at);
    }

    // ---- Consumers ----

    fn consume(&mut self, env: &mut Env, brokers: &[Broker], at: usize) {
        let Some(view) = self.view(brokers) else { return };
        let known = partition_of(view, &self.consumers[at].topic);
        let consumer = &mut self.consumers[at];
        if known.is_some() && known != consumer.partition {
            (consumer.partition, consumer.position, consumer.call) = (known, Offset::ZERO, None);
        }
        let Some(partition) = consumer.partition else { return };
        let Some(leader) = leader_of(view, partition) else { return };
        if consumer.call.is_none() {
            let id = env.fresh_id();
            consumer.call = Some(id);
            let from = consumer.position;
            self.calls.insert(id, Pending::Fetch { consumer: at });
            call(env, leader, id, partition, Call::Fetch { from });
        }
        if self.rng.chance(300) {
            let id = env.fresh_id();
            let floor = env.checker.end_floor(partition);
            self.calls.insert(id, Pending::End { partition, floor });
            call(env, leader, id, partition, Call::End);
        }
    }

    fn fetched(&mut self, env: &mut Env, at: usize, id: u64, result: Option<CallResult>) {
        let consumer = &mut self.consumers[at];
        if consumer.call != Some(id) {
            return;
        }
        consumer.call = None;
        let (Some(CallResult::Fetched { batches, log_start, high_watermark }), Some(partition)) =
            (result, consumer.partition)
        else {
            return;
        };
        consumer.position = consumer.position.max(log_start);
        for batch in &batches {
            if !batch.is_intact() {
                env.checker.read_damaged(partition, batch.base());
            }
            for (offset, value) in batch.records() {
                if offset < consumer.position || offset >= high_watermark {
                    continue;
                }
                if offset > consumer.position {
                    let position = consumer.position;
                    env.oracle.violated("I8", || format!("{partition}: {offset} after {position}"));
                }
                env.checker.read(partition, offset, value);
                consumer.position = Offset(offset.0 + 1);
            }
        }
    }

    // ---- Answers ----

    /// `current_epoch`: of the partition's leader, as committed.
    pub(crate) fn handle_answer(
        &mut self,
        env: &mut Env,
        id: u64,
        result: Option<CallResult>,
        current_epoch: impl Fn(TopicIdPartition) -> Option<thalweg_types::LeaderEpoch>,
    ) {
        match self.calls.remove(&id) {
            Some(Pending::Produce { producer, value }) => {
                self.produced(env, producer, value, result);
            }
            Some(Pending::Fetch { consumer }) => self.fetched(env, consumer, id, result),
            Some(Pending::End { partition, floor }) => {
                if let Some(CallResult::End { end, epoch }) = result
                    && current_epoch(partition) == Some(epoch)
                {
                    env.checker.end_told(partition, end, floor);
                }
            }
            None => {}
        }
    }

    /// A partition lost records by an unclean election: consumers learn of it and go back.
    pub(crate) fn go_back(&mut self, partition: TopicIdPartition, end: Offset) {
        for consumer in self.consumers.iter_mut().filter(|c| c.partition == Some(partition)) {
            consumer.position = consumer.position.min(end);
            consumer.call = None;
        }
        for producer in self.producers.iter_mut().filter(|p| p.partition == Some(partition)) {
            producer.in_flight.iter_mut().for_each(|flight| flight.floor = None);
        }
        for pending in self.calls.values_mut() {
            if let Pending::End { partition: other, floor } = pending
                && *other == partition
            {
                *floor = None;
            }
        }
    }

    /// Some running broker's metadata.
    fn view<'a>(&mut self, brokers: &'a [Broker]) -> Option<&'a Broker> {
        let at = self.rng.index(brokers.len());
        brokers.get(at).filter(|broker| broker.is_up && broker.session().is_some())
    }
}

fn call(env: &mut Env, to: Host, id: u64, partition: TopicIdPartition, call: Call) {
    env.send(CLIENTS, to, Message::Call { id, partition, call });
    env.after(CALL_TIMEOUT, Event::CallTimeout { id });
}

fn partition_of(view: &Broker, topic: &str) -> Option<TopicIdPartition> {
    let topic = view.image().topic(topic)?;
    let partition = *topic.partitions.keys().next()?;
    Some(TopicIdPartition { topic_id: topic.id, partition })
}

fn leader_of(view: &Broker, partition: TopicIdPartition) -> Option<Host> {
    let leader = view.image().partition_by_id(partition)?.leader?;
    let endpoint = view.image().node(leader)?.endpoints.first()?;
    Some(usize::from(endpoint.port).saturating_sub(1))
}
