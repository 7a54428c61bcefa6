//! A world for tests: a core, its topics, its clock, its log, and everybody's answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{
    GenerationId, GroupId, InstanceId, LeaderEpoch, MemberEpoch, MemberId, Moment, Offset,
    PartitionIndex, Timestamp, TopicId, TopicName, Uuid,
};

use crate::request::{
    CommitOffsets, FetchOffsets, Heartbeat, Join, Leave, LeavingMember, PartitionCommit, Protocol,
    Sync, TopicCommits, TopicRef,
};
use crate::response::{Joined, Left, Response, Synced};
use crate::{Call, Client, Effects, GroupConfig, Groups, Now, Record, Request, Token};
use crate::{TopicFacts, Topics, record};

/// The group of most tests.
pub(crate) const GROUP: &str = "group";

#[derive(Debug, Default)]
pub(crate) struct FakeTopics(pub(crate) BTreeMap<TopicName, TopicFacts>);

impl FakeTopics {
    pub(crate) fn with(topics: &[(&str, i32)]) -> Self {
        let mut fake = Self::default();
        for (position, (name, partitions)) in topics.iter().enumerate() {
            fake.set(name, position as u128 + 1, *partitions);
        }
        fake
    }

    pub(crate) fn set(&mut self, name: &str, id: u128, partitions: i32) {
        let id = TopicId(Uuid::from_bytes(id.to_be_bytes()));
        self.0.insert(TopicName::new(name).expect("valid"), TopicFacts { id, partitions });
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

impl Topics for FakeTopics {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        self.0.get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        self.0.iter().find(|(_, facts)| facts.id == id).map(|(name, _)| name.clone())
    }

    fn for_each_name(&self, visit: &mut dyn FnMut(&TopicName)) {
        self.0.keys().for_each(visit);
    }
}

/// A core and all around it. The log is written and read in its real bytes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) groups: Groups,
    pub(crate) config: GroupConfig,
    pub(crate) topics: FakeTopics,
    pub(crate) now: Now,
    pub(crate) log: Vec<(Bytes, Option<Bytes>)>,
    pub(crate) answers: BTreeMap<Token, Response>,
    last_token: u64,
}

impl World {
    pub(crate) fn new(topics: &[(&str, i32)]) -> Self {
        Self::with_config(topics, GroupConfig::default())
    }

    pub(crate) fn with_config(topics: &[(&str, i32)], config: GroupConfig) -> Self {
        let mut world = Self {
            groups: Groups::new(config.clone()),
            config,
            topics: FakeTopics::with(topics),
            now: Now { moment: Moment(1_000), wall: Timestamp(1_000_000) },
            log: Vec::new(),
            answers: BTreeMap::new(),
            last_token: 0,
        };
        world.reload();
        world
    }

    /// Another coordinator takes over: nothing is left but the log.
    pub(crate) fn reload(&mut self) {
        self.groups = Groups::new(self.config.clone());
        for (key, value) in &self.log {
            let record = record::decode(key, value.as_ref()).expect("our own").expect("known");
            self.groups.replay(record);
        }
        let effects = self.groups.start(&self.topics, self.now);
        self.take(effects);
    }

    fn take(&mut self, effects: Effects) {
        self.log.extend(effects.records.iter().map(record::encode));
        for (token, answer) in effects.answers {
            assert!(self.answers.insert(token, answer).is_none(), "answered twice: {token:?}");
        }
    }

    /// The last record, decoded.
    pub(crate) fn last_record(&self) -> Option<Record> {
        let (key, value) = self.log.last()?;
        record::decode(key, value.as_ref()).expect("our own")
    }

    pub(crate) fn call(&mut self, request: Request) -> Token {
        self.last_token += 1;
        let token = Token(self.last_token);
        let call = Call {
            token,
            client: Client { id: "client".into(), host: "/127.0.0.1".into() },
            fresh: Uuid::from_bytes(u128::from(self.last_token).to_be_bytes()),
            request,
        };
        let effects = self.groups.handle(call, &self.topics, self.now);
        self.take(effects);
        token
    }

    /// The answer to a call that is answered at once.
    pub(crate) fn ask(&mut self, request: Request) -> Response {
        let token = self.call(request);
        self.answers.remove(&token).expect("answered at once")
    }

    /// Time passes; deadlines are seen to when they come.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now.moment.saturating_add_ms(ms);
        let mut at_once = 0;
        while let Some(deadline) = self.groups.next_deadline().filter(|at| *at <= end) {
            at_once = if deadline <= self.now.moment { at_once + 1 } else { 0 };
            assert!(at_once < 10_000, "a deadline that stays");
            self.advance_to(deadline.max(self.now.moment));
            let effects = self.groups.handle_deadline(&self.topics, self.now);
            self.take(effects);
        }
        self.advance_to(end);
    }

    fn advance_to(&mut self, moment: Moment) {
        let ms = moment.ms_since(self.now.moment);
        let wall = self.now.wall.saturating_add_ms(ms as i64);
        self.now = Now { moment, wall };
    }

    pub(crate) fn change_topics(&mut self, change: impl FnOnce(&mut FakeTopics)) {
        change(&mut self.topics);
        let effects = self.groups.handle_metadata(&self.topics, self.now);
        self.take(effects);
    }

    // ---- Classic members ----

    pub(crate) fn joined(&mut self, token: Token) -> Joined {
        match self.answers.remove(&token) {
            Some(Response::Join(joined)) => joined,
            other => panic!("not an answer to a join: {other:?}"),
        }
    }

    pub(crate) fn synced(&mut self, token: Token) -> Synced {
        match self.answers.remove(&token) {
            Some(Response::Sync(synced)) => synced,
            other => panic!("not an answer to a sync: {other:?}"),
        }
    }

    pub(crate) fn waits(&self, token: Token) -> bool {
        !self.answers.contains_key(&token)
    }

    /// A new member comes in, in two steps; the token of the second.
    pub(crate) fn enter(&mut self) -> (MemberId, Token) {
        let token = self.call(Request::Join(join("")));
        let member = self.joined(token).member;
        let token = self.call(Request::Join(join(member.as_str())));
        (member, token)
    }

    pub(crate) fn sync(&mut self, joined: &Joined, assignments: &[(&MemberId, &str)]) -> Token {
        let assignments = assignments
            .iter()
            .map(|(member, share)| ((*member).clone(), Bytes::copy_from_slice(share.as_bytes())));
        let sync = sync(joined.member.as_str(), joined.generation, assignments.collect());
        self.call(Request::Sync(sync))
    }

    pub(crate) fn heartbeat(
        &mut self,
        member: &MemberId,
        generation: GenerationId,
    ) -> thalweg_types::ErrorCode {
        let group = GroupId::from(GROUP);
        let heartbeat = Heartbeat { group, member: member.clone(), instance: None, generation };
        match self.ask(Request::Heartbeat(heartbeat)) {
            Response::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn leave(&mut self, member: &str, instance: Option<&str>) -> Left {
        let leaving = LeavingMember {
            member: member.into(),
            instance: instance.map(InstanceId::from),
            reason: None,
        };
        let leave = Leave { group: GROUP.into(), members: vec![leaving] };
        match self.ask(Request::Leave(leave)) {
            Response::Leave(left) => left,
            other => panic!("{other:?}"),
        }
    }

    /// A stable group of that many members: what each was told when it joined, the leader first.
    pub(crate) fn stable(&mut self, members: usize) -> Vec<Joined> {
        let tokens: Vec<Token> = (0..members).map(|_| self.enter().1).collect();
        while tokens.iter().any(|token| self.waits(*token)) {
            self.pass(500);
        }
        let mut joined: Vec<Joined> = tokens.into_iter().map(|token| self.joined(token)).collect();
        joined.sort_by_key(|joined| joined.members.is_empty());
        for follower in joined.iter().skip(1) {
            let token = self.sync(follower, &[]);
            assert!(self.waits(token));
        }
        let shares: Vec<(&MemberId, &str)> =
            joined.iter().map(|joined| (&joined.member, joined.member.as_str())).collect();
        let token = self.sync(&joined[0], &shares);
        assert_eq!(self.synced(token).assignment, joined[0].member.as_str());
        joined
    }

    /// Time passes for a group of one, which is heard of as often as it must.
    pub(crate) fn keep(&mut self, member: &Joined, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let step_ms = left.min(9_000);
            self.pass(step_ms);
            left -= step_ms;
            let error = self.heartbeat(&member.member, member.generation);
            assert_eq!(error, thalweg_types::ErrorCode::None);
        }
    }

    /// The group's state, as tools see it.
    pub(crate) fn state(&mut self) -> &'static str {
        match self.ask(Request::DescribeGroups(vec![GROUP.into()])) {
            Response::DescribeGroups(groups) => groups[0].state,
            other => panic!("{other:?}"),
        }
    }

    // ---- Offsets ----

    /// Commits one offset of `topic`, partition 0.
    pub(crate) fn commit(
        &mut self,
        member: &str,
        generation: i32,
        topic: &str,
        offset: i64,
    ) -> thalweg_types::ErrorCode {
        let commit = commit(member, generation, topic, 0, offset);
        match self.ask(Request::CommitOffsets(commit)) {
            Response::CommitOffsets(topics) => topics[0].partitions[0].1,
            other => panic!("{other:?}"),
        }
    }

    /// What is committed of `topic`, partition 0.
    pub(crate) fn committed(&mut self, topic: &str) -> Offset {
        let fetch = FetchOffsets {
            group: GROUP.into(),
            member: None,
            member_epoch: MemberEpoch::NONE,
            topics: Some(vec![crate::request::TopicPartitions {
                topic: TopicRef::Name(topic.into()),
                partitions: vec![PartitionIndex(0)],
            }]),
            require_stable: true,
        };
        match self.ask(Request::FetchOffsets(fetch)) {
            Response::FetchOffsets(fetched) => fetched.topics[0].partitions[0].offset,
            other => panic!("{other:?}"),
        }
    }
}

/// Metadata of a consumer of one topic.
pub(crate) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 3];
    bytes.extend((topics.len() as u32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as u16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    // User data and owned partitions, which nobody reads here.
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    Bytes::from(bytes)
}

pub(crate) fn protocol(name: &str) -> Protocol {
    Protocol { name: name.into(), metadata: subscription(&["t"]) }
}

pub(crate) fn join(member: &str) -> Join {
    Join {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range"), protocol("roundrobin")],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        requires_known_member: true,
        supports_skipping_assignment: true,
        reason: None,
    }
}

pub(crate) fn static_join(instance: &str, member: &str) -> Join {
    Join { instance: Some(instance.into()), ..join(member) }
}

pub(crate) fn sync(
    member: &str,
    generation: GenerationId,
    assignments: Vec<(MemberId, Bytes)>,
) -> Sync {
    Sync {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        generation,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments,
    }
}

pub(crate) fn commit(
    member: &str,
    generation: i32,
    topic: &str,
    partition: i32,
    offset: i64,
) -> CommitOffsets {
    CommitOffsets {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        generation_or_epoch: generation,
        retention_ms: None,
        knows_consumer_protocol: true,
        topics: vec![TopicCommits {
            topic: TopicRef::Name(topic.into()),
            partitions: vec![PartitionCommit {
                partition: PartitionIndex(partition),
                offset: Offset(offset),
                leader_epoch: LeaderEpoch(3),
                metadata: Arc::from("note"),
            }],
        }],
    }
}
