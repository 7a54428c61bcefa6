//! A member of a group of the consumer protocol (KIP-848): heartbeats out, assignments in.
//!
//! ```text
//!            ┌─ heartbeat (what is owned) ─► coordinator ─ what shall be owned ─┐
//!            │                                                                  ▼
//!   owned ◄──┴── given up: told, waited for, then said ◄──── what is too much ──┤
//!     ▲                                                                         │
//!     └──────────── taken: only when nothing is left to give up ◄── what is new ┘
//! ```
//!
//! It runs beside the delivery of records, so that a client that reads slowly does not drop out of its group, and ends with leaving.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thalweg_env::{OsRandom, Random as _};
use thalweg_kafka::messages::consumer_group_heartbeat::OwnedTopicPartitions;
use thalweg_kafka::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, Response,
};
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, TopicId, Uuid};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::groups::offsets::{Member, Name};
use crate::groups::{self, GroupCall, error_of, unexpected};
use crate::port::{BrokerPort, ClientRef};
use crate::shared::Shared;

const VERSION: i16 = 1;
/// Epochs that say something else than an epoch.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;
const LEAVES_FOR_A_WHILE: i32 = -2;

/// Until the coordinator says otherwise.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// Pause after a heartbeat that failed in a way that may pass.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);
const HEARTBEAT_WAIT_MAX: Duration = Duration::from_secs(10);
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(3);

/// Changes told and not yet worked off: the next one waits until the delivery is through with those before.
const CHANGES_AHEAD_MAX: usize = 4;

/// How the member enters its group.
#[derive(Debug, Clone)]
pub(super) struct Joining {
    pub(super) group: String,
    pub(super) client: ClientRef,
    pub(super) topics: Vec<String>,
    pub(super) pattern: Option<String>,
    pub(super) instance_id: Option<String>,
    pub(super) assignor: Option<String>,
    /// Longest time the member may take to give something up.
    pub(super) rebalance_timeout: Duration,
}

/// What the delivery has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// In the group, under this name.
    Joined,
    /// Read these from now on.
    Assigned(BTreeSet<Name>),
    /// Give these up, and say so by this number.
    Revoke(u64, BTreeSet<Name>),
    /// They are somebody else's already: nothing may be committed of them.
    Lost,
    /// It cannot go on.
    Failed(Error),
}

/// The delivery's end of a membership. Dropping it makes the member leave.
pub(super) struct Membership {
    pub(super) changes: mpsc::Receiver<Change>,
    /// What was asked to be given up under this number is.
    pub(super) given_up: mpsc::Sender<u64>,
    /// In whose name offsets are committed now.
    pub(super) member: watch::Receiver<Member>,
    leave: Option<mpsc::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Membership {
    pub(super) fn start<B: BrokerPort>(shared: Arc<Shared<B>>, joining: Joining) -> Self {
        let (changes_in, changes) = mpsc::channel(CHANGES_AHEAD_MAX);
        let (given_up, given_up_out) = mpsc::channel(1);
        let (leave, leaving) = mpsc::channel(1);
        let member_id = Uuid::from_random_bits(OsRandom.next_u128()).to_string();
        let named = Member { member_id, epoch: JOINS, instance_id: joining.instance_id.clone() };
        let (member, member_out) = watch::channel(named);
        let heart = Heart {
            shared,
            joining,
            member,
            owned: BTreeMap::new(),
            wanted: None,
            is_full: true,
            is_news: false,
            interval: INTERVAL_DEFAULT,
            changes: changes_in,
            given_up: given_up_out,
            revoking: None,
            last_revocation: 0,
        };
        let task = tokio::spawn(heart.beat(leaving));
        Self { changes, given_up, member: member_out, leave: Some(leave), task }
    }

    /// Leaves the group, within bounds.
    pub(super) async fn leave(mut self) {
        self.leave = None;
        self.changes.close();
        // A member that could not say good-bye is missed when its session ends.
        let _ = timeout(LEAVE_WAIT_MAX, self.task).await;
    }
}

struct Heart<B> {
    shared: Arc<Shared<B>>,
    joining: Joining,
    member: watch::Sender<Member>,
    /// With their names, which outlive the topics.
    owned: BTreeMap<(TopicId, i32), Name>,
    /// What the coordinator has given last, until it is reached.
    wanted: Option<BTreeSet<(TopicId, i32)>>,
    /// The next heartbeat says everything: at the beginning, and when an answer may have been lost.
    is_full: bool,
    /// What is owned has changed since it was said.
    is_news: bool,
    interval: Duration,
    changes: mpsc::Sender<Change>,
    given_up: mpsc::Receiver<u64>,
    /// The revocation under way, and the number of the last one.
    revoking: Option<u64>,
    last_revocation: u64,
}

impl<B: BrokerPort> Heart<B> {
    async fn beat(mut self, mut leaving: mpsc::Receiver<()>) {
        let mut image_changed = self.shared.feed.changed();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                _ = leaving.recv() => break,
                Some(number) = self.given_up.recv() => {
                    // An older one: the member was thought dead in between.
                    if self.revoking == Some(number) {
                        self.revoking = None;
                        self.give_up();
                    }
                }
                () = sleep_until(next) => {
                    match self.heartbeat().await {
                        Ok(pause) => next = Instant::now() + pause,
                        Err(error) => {
                            // The delivery may have ended by itself.
                            let _ = self.changes.send(Change::Failed(error)).await;
                            let _ = leaving.recv().await;
                            break;
                        }
                    }
                }
                // A topic that was assigned before its name was known here.
                _ = image_changed.changed(), if self.wanted.is_some() && self.revoking.is_none() => {}
            }
            if self.revoking.is_none() && self.reconcile().await.is_err() {
                break;
            }
            if self.is_news {
                next = Instant::now();
            }
        }
        self.say_good_bye().await;
    }

    /// One heartbeat, and how long to wait for the next; an error is the end.
    async fn heartbeat(&mut self) -> Result<Duration, Error> {
        let request = self.request();
        self.is_news = false;
        match self.ask(request, HEARTBEAT_WAIT_MAX).await {
            Ok(response) => self.take(response).await,
            Err(error) if is_passing(&error) => {
                self.is_full = true;
                Ok(FAILURE_PAUSE.min(self.interval))
            }
            Err(error) => Err(error),
        }
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let member = self.member.borrow().clone();
        let is_full = self.is_full || member.epoch == JOINS;
        let rebalance_timeout_ms =
            i32::try_from(self.joining.rebalance_timeout.as_millis()).unwrap_or(i32::MAX);
        let topics = self.joining.topics.iter().map(|topic| topic.as_str().into()).collect();
        ConsumerGroupHeartbeatRequest {
            group_id: self.joining.group.as_str().into(),
            member_id: member.member_id.into(),
            member_epoch: member.epoch,
            instance_id: member.instance_id.map(Into::into),
            rebalance_timeout_ms: if is_full { rebalance_timeout_ms } else { -1 },
            subscribed_topic_names: is_full.then_some(topics),
            subscribed_topic_regex: self
                .joining
                .pattern
                .as_deref()
                .filter(|_| is_full)
                .map(Into::into),
            server_assignor: self.joining.assignor.as_deref().filter(|_| is_full).map(Into::into),
            topic_partitions: (is_full || self.is_news).then(|| self.owned_topics()),
            ..Default::default()
        }
    }

    fn owned_topics(&self) -> Vec<OwnedTopicPartitions> {
        let mut topics: Vec<OwnedTopicPartitions> = Vec::new();
        for (topic, partition) in self.owned.keys() {
            match topics.last_mut() {
                Some(last) if last.topic_id == topic.0 => last.partitions.push(*partition),
                _ => topics
                    .push(OwnedTopicPartitions { topic_id: topic.0, partitions: vec![*partition] }),
            }
        }
        topics
    }

    async fn ask(
        &self,
        request: ConsumerGroupHeartbeatRequest,
        wait_max: Duration,
    ) -> Result<ConsumerGroupHeartbeatResponse, Error> {
        let call = GroupCall {
            group: &self.joining.group,
            client: self.joining.client.clone(),
            request: request.into(),
            version: VERSION,
        };
        match groups::ask_as(&self.shared, call, wait_max).await? {
            Response::ConsumerGroupHeartbeat(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }

    async fn take(&mut self, response: ConsumerGroupHeartbeatResponse) -> Result<Duration, Error> {
        let what = format!("membership of group {:?}", crate::words::shown(&self.joining.group));
        if let Some(error) = error_of(response.error_code, response.error_message.as_deref(), &what)
        {
            return self.refused(error).await;
        }
        self.is_full = false;
        if response.heartbeat_interval_ms > 0 {
            self.interval =
                Duration::from_millis(response.heartbeat_interval_ms.unsigned_abs().into());
        }
        let has_joined = self.member.borrow().epoch == JOINS && response.member_epoch > JOINS;
        self.member.send_modify(|member| member.epoch = response.member_epoch);
        if has_joined {
            // Fails only when the delivery has ended, which is noticed elsewhere.
            let _ = self.changes.send(Change::Joined).await;
        }
        if let Some(assignment) = response.assignment {
            let wanted = assignment.topic_partitions.into_iter().flat_map(|topic| {
                let id = TopicId(topic.topic_id);
                topic.partitions.into_iter().map(move |partition| (id, partition))
            });
            self.wanted = Some(wanted.collect());
        }
        Ok(self.interval)
    }

    async fn refused(&mut self, error: Error) -> Result<Duration, Error> {
        match error.code {
            // Thought dead: what was owned is somebody else's. It joins anew under its own name.
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => {
                self.member.send_modify(|member| member.epoch = JOINS);
                self.owned.clear();
                (self.wanted, self.is_full, self.revoking) = (None, true, None);
                let _ = self.changes.send(Change::Lost).await;
                Ok(Duration::ZERO)
            }
            _ if is_passing(&error) => {
                self.is_full = true;
                Ok(FAILURE_PAUSE.min(self.interval))
            }
            _ => Err(error),
        }
    }

    /// Goes one step towards what the coordinator has given. Fails when the delivery has ended.
    async fn reconcile(&mut self) -> Result<(), mpsc::error::SendError<Change>> {
        let Some(wanted) = &self.wanted else { return Ok(()) };
        let is_too_much = |partition: &(TopicId, i32)| !wanted.contains(partition);
        let too_much: BTreeSet<Name> = self
            .owned
            .iter()
            .filter(|(partition, _)| is_too_much(partition))
            .map(|(_, name)| name.clone())
            .collect();
        if !too_much.is_empty() {
            self.last_revocation += 1;
            self.revoking = Some(self.last_revocation);
            return self.changes.send(Change::Revoke(self.last_revocation, too_much)).await;
        }
        let image = self.shared.feed.image();
        let mut taken = BTreeMap::new();
        let mut is_reached = true;
        for (id, partition) in wanted.iter().filter(|one| !self.owned.contains_key(one)) {
            match image.topic_by_id(*id) {
                Some(topic) => {
                    taken.insert((*id, *partition), (topic.name.to_string(), *partition));
                }
                None => is_reached = false,
            }
        }
        if is_reached {
            self.wanted = None;
        }
        if taken.is_empty() {
            return Ok(());
        }
        let names = taken.values().cloned().collect();
        self.owned.extend(taken);
        self.is_news = true;
        self.changes.send(Change::Assigned(names)).await
    }

    /// What was to be given up is not owned any more.
    fn give_up(&mut self) {
        if let Some(wanted) = &self.wanted {
            self.owned.retain(|partition, _| wanted.contains(partition));
            self.is_news = true;
        }
    }

    async fn say_good_bye(self) {
        let member = self.member.borrow().clone();
        if member.epoch == JOINS {
            return;
        }
        let epoch = if member.instance_id.is_some() { LEAVES_FOR_A_WHILE } else { LEAVES };
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.joining.group.as_str().into(),
            member_id: member.member_id.into(),
            member_epoch: epoch,
            instance_id: member.instance_id.map(Into::into),
            ..Default::default()
        };
        if let Err(error) = self.ask(request, LEAVE_WAIT_MAX).await {
            tracing::debug!(group = self.joining.group, %error, "a member could not say good-bye");
        }
    }
}

/// Whether a heartbeat may be repeated. Heartbeats may be, also when nobody knows what became of the last one.
fn is_passing(error: &Error) -> bool {
    error.retriable || error.code == ErrorCode::RequestTimedOut
}
