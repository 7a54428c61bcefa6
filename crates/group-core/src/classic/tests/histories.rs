//! Random histories of clients that come, go, die, return, repeat themselves and speak from the past, on coordinators that fail.
//!
//! Effects reach the log late and in order, as behind a real log; their answers go out then. A failing coordinator takes along what has not
//! reached it. Checked on the way: G1 (what was acknowledged is found again), G2 (no commit of a generation after a newer one was stored), G3
//! (nobody is told to own what another one was told in the same generation), G4 (nothing is found that nobody committed). At the end,
//! when the clients behave, everything is owned by somebody.

mod client;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use thalweg_invariants::{Mutant, Plant};
use thalweg_types::{ErrorCode, Moment, Timestamp, Uuid};

use crate::record;
use crate::request::{FetchOffsets, TopicPartitions, TopicRef};
use crate::testing::{FakeTopics, GROUP};
use crate::{Call, Client, Effects, GroupConfig, Groups, Now, Record, Request, Response, Token};
use client::{Actor, PARTITIONS};

const SEEDS: u64 = 150;
const STEPS: usize = 400;

/// Numbers that look random and are the same for the same seed (xorshift64*).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Effects on their way to the log, with what the history needs to judge them.
#[derive(Debug)]
struct Underway {
    effects: Effects,
    /// The generation that the call claimed which made these effects, if it was a member's commit.
    commit_of: Option<i32>,
}

struct History {
    dice: Dice,
    groups: Groups,
    topics: FakeTopics,
    now: Now,
    log: Vec<(Bytes, Option<Bytes>)>,
    underway: VecDeque<Underway>,
    /// What each call was, until it is answered.
    calls: BTreeMap<Token, Request>,
    /// Whose answer it is: which client, in which life.
    callers: BTreeMap<Token, (usize, u32)>,
    actors: Vec<Actor>,
    /// Calls of the past, to be said again at a bad time.
    said: VecDeque<Request>,
    last_token: u64,
    last_offset: i64,
    /// Offsets by partition: as decided, and as far as they are in the log.
    decided: BTreeMap<i32, i64>,
    stored: BTreeMap<i32, i64>,
    stored_generation: i32,
    /// Who was told to own what.
    owners: BTreeMap<(i32, u8), String>,
}

type Verdict = Result<(), String>;

impl History {
    fn new(seed: u64) -> Self {
        let actors = (0..6).map(|number| Actor::new(number, number % 3 == 0)).collect();
        let mut history = Self {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            groups: Groups::new(config()),
            topics: FakeTopics::with(&[("t", i32::from(PARTITIONS))]),
            now: Now { moment: Moment(1_000), wall: Timestamp(1_000_000) },
            log: Vec::new(),
            underway: VecDeque::new(),
            calls: BTreeMap::new(),
            callers: BTreeMap::new(),
            actors,
            said: VecDeque::new(),
            last_token: 0,
            last_offset: 0,
            decided: BTreeMap::new(),
            stored: BTreeMap::new(),
            stored_generation: 0,
            owners: BTreeMap::new(),
        };
        history.fail_over();
        history
    }

    fn run(seed: u64) -> Verdict {
        let mut history = Self::new(seed);
        for step in 0..STEPS {
            history.step().map_err(|error| format!("seed {seed}, step {step}: {error}"))?;
        }
        history.settle().map_err(|error| format!("seed {seed}, at the end: {error}"))
    }

    fn step(&mut self) -> Verdict {
        let who = self.dice.below(self.actors.len() as u64) as usize;
        match self.dice.below(100) {
            0..40 => self.act(who),
            40..50 => self.commit(who),
            50..56 => self.commit_from_the_past(who),
            56..60 => self.repeat(),
            60..63 => self.leave(who),
            63..66 => {
                self.actors[who].restart();
                Ok(())
            }
            66..71 => self.fetch(),
            71..72 => {
                self.fail_over();
                Ok(())
            }
            72..86 => {
                let ms = self.dice.below(2_500);
                self.pass(ms)
            }
            _ => {
                let count = 1 + self.dice.below(4) as usize;
                self.deliver(count)
            }
        }
    }

    /// Everybody behaves for a while: somebody owns each partition then, and it is one of those who are there.
    fn settle(&mut self) -> Verdict {
        for _ in 0..200 {
            for who in 0..self.actors.len() {
                self.act(who)?;
            }
            self.deliver(usize::MAX)?;
            self.pass(500)?;
        }
        self.fetch()?;
        let generation = self.actors[0].generation;
        if self.actors.iter().any(|actor| !actor.is_in() || actor.generation != generation) {
            return Err(format!("not all are in one generation: {:?}", self.actors));
        }
        let owned = (0..PARTITIONS).all(|partition| {
            self.actors.iter().filter(|actor| actor.share.contains(&partition)).count() == 1
        });
        if owned { Ok(()) } else { Err(format!("not all is owned by one: {:?}", self.actors)) }
    }

    // ---- The coordinator, its log and its time ----

    fn call(&mut self, caller: Option<usize>, request: Request) -> Verdict {
        self.last_token += 1;
        let token = Token(self.last_token);
        if let Some(who) = caller {
            self.callers.insert(token, (who, self.actors[who].life));
            self.said.push_back(request.clone());
            if self.said.len() > 30 {
                self.said.pop_front();
            }
        }
        let commit_of = match &request {
            Request::CommitOffsets(commit) => Some(commit.generation_or_epoch),
            _ => None,
        };
        self.calls.insert(token, request.clone());
        let call = Call {
            token,
            client: Client { id: "c".into(), host: "/127.0.0.1".into() },
            fresh: Uuid::from_bytes(u128::from(token.0).to_be_bytes()),
            request,
        };
        let effects = self.groups.handle(call, &self.topics, self.now);
        self.decide(effects, commit_of)
    }

    fn decide(&mut self, effects: Effects, commit_of: Option<i32>) -> Verdict {
        for record in &effects.records {
            if let Record::Offset(key, value) = record {
                let offset = value.as_ref().map_or(-1, |value| value.offset.0);
                self.decided.insert(key.partition.0, offset);
            }
        }
        for (_, answer) in &effects.answers {
            self.judge_fetch(answer)?;
        }
        self.underway.push_back(Underway { effects, commit_of });
        Ok(())
    }

    /// G1, G4: what is found is what was last committed.
    fn judge_fetch(&self, answer: &Response) -> Verdict {
        let Response::FetchOffsets(fetched) = answer else { return Ok(()) };
        for found in fetched.topics.iter().flat_map(|topic| &topic.partitions) {
            let expected = self.decided.get(&found.partition.0).copied().unwrap_or(-1);
            if found.offset.0 != expected {
                return Err(format!("G1: {found:?} instead of {expected}"));
            }
        }
        Ok(())
    }

    /// Effects reach the log, and their answers whoever waits for them.
    fn deliver(&mut self, count: usize) -> Verdict {
        for _ in 0..count {
            let Some(Underway { effects, commit_of }) = self.underway.pop_front() else { break };
            for record in &effects.records {
                self.store(record, commit_of)?;
            }
            for (token, answer) in effects.answers {
                let request = self.calls.remove(&token).ok_or("answered twice, or never asked")?;
                self.judge_share(&request, &answer)?;
                if let Some((who, life)) = self.callers.remove(&token)
                    && self.actors[who].life == life
                {
                    self.actors[who].hear(&request, answer);
                }
            }
        }
        Ok(())
    }

    fn store(&mut self, record: &Record, commit_of: Option<i32>) -> Verdict {
        match record {
            Record::Group(_, Some(group)) => self.stored_generation = group.generation.0,
            Record::Offset(key, value) => {
                let offset = value.as_ref().map_or(-1, |value| value.offset.0);
                self.stored.insert(key.partition.0, offset);
                if commit_of.is_some_and(|claimed| claimed < self.stored_generation) {
                    let stored = self.stored_generation;
                    return Err(format!("G2: a commit of {commit_of:?} in generation {stored}"));
                }
            }
            _ => {}
        }
        self.log.push(record::encode(record));
        Ok(())
    }

    /// G3: whoever is told a share is the only one who is, in this generation.
    fn judge_share(&mut self, request: &Request, answer: &Response) -> Verdict {
        let (Request::Sync(sync), Response::Sync(synced)) = (request, answer) else {
            return Ok(());
        };
        if synced.error != ErrorCode::None {
            return Ok(());
        }
        let name = sync.instance.as_ref().map_or(sync.member.as_str(), |id| id.as_str());
        for partition in &synced.assignment {
            let owner = self.owners.entry((sync.generation.0, *partition));
            let owner = owner.or_insert_with(|| name.to_owned());
            if owner != name {
                return Err(format!("G3: {partition} is {owner}'s and {name}'s: {sync:?}"));
            }
        }
        Ok(())
    }

    /// The coordinator fails, and with it what did not reach the log; another one takes over.
    fn fail_over(&mut self) {
        self.underway.clear();
        self.calls.clear();
        for (who, life) in std::mem::take(&mut self.callers).into_values() {
            if self.actors[who].life == life {
                self.actors[who].hear_nothing();
            }
        }
        self.decided = self.stored.clone();
        self.groups = Groups::new(config());
        for (key, value) in &self.log {
            let record = record::decode(key, value.as_ref()).expect("our own").expect("known");
            self.groups.replay(record);
        }
        let effects = self.groups.start(&self.topics, self.now);
        self.underway.push_back(Underway { effects, commit_of: None });
    }

    fn pass(&mut self, ms: u64) -> Verdict {
        let end = self.now.moment.saturating_add_ms(ms);
        while let Some(at) = self.groups.next_deadline().filter(|at| *at <= end) {
            self.now.moment = at.max(self.now.moment);
            let effects = self.groups.handle_deadline(&self.topics, self.now);
            self.decide(effects, None)?;
        }
        self.now = Now { moment: end, wall: self.now.wall.saturating_add_ms(ms as i64) };
        Ok(())
    }

    // ---- What clients do ----

    fn act(&mut self, who: usize) -> Verdict {
        match self.actors[who].next() {
            Some(request) => self.call(Some(who), request),
            None => Ok(()),
        }
    }

    fn commit(&mut self, who: usize) -> Verdict {
        let partition = self.dice.below(u64::from(PARTITIONS)) as i32;
        self.last_offset += 1;
        let commit = self.actors[who].commit(partition, self.last_offset);
        commit.map_or(Ok(()), |commit| self.call(Some(who), commit))
    }

    /// A member says what it would have said some generations ago, or will in one to come.
    fn commit_from_the_past(&mut self, who: usize) -> Verdict {
        let shift = self.dice.below(4) as i32 - 2;
        let Some(Request::CommitOffsets(mut commit)) = self.actors[who].commit(0, 0) else {
            return Ok(());
        };
        self.last_offset += 1;
        commit.generation_or_epoch = (commit.generation_or_epoch + shift).max(0);
        commit.topics[0].partitions[0].offset.0 = self.last_offset;
        self.call(None, Request::CommitOffsets(commit))
    }

    fn repeat(&mut self) -> Verdict {
        if self.said.is_empty() {
            return Ok(());
        }
        let which = self.dice.below(self.said.len() as u64) as usize;
        let request = self.said[which].clone();
        self.call(None, request)
    }

    fn leave(&mut self, who: usize) -> Verdict {
        let request = self.actors[who].leave();
        request.map_or(Ok(()), |request| self.call(Some(who), request))
    }

    fn fetch(&mut self) -> Verdict {
        let partitions = (0..i32::from(PARTITIONS)).map(thalweg_types::PartitionIndex).collect();
        let fetch = FetchOffsets {
            group: GROUP.into(),
            member: None,
            member_epoch: thalweg_types::MemberEpoch::NONE,
            topics: Some(vec![TopicPartitions { topic: TopicRef::Name("t".into()), partitions }]),
            require_stable: true,
        };
        self.call(None, Request::FetchOffsets(fetch))
    }
}

fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: 200,
        session_timeout_min_ms: 100,
        new_member_timeout_ms: 5_000,
        ..GroupConfig::default()
    }
}

#[test]
fn whatever_clients_do_offsets_are_kept_and_nothing_is_owned_twice() {
    for seed in 0..SEEDS {
        if let Err(error) = History::run(seed) {
            panic!("{error}");
        }
    }
}

#[test]
fn a_generation_that_is_not_compared_is_found_out() {
    let _plant = Plant::new(Mutant::M21);
    let found = (0..SEEDS).find_map(|seed| History::run(seed).err());
    assert!(found.is_some_and(|error| error.contains("G2") || error.contains("G3")));
}
