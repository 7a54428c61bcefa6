//! Random lives of a group: members that come, change their minds, are slow, lose answers, die, and come back; topics that come, grow
//! and go; coordinators that are replaced. After every event what must always hold is looked at, and at the end that the group gets to rest.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use thalweg_invariants::{Mutant, Plant};
use thalweg_types::{ErrorCode, PartitionIndex, TopicName};

use super::world::{World, beat, join};
use crate::Topics as _;
use crate::consumer::PartitionSet;
use crate::request::{CommitOffsets, ConsumerHeartbeat};
use crate::response::ConsumerHeartbeatAnswer;

const TOPICS: [&str; 3] = ["t-a", "t-b", "u-c"];

/// What can happen. Members are given by any number, modulo how many there are.
#[derive(Debug, Clone)]
enum Event {
    Join {
        wish: Wish,
        instance: Option<u8>,
    },
    /// A heartbeat; its answer may be lost.
    Beat {
        member: usize,
        is_lost: bool,
    },
    /// A member does what its last answer said.
    Carry {
        member: usize,
    },
    /// It subscribes to something else.
    Change {
        member: usize,
        wish: Wish,
    },
    Leave {
        member: usize,
    },
    /// A static member leaves for a while, and is back in another process.
    Restart {
        member: usize,
    },
    Die {
        member: usize,
    },
    /// A topic is made or grows, or is deleted when the count is 0.
    Topic {
        topic: usize,
        partitions: i32,
    },
    Wait {
        seconds: u64,
    },
    FailOver {
        is_compacted: bool,
    },
}

/// A subscription.
#[derive(Debug, Clone)]
struct Wish {
    topics: BTreeSet<usize>,
    by_regex: bool,
    is_range: bool,
}

/// A client with its own idea of things.
#[derive(Debug)]
struct Client {
    id: String,
    instance: Option<String>,
    wish: Wish,
    epoch: i32,
    /// What it reads.
    owned: PartitionSet,
    /// What it was last told to read.
    told: PartitionSet,
    /// What it last said that it reads.
    said: Option<PartitionSet>,
    is_alive: bool,
    /// It says everything again at its next heartbeat.
    is_unsure: bool,
    /// Its last heartbeat was not answered: until the next one is, it takes up nothing more.
    is_unanswered: bool,
}

struct Life {
    world: World,
    clients: Vec<Client>,
    born: usize,
    /// Highest epochs seen, of the group and of each member.
    group_epoch: i32,
    epochs: BTreeMap<String, i32>,
}

type Verdict = Result<(), String>;

macro_rules! require {
    ($condition:expr, $($detail:tt)+) => {
        if !$condition {
            return Err(format!($($detail)+));
        }
    };
}

impl Life {
    fn new() -> Self {
        let world = World::new(&[(TOPICS[0], 4), (TOPICS[1], 3)]);
        Self { world, clients: Vec::new(), born: 0, group_epoch: 0, epochs: BTreeMap::new() }
    }

    fn live(&mut self, events: &[Event]) -> Verdict {
        for event in events {
            self.happen(event)?;
            self.check()?;
            self.world.check_log();
        }
        self.come_to_rest()?;
        self.world.check_log();
        Ok(())
    }

    fn happen(&mut self, event: &Event) -> Verdict {
        let count = self.clients.len().max(1);
        match event {
            Event::Join { wish, instance } => {
                let instance = instance.map(|instance| format!("i{instance}"));
                let is_taken = |client: &Client| instance.is_some() && client.instance == instance;
                if self.clients.iter().filter(|client| client.is_alive).count() < 5
                    && !self.clients.iter().any(is_taken)
                {
                    let at = self.be_born(wish.clone(), instance);
                    self.beat(at, false)?;
                }
            }
            Event::Beat { member, is_lost } => self.beat(member % count, *is_lost)?,
            Event::Carry { member } => self.carry(member % count),
            Event::Change { member, wish } => {
                if let Some(client) = self.clients.get_mut(member % count) {
                    client.wish = wish.clone();
                    client.is_unsure = true;
                }
            }
            Event::Leave { member } => self.leave(member % count, -1)?,
            Event::Restart { member } => self.restart(member % count)?,
            Event::Die { member } => self.die(member % count),
            Event::Topic { topic, partitions } => self.change_topic(*topic, *partitions),
            Event::Wait { seconds } => {
                self.world.pass(seconds * 1_000);
            }
            Event::FailOver { is_compacted } => {
                if *is_compacted {
                    self.world.compact();
                }
                self.world.fail_over();
            }
        }
        Ok(())
    }

    // ---- Clients ----

    fn be_born(&mut self, wish: Wish, instance: Option<String>) -> usize {
        self.born += 1;
        self.clients.push(Client {
            id: format!("m{}", self.born),
            instance,
            wish,
            epoch: 0,
            owned: PartitionSet::EMPTY,
            told: PartitionSet::EMPTY,
            said: None,
            is_alive: true,
            is_unsure: true,
            is_unanswered: false,
        });
        self.clients.len() - 1
    }

    fn die(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at) {
            (client.is_alive, client.owned) = (false, PartitionSet::EMPTY);
        }
    }

    fn carry(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at).filter(|client| client.is_alive) {
            client.owned = match client.is_unanswered {
                true => client.owned.intersection(&client.told),
                false => client.told.clone(),
            };
        }
    }

    fn beat(&mut self, at: usize, is_lost: bool) -> Verdict {
        let Some(client) = self.clients.get_mut(at).filter(|client| client.is_alive) else {
            return Ok(());
        };
        let request = client.request();
        let (answer, _) = self.world.heartbeat(&request);
        client.said = Some(client.owned.clone());
        (client.is_unsure, client.is_unanswered) = (is_lost, is_lost);
        if is_lost { Ok(()) } else { client.hear(&answer) }
    }

    fn leave(&mut self, at: usize, epoch: i32) -> Verdict {
        let Some(client) = self.clients.get_mut(at).filter(|client| client.is_alive) else {
            return Ok(());
        };
        client.owned = PartitionSet::EMPTY;
        let instance = client.instance.as_deref().map(Into::into);
        let request = ConsumerHeartbeat { instance, ..beat(&client.id, epoch) };
        let (answer, _) = self.world.heartbeat(&request);
        client.is_alive = false;
        let error = answer.error;
        let is_gone = matches!(
            error,
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId | ErrorCode::GroupIdNotFound
        );
        require!(error == ErrorCode::None || is_gone, "left and got {answer:?}");
        if epoch == -1 && error == ErrorCode::None {
            self.epochs.remove(&client.id);
        }
        Ok(())
    }

    fn restart(&mut self, at: usize) -> Verdict {
        let is_static = |client: &&Client| client.is_alive && client.instance.is_some();
        let Some(client) = self.clients.get(at).filter(is_static) else { return Ok(()) };
        let (wish, instance) = (client.wish.clone(), client.instance.clone());
        self.leave(at, -2)?;
        self.clients[at].instance = None;
        let at = self.be_born(wish, instance);
        self.beat(at, false)
    }

    fn change_topic(&mut self, topic: usize, partitions: i32) {
        let name = TOPICS[topic % TOPICS.len()];
        let now = self.world.cluster.topic(name).map_or(0, |facts| facts.partitions);
        if partitions == 0 {
            self.world.cluster.delete(name);
        } else {
            self.world.cluster.set(name, partitions.max(now));
        }
        self.world.metadata_changed();
    }

    // ---- What must always hold ----

    fn check(&mut self) -> Verdict {
        let Some(group) = self.world.group() else { return Ok(()) };
        require!(group.epoch.0 >= self.group_epoch, "the group's epoch went back");
        require!(group.assignment_epoch.0 <= group.epoch.0, "assigned what is not wanted yet");
        self.group_epoch = group.epoch.0;

        let mut told = PartitionSet::EMPTY;
        for (id, member) in &group.members {
            let current = &member.current;
            let own = current.assigned.union(&current.revoking);
            require!(
                current.assigned.is_disjoint(&current.revoking),
                "{id} keeps what it gives up"
            );
            require!(told.is_disjoint(&own), "{id} was given what is another's");
            told = told.union(&own);
            require!(current.epoch.0 <= group.assignment_epoch.0, "{id} is ahead of its group");
            if current.epoch.0 >= 0 {
                let seen = self.epochs.entry(id.as_str().to_owned()).or_insert(0);
                require!(current.epoch.0 >= *seen, "the epoch of {id} went back");
                *seen = current.epoch.0;
            }
        }
        let owners: PartitionSet = group.owners.keys().copied().collect();
        require!(owners == told, "owners {owners:?}, told {told:?}");

        // G3 as clients see it; G2: whoever was removed while it did not notice commits nothing.
        let mut read = PartitionSet::EMPTY;
        for client in self.clients.iter().filter(|client| client.is_alive && client.epoch > 0) {
            let is_member = group.members.get(client.id.as_str());
            if is_member.is_some_and(|member| member.current.epoch.0 >= 0) {
                require!(read.is_disjoint(&client.owned), "{} reads what another reads", client.id);
                read = read.union(&client.owned);
            }
            let is_present = is_member.is_some_and(|member| member.current.epoch.0 == client.epoch);
            let committed = group.check_commit(&client.commit());
            require!(committed.is_ok() == is_present, "{} commits: {committed:?}", client.id);
        }
        Ok(())
    }

    // ---- The end ----

    /// Nothing happens any more but heartbeats: soon everybody reads what he shall, and everything is read.
    fn come_to_rest(&mut self) -> Verdict {
        for _ in 0..30 {
            self.world.pass(3_000);
            for at in 0..self.clients.len() {
                self.beat(at, false)?;
                self.check()?;
                self.carry(at);
                self.check()?;
            }
        }
        let alive: Vec<&Client> = self.clients.iter().filter(|client| client.is_alive).collect();
        let Some(group) = self.world.group() else {
            require!(alive.is_empty(), "somebody is alive in no group");
            return Ok(());
        };
        require!(group.members.len() == alive.len(), "{} members", group.members.len());
        let state = group.state().name();
        require!(state == if alive.is_empty() { "Empty" } else { "Stable" }, "{state}");

        let mut read = PartitionSet::EMPTY;
        let mut wanted = PartitionSet::EMPTY;
        for client in &alive {
            require!(read.is_disjoint(&client.owned), "read twice");
            require!(client.owned == *group.target(&client.id.as_str().into()), "not its target");
            read = read.union(&client.owned);
            for topic in &client.wish.topics {
                let Some(facts) = self.world.cluster.topic(TOPICS[*topic]) else { continue };
                wanted.extend_topic(facts.id, (0..facts.partitions).map(PartitionIndex));
            }
        }
        require!(read == wanted, "read {read:?}, wanted {wanted:?}");
        let is_alike = alive.windows(2).all(|pair| pair[0].wish.topics == pair[1].wish.topics);
        if is_alike && self.world.describe().assignor.as_ref() == "uniform" {
            let loads = || alive.iter().map(|client| client.owned.len());
            let spread = loads().max().unwrap_or(0) - loads().min().unwrap_or(0);
            require!(spread <= 1, "uneven by {spread}");
        }
        Ok(())
    }
}

impl Client {
    fn request(&self) -> ConsumerHeartbeat {
        let names = |wish: &Wish| -> Vec<TopicName> {
            let topics = wish.topics.iter().filter(|_| !wish.by_regex);
            topics.map(|topic| TopicName::new(TOPICS[*topic]).unwrap()).collect()
        };
        let regex = if self.wish.by_regex {
            self.wish.topics.iter().map(|topic| TOPICS[*topic]).collect::<Vec<_>>().join("|")
        } else {
            String::new()
        };
        let mut request = beat(&self.id, self.epoch);
        request.instance = self.instance.as_deref().map(Into::into);
        if self.is_unsure || self.epoch == 0 {
            request.rebalance_timeout_ms = Some(20_000);
            request.subscribed_names = Some(names(&self.wish));
            request.subscribed_regex = Some(regex.into());
            request.server_assignor =
                Some(if self.wish.is_range { "range" } else { "uniform" }.into());
            request.owned = Some(self.owned.to_lists());
        } else if self.said.as_ref() != Some(&self.owned) {
            request.owned = Some(self.owned.to_lists());
        }
        request
    }

    fn hear(&mut self, answer: &ConsumerHeartbeatAnswer) -> Verdict {
        match answer.error {
            ErrorCode::None => {
                self.epoch = answer.member_epoch.0;
                if let Some(assignment) = &answer.assignment {
                    self.told = PartitionSet::from(assignment.as_slice());
                }
            }
            // It gives everything up and begins anew.
            ErrorCode::FencedMemberEpoch
            | ErrorCode::UnknownMemberId
            | ErrorCode::GroupIdNotFound => {
                self.epoch = 0;
                (self.owned, self.told) = (PartitionSet::EMPTY, PartitionSet::EMPTY);
                self.is_unsure = true;
            }
            _ => return Err(format!("{} got {answer:?}", self.id)),
        }
        Ok(())
    }

    fn commit(&self) -> CommitOffsets {
        CommitOffsets {
            group: "g".into(),
            member: self.id.as_str().into(),
            instance: None,
            generation_or_epoch: self.epoch,
            retention_ms: None,
            knows_consumer_protocol: true,
            topics: Vec::new(),
        }
    }
}

// ---- What is tried ----

fn wish() -> impl Strategy<Value = Wish> {
    let topics = prop_oneof![
        2 => Just(BTreeSet::from([0, 1])),
        1 => prop::collection::btree_set(0..TOPICS.len(), 0..=TOPICS.len()),
    ];
    (topics, prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(topics, by_regex, is_range)| Wish { topics, by_regex, is_range })
}

fn event() -> impl Strategy<Value = Event> {
    let member = || 0_usize..8;
    prop_oneof![
        4 => (wish(), prop::option::of(0_u8..3))
            .prop_map(|(wish, instance)| Event::Join { wish, instance }),
        12 => (member(), prop::bool::weighted(0.15))
            .prop_map(|(member, is_lost)| Event::Beat { member, is_lost }),
        8 => member().prop_map(|member| Event::Carry { member }),
        1 => (member(), wish()).prop_map(|(member, wish)| Event::Change { member, wish }),
        1 => member().prop_map(|member| Event::Leave { member }),
        1 => member().prop_map(|member| Event::Restart { member }),
        1 => member().prop_map(|member| Event::Die { member }),
        1 => (0..TOPICS.len(), 0_i32..7)
            .prop_map(|(topic, partitions)| Event::Topic { topic, partitions }),
        3 => (1_u64..20).prop_map(|seconds| Event::Wait { seconds }),
        1 => any::<bool>().prop_map(|is_compacted| Event::FailOver { is_compacted }),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..80)
}

proptest! {
    #[test]
    fn nobody_reads_what_another_reads_and_the_group_comes_to_rest(events in events()) {
        let verdict = Life::new().live(&events);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}

#[test]
fn an_epoch_that_is_not_compared_is_found_out() {
    let _plant = Plant::new(Mutant::M21);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let found = runner.run(&events(), |events| {
        let verdict = Life::new().live(&events);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
        Ok(())
    });
    assert!(found.is_err());
}

#[test]
fn a_first_heartbeat_that_comes_again_later_takes_nothing_away() {
    let mut world = World::new(&[(TOPICS[0], 2)]);
    let first = join("a", &[TOPICS[0]]);
    world.accepted(&first);
    world.accepted(&join("b", &[TOPICS[0]]));
    world.accepted(&beat("a", 1));
    let owned = world.group().unwrap().members["a"].current.assigned.to_lists();
    world.accepted(&ConsumerHeartbeat { owned: Some(owned), ..beat("a", 1) });
    world.accepted(&beat("b", 2));
    assert_eq!(world.refused(&first), ErrorCode::FencedMemberEpoch);
}
