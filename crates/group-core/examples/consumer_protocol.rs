//! What the consumer protocol costs a coordinator: assignments, a group that forms, quiet heartbeats.
//!
//! `cargo run --release -p thalweg-group-core --example consumer_protocol`. Times are of this machine and this minute; compare them with each other.

#![expect(clippy::disallowed_methods, reason = "what measures a core reads the clock")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use thalweg_group_core::request::ConsumerHeartbeat;
use thalweg_group_core::{
    Assignor, Call, Client, GroupConfig, Groups, Now, PartitionSet, Request, Response, Subscriber,
    Token, TopicFacts, Topics,
};
use thalweg_types::{MemberEpoch, Moment, PartitionIndex, Timestamp, TopicId, TopicName, Uuid};

/// Partitions as a heartbeat has them; `None`: nothing new.
type Partitions = Option<Vec<(TopicId, Vec<PartitionIndex>)>>;

fn main() {
    for (partitions, members) in [(1_000, 100), (10_000, 1_000)] {
        for topics in [1, 100] {
            for is_mixed in [false, true] {
                assignments(topics, partitions, members, is_mixed);
            }
        }
    }
    for (partitions, members) in [(1_000, 100), (10_000, 1_000)] {
        formation(partitions, members);
    }
    quiet_heartbeats(10_000, 2);
}

fn topic(number: usize) -> TopicId {
    TopicId(Uuid::from_bytes((number as u128 + 1).to_be_bytes()))
}

// ---- Assignors ----

/// A first assignment, then one member more, then one less.
fn assignments(topics: usize, partitions: usize, members: usize, is_mixed: bool) {
    let counts: BTreeMap<TopicId, i32> =
        (0..topics).map(|number| (topic(number), (partitions / topics) as i32)).collect();
    let all: Rc<[TopicId]> = counts.keys().copied().collect();
    let half: Rc<[TopicId]> = counts.keys().copied().take(topics.div_ceil(2)).collect();
    let ids: Vec<String> = (0..=members).map(|number| format!("member-{number:0>36}")).collect();
    let topics_of =
        |member: usize| Rc::clone(if is_mixed && member.is_multiple_of(3) { &half } else { &all });
    for assignor in Assignor::ALL {
        let mut targets = vec![PartitionSet::EMPTY; members + 1];
        let mut times = Vec::new();
        let mut moved = 0;
        for present in [0..members, 0..members + 1, 1..members + 1] {
            let subscribers: Vec<Subscriber<'_>> = present
                .clone()
                .map(|member| Subscriber {
                    member_id: &ids[member],
                    instance_id: None,
                    topics: topics_of(member),
                    target: &targets[member],
                })
                .collect();
            let start = Instant::now();
            let sets = assignor.assign(&subscribers, &counts);
            times.push(milliseconds(start.elapsed()));
            moved = present
                .clone()
                .zip(&sets)
                .map(|(member, set)| set.difference(&targets[member]).len())
                .sum();
            present.zip(sets).for_each(|(member, set)| targets[member] = set);
        }
        let loads = targets.iter().skip(1).map(PartitionSet::len);
        let (least, most) = (loads.clone().min().unwrap_or(0), loads.max().unwrap_or(0));
        println!(
            "{:8} {partitions:6} partitions of {topics:3} topics, {members:5} members{}: \
             first {} ms, one more {} ms, one less {} ms; then {moved} moved, {least} to {most} each",
            assignor.name(),
            if is_mixed { " of two subscriptions" } else { "" },
            times[0],
            times[1],
            times[2],
        );
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

// ---- Groups ----

struct OneTopic {
    name: TopicName,
    partitions: i32,
}

impl Topics for OneTopic {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        let facts = TopicFacts { id: topic(0), partitions: self.partitions };
        (name == self.name.as_str()).then_some(facts)
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        (id == topic(0)).then(|| self.name.clone())
    }

    fn for_each_name(&self, visit: &mut dyn FnMut(&TopicName)) {
        visit(&self.name);
    }
}

struct Coordinator {
    groups: Groups,
    topics: OneTopic,
    calls: u64,
    records: usize,
}

impl Coordinator {
    fn new(partitions: i32) -> Self {
        let name = TopicName::new("topic").expect("a valid name");
        let topics = OneTopic { name, partitions };
        Self { groups: Groups::new(GroupConfig::default()), topics, calls: 0, records: 0 }
    }

    /// The epoch that the member is told, and what it is to own if that is news.
    fn heartbeat(
        &mut self,
        group: &str,
        member: &str,
        epoch: i32,
        owned: Partitions,
    ) -> (i32, Partitions) {
        self.calls += 1;
        let joins = epoch == 0;
        let request = ConsumerHeartbeat {
            group: group.into(),
            member: member.into(),
            member_epoch: MemberEpoch(epoch),
            instance: None,
            rack: None,
            rebalance_timeout_ms: joins.then_some(60_000),
            subscribed_names: joins.then(|| vec![self.topics.name.clone()]),
            subscribed_regex: None,
            server_assignor: None,
            owned: if joins { Some(Vec::new()) } else { owned },
            requires_client_made_id: true,
        };
        let call = Call {
            token: Token(self.calls),
            client: Client { id: "client".into(), host: "/127.0.0.1".into() },
            fresh: Uuid::ZERO,
            request: Request::ConsumerHeartbeat(request),
        };
        let now = Now { moment: Moment(self.calls / 1_000), wall: Timestamp(0) };
        let effects = self.groups.handle(call, &self.topics, now);
        self.records += effects.records.len();
        match effects.answers.into_iter().next() {
            Some((_, Response::ConsumerHeartbeat(answer))) => {
                (answer.member_epoch.0, answer.assignment)
            }
            other => panic!("no answer to a heartbeat: {other:?}"),
        }
    }
}

/// Members join one after the other, and beat until nothing changes any more.
fn formation(partitions: i32, members: usize) {
    let mut coordinator = Coordinator::new(partitions);
    let ids: Vec<String> = (0..members).map(|number| format!("member-{number:0>36}")).collect();
    let start = Instant::now();
    let mut states: Vec<(i32, Partitions)> =
        ids.iter().map(|id| coordinator.heartbeat("group", id, 0, None)).collect();
    let joined = start.elapsed();
    let mut rounds = 0;
    loop {
        let before = coordinator.records;
        for (id, state) in ids.iter().zip(&mut states) {
            let owned = state.1.take();
            *state = coordinator.heartbeat("group", id, state.0, owned);
        }
        rounds += 1;
        if coordinator.records == before {
            break;
        }
    }
    println!(
        "a group of {members} members over {partitions} partitions forms in {} ms of processor time \
         ({} ms to join, {rounds} rounds of heartbeats, {} records)",
        milliseconds(start.elapsed()),
        milliseconds(joined),
        coordinator.records,
    );
}

fn quiet_heartbeats(groups: usize, members: usize) {
    let mut coordinator = Coordinator::new(4);
    let ids: Vec<(String, String)> = (0..groups)
        .flat_map(|group| (0..members).map(move |member| (group, member)))
        .map(|(group, member)| (format!("group-{group:0>8}"), format!("member-{member:0>36}")))
        .collect();
    let mut epochs: Vec<i32> =
        ids.iter().map(|(group, member)| coordinator.heartbeat(group, member, 0, None).0).collect();
    // Whoever has to give up half says so.
    for _ in 0..3 {
        for ((group, member), epoch) in ids.iter().zip(&mut epochs) {
            let (next, told) = coordinator.heartbeat(group, member, *epoch, None);
            *epoch = match told {
                Some(told) => coordinator.heartbeat(group, member, next, Some(told)).0,
                None => next,
            };
        }
    }
    let (records, rounds) = (coordinator.records, 5);
    let start = Instant::now();
    for _ in 0..rounds {
        for ((group, member), epoch) in ids.iter().zip(&epochs) {
            coordinator.heartbeat(group, member, *epoch, None);
        }
    }
    let each = start.elapsed().as_secs_f64() / (rounds * ids.len()) as f64;
    println!(
        "{groups} groups of {members}: {:.2} microseconds a quiet heartbeat, {} records",
        each * 1e6,
        coordinator.records - records,
    );
}
