//! What the rules themselves cost: heartbeats of many groups, a rebalance of a large one, commits, and loading.
//!
//! No log, no network: what is measured is the processor time between a call and its effects.
//!
//! `cargo run --release -p thalweg-group-core --example speed`

use std::time::{Duration, Instant};

use bytes::Bytes;

use thalweg_group_core::request::{
    CommitOffsets, Heartbeat, Join, PartitionCommit, Protocol, Sync, TopicCommits, TopicRef,
};
use thalweg_group_core::response::{Joined, Response};
use thalweg_group_core::{
    Call, Client, Effects, GroupConfig, Groups, Now, Request, Token, TopicFacts, Topics, record,
};
use thalweg_types::{
    GroupId, LeaderEpoch, Moment, Offset, PartitionIndex, Timestamp, TopicId, TopicName, Uuid,
};

const GROUPS: usize = 10_000;
const HEARTBEAT_ROUNDS: usize = 20;
const BIG_GROUP: usize = 100;
const SHARE_BYTES: usize = 10 * 4 + 20;
const COMMITS: usize = 1_000_000;

/// One topic with as many partitions as anybody asks for.
#[derive(Debug)]
struct OneTopic(TopicName);

impl Topics for OneTopic {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        let id = TopicId(Uuid::from_bytes([1; 16]));
        (name == self.0.as_str()).then_some(TopicFacts { id, partitions: i32::MAX })
    }

    fn name_of(&self, _: TopicId) -> Option<TopicName> {
        Some(self.0.clone())
    }

    fn for_each_name(&self, visit: &mut dyn FnMut(&TopicName)) {
        visit(&self.0);
    }
}

/// Calls with tokens of their own.
struct Driver {
    groups: Groups,
    topics: OneTopic,
    now: Now,
    last_token: u64,
}

impl Driver {
    fn new() -> Self {
        let config = GroupConfig::default();
        let topics = OneTopic(TopicName::new("topic").expect("a valid name"));
        let now = Now { moment: Moment(0), wall: Timestamp(0) };
        let mut groups = Groups::new(config);
        groups.start(&topics, now);
        Self { groups, topics, now, last_token: 0 }
    }

    fn call(&mut self, request: Request) -> Effects {
        self.last_token += 1;
        let call = Call {
            token: Token(self.last_token),
            client: Client { id: "client".into(), host: "/127.0.0.1".into() },
            fresh: Uuid::from_bytes(u128::from(self.last_token).to_be_bytes()),
            request,
        };
        self.groups.handle(call, &self.topics, self.now)
    }

    /// Members of one group join and share; what they were told, the leader first.
    fn form(&mut self, group: &GroupId, members: usize) -> Vec<Joined> {
        let mut effects: Vec<Effects> =
            (0..members).map(|_| self.call(Request::Join(join(group, "")))).collect();
        self.now.moment = self.now.moment.saturating_add_ms(3_000);
        effects.push(self.groups.handle_deadline(&self.topics, self.now));
        self.now.moment = self.now.moment.saturating_add_ms(3_000);
        effects.push(self.groups.handle_deadline(&self.topics, self.now));
        let mut told = joined(effects);
        told.sort_by_key(|joined| joined.members.is_empty());
        self.share(group, &told);
        told
    }

    /// Everybody fetches its share; the leader, who comes last, brings them.
    fn share(&mut self, group: &GroupId, told: &[Joined]) -> usize {
        let share = Bytes::from(vec![0; SHARE_BYTES]);
        let mut answers = 0;
        for joined in told.iter().rev() {
            let shares = joined.members.iter().map(|member| (member.member.clone(), share.clone()));
            let sync = Sync {
                group: group.clone(),
                member: joined.member.clone(),
                instance: None,
                generation: joined.generation,
                protocol_type: None,
                protocol: None,
                assignments: shares.collect(),
            };
            let effects = self.call(Request::Sync(sync));
            effects.records.iter().for_each(|record| drop(record::encode(record)));
            answers += effects.answers.len();
        }
        answers
    }
}

fn join(group: &GroupId, member: &str) -> Join {
    Join {
        group: group.clone(),
        member: member.into(),
        instance: None,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from(vec![0; 200]) }],
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: 60_000,
        requires_known_member: false,
        supports_skipping_assignment: true,
        reason: None,
    }
}

fn joined(effects: Vec<Effects>) -> Vec<Joined> {
    let answers = effects.into_iter().flat_map(|effects| effects.answers);
    let joins = answers.filter_map(|(_, answer)| match answer {
        Response::Join(joined) => Some(joined),
        _ => None,
    });
    joins.collect()
}

fn main() {
    heartbeats();
    rebalance();
    commits_and_load();
}

#[expect(clippy::disallowed_methods, reason = "this program measures; the core does not")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn heartbeats() {
    let mut driver = Driver::new();
    let mut calls = Vec::new();
    for number in 0..GROUPS {
        let group = GroupId::from(format!("group-{number}"));
        for joined in driver.form(&group, 2) {
            calls.push(Heartbeat {
                group: group.clone(),
                member: joined.member,
                instance: None,
                generation: joined.generation,
            });
        }
    }
    let count = calls.len() * HEARTBEAT_ROUNDS;
    let ((), took) = timed(|| {
        for _ in 0..HEARTBEAT_ROUNDS {
            driver.now.moment = driver.now.moment.saturating_add_ms(3_000);
            for call in &calls {
                let effects = driver.call(Request::Heartbeat(call.clone()));
                assert!(effects.records.is_empty());
            }
            driver.groups.handle_deadline(&driver.topics, driver.now);
        }
    });
    report("heartbeats, 10,000 groups of 2", count, took);
    // Every member beats once in three seconds.
    let share = took.as_secs_f64() / (HEARTBEAT_ROUNDS as f64 * 3.0) * 100.0;
    println!("  at one in 3 s each: {share:.2} % of a core");
}

fn rebalance() {
    let mut driver = Driver::new();
    let group = GroupId::from("big");
    let told = driver.form(&group, BIG_GROUP);
    let (answers, took) = timed(|| {
        let mut effects = Vec::new();
        // The leader first: it makes the rebalance.
        for member in &told {
            effects.push(driver.call(Request::Join(join(&group, member.member.as_str()))));
        }
        let mut again = joined(effects);
        again.sort_by_key(|joined| joined.members.is_empty());
        driver.share(&group, &again)
    });
    assert_eq!(answers, BIG_GROUP);
    println!("a rebalance of {BIG_GROUP} members: {:.2} ms", took.as_secs_f64() * 1e3);
}

fn commits_and_load() {
    let mut driver = Driver::new();
    let mut log = Vec::with_capacity(COMMITS);
    let ((), took) = timed(|| {
        for number in 0..COMMITS {
            let effects = driver.call(Request::CommitOffsets(commit(number)));
            log.extend(effects.records.iter().map(record::encode));
        }
    });
    report("commits of one partition, encoded", COMMITS, took);
    drop(driver);
    let mut groups = Groups::new(GroupConfig::default());
    let ((), took) = timed(|| {
        for (key, value) in &log {
            match record::decode(key, value.as_ref()) {
                Ok(Some(record)) => groups.replay(record),
                other => panic!("not what was written: {other:?}"),
            }
        }
    });
    report("records loaded", log.len(), took);
}

fn commit(number: usize) -> CommitOffsets {
    CommitOffsets {
        group: format!("group-{}", number / 100).into(),
        member: "".into(),
        instance: None,
        generation_or_epoch: -1,
        retention_ms: None,
        knows_consumer_protocol: true,
        topics: vec![TopicCommits {
            topic: TopicRef::Name("topic".into()),
            partitions: vec![PartitionCommit {
                partition: PartitionIndex((number % 100) as i32),
                offset: Offset(number as i64),
                leader_epoch: LeaderEpoch(1),
                metadata: "".into(),
            }],
        }],
    }
}

fn report(what: &str, count: usize, took: Duration) {
    let rate = count as f64 / took.as_secs_f64();
    let each_ns = took.as_nanos() / count as u128;
    println!("{what}: {rate:.0}/s, {each_ns} ns each");
}
