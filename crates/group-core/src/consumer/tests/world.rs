//! What the tests call groups through: a cluster with topics, a clock, and a log that is read back after every call.

use std::collections::BTreeMap;

use thalweg_types::{
    ErrorCode, GroupId, InstanceId, MemberEpoch, MemberId, Moment, PartitionIndex, Timestamp,
    TopicId, TopicName, Uuid,
};

use crate::consumer::Group;
use crate::groups::AnyGroup;
use crate::request::{Call, Client, ConsumerHeartbeat, Request};
use crate::response::{ConsumerHeartbeatAnswer, DescribedConsumerGroup, Response};
use crate::{Effects, GroupConfig, Groups, Now, Record, Token, TopicFacts, Topics, record};

/// The topics of a test, by name.
#[derive(Debug, Default, Clone)]
pub(super) struct Cluster {
    topics: BTreeMap<TopicName, TopicFacts>,
    made: u8,
}

impl Cluster {
    /// Makes or grows a topic.
    pub(super) fn set(&mut self, name: &str, partitions: i32) {
        let name = TopicName::new(name).unwrap();
        self.made += 1;
        let id = TopicId(Uuid::from_bytes([self.made; 16]));
        let facts = self.topics.entry(name).or_insert(TopicFacts { id, partitions });
        facts.partitions = partitions;
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.topics.remove(&TopicName::new(name).unwrap());
    }

    pub(super) fn id(&self, name: &str) -> TopicId {
        self.topic(name).unwrap().id
    }
}

impl Topics for Cluster {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        self.topics.get(&TopicName::new(name).ok()?).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        let found = self.topics.iter().find(|(_, facts)| facts.id == id);
        found.map(|(name, _)| name.clone())
    }

    fn for_each_name(&self, visit: &mut dyn FnMut(&TopicName)) {
        self.topics.keys().for_each(visit);
    }
}

/// One coordinator with one group, `g`.
#[derive(Debug)]
pub(super) struct World {
    pub(super) groups: Groups,
    pub(super) cluster: Cluster,
    pub(super) config: GroupConfig,
    pub(super) now: u64,
    /// Everything stored, as bytes.
    log: Vec<(bytes::Bytes, Option<bytes::Bytes>)>,
    /// That nobody has taken yet.
    answers: BTreeMap<Token, Response>,
    calls: u64,
}

impl World {
    pub(super) fn new(topics: &[(&str, i32)]) -> Self {
        Self::with_config(topics, GroupConfig::default())
    }

    pub(super) fn with_config(topics: &[(&str, i32)], config: GroupConfig) -> Self {
        let mut cluster = Cluster::default();
        for (name, partitions) in topics {
            cluster.set(name, *partitions);
        }
        let groups = Groups::new(config.clone());
        Self {
            groups,
            cluster,
            config,
            now: 1_000,
            log: Vec::new(),
            answers: BTreeMap::new(),
            calls: 0,
        }
    }

    fn time(&self) -> Now {
        let wall = Timestamp(1_700_000_000_000 + i64::try_from(self.now).unwrap());
        Now { moment: Moment(self.now), wall }
    }

    /// Stores what was decided; the records of it.
    fn store(&mut self, effects: Effects) -> Vec<Record> {
        for stored in &effects.records {
            let (key, value) = record::encode(stored);
            let read = record::decode(&key, value.as_ref()).unwrap();
            assert_eq!(read.as_ref(), Some(stored), "a record reads back as it was");
            self.log.push((key, value));
        }
        for (token, answer) in effects.answers {
            assert!(self.answers.insert(token, answer).is_none(), "answered twice");
        }
        effects.records
    }

    /// A call whose answer may have to wait.
    pub(super) fn send(&mut self, request: Request) -> (Token, Vec<Record>) {
        self.calls += 1;
        let token = Token(self.calls);
        let client = Client { id: "client".into(), host: "/127.0.0.1".into() };
        let fresh = Uuid::from_random_bits(u128::from(self.calls));
        let now = self.time();
        let call = Call { token, client, fresh, request };
        let effects = self.groups.handle(call, &self.cluster, now);
        (token, self.store(effects))
    }

    /// The answer to a call, if there is one yet.
    pub(super) fn answer(&mut self, token: Token) -> Option<Response> {
        self.answers.remove(&token)
    }

    /// A call that is answered at once.
    pub(super) fn call(&mut self, request: Request) -> (Response, Vec<Record>) {
        let (token, records) = self.send(request);
        (self.answer(token).expect("answered at once"), records)
    }

    pub(super) fn heartbeat(
        &mut self,
        request: &ConsumerHeartbeat,
    ) -> (ConsumerHeartbeatAnswer, Vec<Record>) {
        let (response, records) = self.call(Request::ConsumerHeartbeat(request.clone()));
        let Response::ConsumerHeartbeat(answer) = response else { panic!("{response:?}") };
        (answer, records)
    }

    /// The answer to a heartbeat that is to be accepted.
    pub(super) fn accepted(&mut self, request: &ConsumerHeartbeat) -> ConsumerHeartbeatAnswer {
        let (answer, _) = self.heartbeat(request);
        assert_eq!(answer.error, ErrorCode::None, "{answer:?}");
        answer
    }

    /// The error of a heartbeat that is to be refused, and so changes nothing.
    pub(super) fn refused(&mut self, request: &ConsumerHeartbeat) -> ErrorCode {
        let before = self.durable();
        let (answer, records) = self.heartbeat(request);
        assert_ne!(answer.error, ErrorCode::None, "{answer:?}");
        assert!(answer.error_message.is_some_and(|message| !message.is_empty()));
        assert_eq!(records, []);
        assert_eq!(self.durable(), before);
        answer.error
    }

    pub(super) fn describe(&mut self) -> DescribedConsumerGroup {
        let (response, records) = self.call(Request::ConsumerDescribe(vec!["g".into()]));
        assert_eq!(records, []);
        let Response::ConsumerDescribe(mut groups) = response else { panic!("{response:?}") };
        groups.pop().unwrap()
    }

    /// Lets time pass, deadlines included, and keeps what follows.
    pub(super) fn pass(&mut self, ms: u64) -> Vec<Record> {
        let end = self.now + ms;
        let mut records = Vec::new();
        while let Some(deadline) = self.groups.next_deadline().filter(|next| next.0 <= end) {
            self.now = self.now.max(deadline.0);
            let now = self.time();
            let effects = self.groups.handle_deadline(&self.cluster, now);
            assert!(
                self.groups.next_deadline().is_none_or(|next| next.0 > self.now),
                "a deadline that has come is gone"
            );
            records.extend(self.store(effects));
        }
        self.now = end;
        records
    }

    pub(super) fn metadata_changed(&mut self) {
        let now = self.time();
        let effects = self.groups.handle_metadata(&self.cluster, now);
        self.store(effects);
    }

    /// Another coordinator takes over from the log.
    pub(super) fn fail_over(&mut self) {
        self.groups = self.replayed();
        let now = self.time();
        let effects = self.groups.start(&self.cluster, now);
        self.store(effects);
    }

    /// What the log says.
    pub(super) fn replayed(&self) -> Groups {
        let mut groups = Groups::new(self.config.clone());
        for (key, value) in &self.log {
            groups.replay(record::decode(key, value.as_ref()).unwrap().unwrap());
        }
        groups
    }

    /// The log with only the last record of each key, as the cleaner leaves it.
    pub(super) fn compact(&mut self) {
        let last: BTreeMap<_, _> =
            self.log.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
        let mut at = 0;
        self.log.retain(|(key, value)| {
            at += 1;
            last.get(key) == Some(&(at - 1)) && value.is_some()
        });
    }

    pub(super) fn is_classic(&self) -> bool {
        matches!(self.groups.groups.get(&GroupId::from("g")), Some(AnyGroup::Classic(_)))
    }

    pub(super) fn group(&self) -> Option<&Group> {
        match self.groups.groups.get(&GroupId::from("g"))? {
            AnyGroup::Consumer(group) => Some(group),
            AnyGroup::Classic(_) => None,
        }
    }

    pub(super) fn durable(&self) -> String {
        durable(&self.groups)
    }

    /// The log says what the coordinator believes.
    pub(super) fn check_log(&self) {
        assert_eq!(durable(&self.replayed()), self.durable());
    }
}

/// What of the group is stored, in words.
fn durable(groups: &Groups) -> String {
    let mut text = String::new();
    for group in groups.groups.values() {
        let AnyGroup::Consumer(group) = group else { continue };
        let head = (&group.id, group.epoch, group.metadata_hash, group.assignment_epoch);
        text += &format!("{head:?} {:?} {:?}\n", group.instances, group.owners);
        text += &format!("{:?} {:?}\n", group.targets, group.expressions);
        for (id, member) in &group.members {
            text += &format!("{id:?} {:?} {:?}\n", member.metadata, member.current);
        }
    }
    text
}

// ---- Requests ----

/// A member's first heartbeat.
pub(super) fn join(member: &str, topics: &[&str]) -> ConsumerHeartbeat {
    let names = topics.iter().map(|topic| TopicName::new(topic).unwrap()).collect();
    ConsumerHeartbeat {
        rebalance_timeout_ms: Some(30_000),
        subscribed_names: Some(names),
        owned: Some(Vec::new()),
        ..beat(member, 0)
    }
}

/// A heartbeat that says nothing new.
pub(super) fn beat(member: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: "g".into(),
        member: member.into(),
        member_epoch: MemberEpoch(epoch),
        instance: None,
        rack: None,
        rebalance_timeout_ms: None,
        subscribed_names: None,
        subscribed_regex: None,
        server_assignor: None,
        owned: None,
        requires_client_made_id: true,
    }
}

/// The same with an instance id.
pub(super) fn as_instance(instance: &str, request: ConsumerHeartbeat) -> ConsumerHeartbeat {
    ConsumerHeartbeat { instance: Some(InstanceId::from(instance)), ..request }
}

/// The same with what the member owns.
pub(super) fn owning(owned: &[(TopicId, &[i32])], request: ConsumerHeartbeat) -> ConsumerHeartbeat {
    ConsumerHeartbeat { owned: Some(lists(owned)), ..request }
}

pub(super) fn lists(partitions: &[(TopicId, &[i32])]) -> Vec<(TopicId, Vec<PartitionIndex>)> {
    let list = |list: &[i32]| list.iter().map(|index| PartitionIndex(*index)).collect();
    partitions.iter().map(|(topic, partitions)| (*topic, list(partitions))).collect()
}

pub(super) fn id(member: &str) -> MemberId {
    MemberId::from(member)
}
