//! Random lives of a group whose clients speak both protocols, so that it changes from one to the other and back: nobody reads what
//! another member reads, and in the end everything is read.

use proptest::prelude::*;
use thalweg_types::{ErrorCode, GenerationId, PartitionIndex};

use super::migration::subscription;
use super::world::{World, beat, join};
use crate::consumer::PartitionSet;
use crate::consumer::classic_members::{by_id, by_name};
use crate::groups::AnyGroup;
use crate::record::embedded::{self, Subscription};
use crate::request::{self, ConsumerHeartbeat, Protocol, Request};
use crate::response::{Joined, JoinedMember, Response, Synced};
use crate::{Token, Topics as _};

const TOPIC: &str = "t";

#[derive(Debug, Clone)]
enum Event {
    Join {
        is_classic: bool,
    },
    /// A member does the next thing that its protocol asks of it.
    Step {
        member: usize,
    },
    Carry {
        member: usize,
    },
    Leave {
        member: usize,
    },
    Die {
        member: usize,
    },
    Grow {
        partitions: i32,
    },
    Wait {
        seconds: u64,
    },
    FailOver {
        is_compacted: bool,
    },
}

/// What a classic client does next.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Join,
    /// Fetch its share; whoever leads has all members here.
    Sync(Vec<JoinedMember>),
    Beat,
}

#[derive(Debug)]
struct Client {
    id: String,
    is_classic: bool,
    is_alive: bool,
    owned: PartitionSet,
    /// Of the consumer protocol: what it was last told.
    told: PartitionSet,
    said: Option<PartitionSet>,
    /// Member epoch or generation.
    epoch: i32,
    phase: Phase,
    waiting: Option<Token>,
}

struct Life {
    world: World,
    clients: Vec<Client>,
    born: usize,
}

type Verdict = Result<(), String>;

impl Life {
    fn new() -> Self {
        Self { world: World::new(&[(TOPIC, 5)]), clients: Vec::new(), born: 0 }
    }

    fn live(&mut self, events: &[Event]) -> Verdict {
        for event in events {
            self.happen(event)?;
            self.check()?;
        }
        self.world.check_log();
        self.come_to_rest()?;
        self.world.check_log();
        Ok(())
    }

    fn happen(&mut self, event: &Event) -> Verdict {
        let count = self.clients.len().max(1);
        match event {
            Event::Join { is_classic } => {
                if self.clients.iter().filter(|client| client.is_alive).count() < 4 {
                    self.be_born(*is_classic);
                    self.step(self.clients.len() - 1)?;
                }
            }
            Event::Step { member } => self.step(member % count)?,
            Event::Carry { member } => self.carry(member % count),
            Event::Leave { member } => self.leave(member % count),
            Event::Die { member } => self.die(member % count),
            Event::Grow { partitions } => {
                let now = self.world.cluster.topic(TOPIC).map_or(0, |facts| facts.partitions);
                self.world.cluster.set(TOPIC, now.max(*partitions));
                self.world.metadata_changed();
            }
            Event::Wait { seconds } => {
                self.world.pass(seconds * 1_000);
            }
            Event::FailOver { is_compacted } => {
                if *is_compacted {
                    self.world.compact();
                }
                self.world.fail_over();
                self.clients.iter_mut().for_each(|client| client.waiting = None);
            }
        }
        Ok(())
    }

    fn be_born(&mut self, is_classic: bool) {
        self.born += 1;
        let id = if is_classic { String::new() } else { format!("m{}", self.born) };
        self.clients.push(Client {
            id,
            is_classic,
            is_alive: true,
            owned: PartitionSet::EMPTY,
            told: PartitionSet::EMPTY,
            said: None,
            epoch: 0,
            phase: Phase::Join,
            waiting: None,
        });
    }

    fn die(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at) {
            (client.is_alive, client.owned) = (false, PartitionSet::EMPTY);
        }
    }

    fn leave(&mut self, at: usize) {
        let Some(client) = self.clients.get(at).filter(|client| client.is_alive) else { return };
        let (id, is_classic) = (client.id.clone(), client.is_classic);
        self.die(at);
        if is_classic {
            let leaving =
                request::LeavingMember { member: id.as_str().into(), instance: None, reason: None };
            let leave = request::Leave { group: "g".into(), members: vec![leaving] };
            self.world.call(Request::Leave(leave));
        } else {
            self.world.heartbeat(&beat(&id, -1));
        }
    }

    fn carry(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at)
            && client.is_alive
            && !client.is_classic
        {
            client.owned = client.told.clone();
        }
    }

    fn step(&mut self, at: usize) -> Verdict {
        let Some(client) = self.clients.get_mut(at).filter(|client| client.is_alive) else {
            return Ok(());
        };
        if client.is_classic {
            client.step_classic(&mut self.world)
        } else {
            client.beat(&mut self.world)
        }
    }

    // ---- What must always hold ----

    fn check(&self) -> Verdict {
        let members: Vec<String> = match self.world.groups.groups.values().next() {
            None => return Ok(()),
            Some(AnyGroup::Consumer(group)) => {
                group.members.keys().map(|id| id.as_str().to_owned()).collect()
            }
            Some(AnyGroup::Classic(group)) => {
                let migrants = group.migrants();
                migrants.iter().map(|migrant| migrant.id.as_str().to_owned()).collect()
            }
        };
        let mut read = PartitionSet::EMPTY;
        for client in self.clients.iter().filter(|client| client.is_alive) {
            if !members.contains(&client.id) {
                continue;
            }
            if !read.is_disjoint(&client.owned) {
                return Err(format!("{} reads what another reads", client.id));
            }
            read = read.union(&client.owned);
        }
        Ok(())
    }

    fn come_to_rest(&mut self) -> Verdict {
        for _ in 0..60 {
            self.world.pass(1_000);
            for at in 0..self.clients.len() {
                for _ in 0..3 {
                    self.step(at)?;
                    self.check()?;
                    self.carry(at);
                    self.check()?;
                }
            }
        }
        let alive: Vec<&Client> = self.clients.iter().filter(|client| client.is_alive).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let is_classic = alive.iter().all(|client| client.is_classic);
        if self.world.is_classic() != is_classic {
            return Err(format!("the group should be classic: {is_classic}"));
        }
        let read = alive.iter().fold(PartitionSet::EMPTY, |read, client| read.union(&client.owned));
        let facts = self.world.cluster.topic(TOPIC).ok_or("no topic")?;
        // Clients of a classic group look at the topic themselves, which these do not.
        if !is_classic && read.len() != usize::try_from(facts.partitions).unwrap_or(0) {
            return Err(format!("read {read:?} of {}: {alive:?}", facts.partitions));
        }
        Ok(())
    }
}

// ---- Clients ----

impl Client {
    fn give_up(&mut self) {
        (self.owned, self.told) = (PartitionSet::EMPTY, PartitionSet::EMPTY);
        (self.epoch, self.phase, self.waiting) = (0, Phase::Join, None);
    }

    fn beat(&mut self, world: &mut World) -> Verdict {
        let request = if self.epoch == 0 {
            join(&self.id, &[TOPIC])
        } else {
            let is_news = self.said.as_ref() != Some(&self.owned);
            let owned = is_news.then(|| self.owned.to_lists());
            ConsumerHeartbeat { owned, ..beat(&self.id, self.epoch) }
        };
        let (answer, _) = world.heartbeat(&request);
        self.said = Some(self.owned.clone());
        match answer.error {
            ErrorCode::None => {
                self.epoch = answer.member_epoch.0;
                if let Some(lists) = &answer.assignment {
                    self.told = PartitionSet::from(lists.as_slice());
                }
                Ok(())
            }
            ErrorCode::FencedMemberEpoch
            | ErrorCode::UnknownMemberId
            | ErrorCode::GroupIdNotFound => {
                self.give_up();
                Ok(())
            }
            _ => Err(format!("{answer:?}")),
        }
    }

    fn step_classic(&mut self, world: &mut World) -> Verdict {
        let token = match (self.waiting, &self.phase) {
            (Some(token), _) => token,
            (None, Phase::Beat) => return self.beat_classic(world),
            (None, Phase::Join) => world.send(Request::Join(self.join(world))).0,
            (None, Phase::Sync(members)) => {
                let sync = self.sync(world, members);
                world.send(Request::Sync(sync)).0
            }
        };
        self.waiting = Some(token);
        match world.answer(token) {
            None => Ok(()),
            Some(Response::Join(joined)) => self.hear_joined(joined),
            Some(Response::Sync(synced)) => self.hear_synced(world, &synced),
            other => Err(format!("{other:?}")),
        }
    }

    fn join(&self, world: &World) -> request::Join {
        let owned = by_name(&self.owned, &world.cluster);
        let owned: Vec<Vec<i32>> =
            owned.iter().map(|(_, list)| list.iter().map(|index| index.0).collect()).collect();
        let owned: Vec<(&str, &[i32])> = owned.iter().map(|list| (TOPIC, &list[..])).collect();
        let metadata = subscription(&[TOPIC], &owned);
        request::Join {
            group: "g".into(),
            member: self.id.as_str().into(),
            instance: None,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "cooperative-sticky".into(), metadata }],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            requires_known_member: true,
            supports_skipping_assignment: true,
            reason: None,
        }
    }

    /// With everybody's share if it leads: who owns a partition keeps it, the rest goes round.
    fn sync(&self, world: &World, members: &[JoinedMember]) -> request::Sync {
        let facts = world.cluster.topic(TOPIC).expect("it is there");
        let owned = |member: &JoinedMember| {
            let told = Subscription::decode(&member.metadata).expect("a client's own");
            by_id(&told.owned, &world.cluster)
        };
        let mut shares = vec![PartitionSet::EMPTY; members.len()];
        for partition in (0..facts.partitions).map(PartitionIndex).filter(|_| !members.is_empty()) {
            let owner = members.iter().position(|m| owned(m).contains(facts.id, partition));
            let to = owner.unwrap_or(partition.0 as usize % members.len());
            shares[to].extend_topic(facts.id, [partition]);
        }
        let assignments = members.iter().zip(shares).map(|(member, share)| {
            let share = embedded::encode_assignment(1, &by_name(&share, &world.cluster));
            (member.member.clone(), share)
        });
        request::Sync {
            group: "g".into(),
            member: self.id.as_str().into(),
            instance: None,
            generation: GenerationId(self.epoch),
            protocol_type: Some("consumer".into()),
            protocol: Some("cooperative-sticky".into()),
            assignments: assignments.collect(),
        }
    }

    fn beat_classic(&mut self, world: &mut World) -> Verdict {
        let heartbeat = request::Heartbeat {
            group: "g".into(),
            member: self.id.as_str().into(),
            instance: None,
            generation: GenerationId(self.epoch),
        };
        match world.call(Request::Heartbeat(heartbeat)).0 {
            Response::Heartbeat(ErrorCode::None) => Ok(()),
            Response::Heartbeat(error) => self.hear_error(error),
            other => Err(format!("{other:?}")),
        }
    }

    fn hear_joined(&mut self, joined: Joined) -> Verdict {
        self.waiting = None;
        match joined.error {
            ErrorCode::None => {
                self.id = joined.member.as_str().to_owned();
                self.epoch = joined.generation.0;
                self.phase = Phase::Sync(joined.members);
                Ok(())
            }
            ErrorCode::MemberIdRequired => {
                self.id = joined.member.as_str().to_owned();
                Ok(())
            }
            error => self.hear_error(error),
        }
    }

    fn hear_synced(&mut self, world: &World, synced: &Synced) -> Verdict {
        self.waiting = None;
        if synced.error != ErrorCode::None {
            return self.hear_error(synced.error);
        }
        let told = embedded::decode_assignment(&synced.assignment).map_err(|e| e.to_string())?;
        let told = by_id(&told, &world.cluster);
        // Whoever gave something up joins again, to say so.
        self.phase = if self.owned.is_subset(&told) { Phase::Beat } else { Phase::Join };
        self.owned = told;
        Ok(())
    }

    fn hear_error(&mut self, error: ErrorCode) -> Verdict {
        match error {
            ErrorCode::RebalanceInProgress => self.phase = Phase::Join,
            ErrorCode::IllegalGeneration => self.give_up(),
            ErrorCode::UnknownMemberId => {
                self.give_up();
                self.id.clear();
            }
            _ => return Err(format!("{error:?}")),
        }
        Ok(())
    }
}

// ---- What is tried ----

fn event() -> impl Strategy<Value = Event> {
    let member = || 0_usize..6;
    prop_oneof![
        3 => any::<bool>().prop_map(|is_classic| Event::Join { is_classic }),
        16 => member().prop_map(|member| Event::Step { member }),
        5 => member().prop_map(|member| Event::Carry { member }),
        1 => member().prop_map(|member| Event::Leave { member }),
        1 => member().prop_map(|member| Event::Die { member }),
        1 => (5_i32..8).prop_map(|partitions| Event::Grow { partitions }),
        3 => (1_u64..8).prop_map(|seconds| Event::Wait { seconds }),
        1 => any::<bool>().prop_map(|is_compacted| Event::FailOver { is_compacted }),
    ]
}

proptest! {
    #[test]
    fn nobody_reads_what_another_reads_while_the_group_changes_its_protocol(
        events in prop::collection::vec(event(), 1..80),
    ) {
        let verdict = Life::new().live(&events);
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}
