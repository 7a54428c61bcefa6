//! The life of one stream: hears the client and the membership, asks the brokers, sends, commits.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{ErrorCode, LeaderEpoch, Offset};
use tokio::time::{Instant, sleep_until};
use tonic::Streaming;

use super::membership::{Change, Membership};
use super::options::Options;
use super::slots::{Slot, Slots};
use super::{Messages, commits, positions};
use crate::consumer::decode::Form;
use crate::consumer::fetch;
use crate::consumer::in_hand::InHand;
use crate::consumer::stream::{CREDIT_BYTES_MAX, is_about_leader, unreadable};
use crate::groups::offsets::{self, Name};
use crate::port::{BrokerPort, FetchCall, FetchPartition, FetchedPartition};
use crate::shared::Shared;
use crate::words;
use proto::subscribe_request::Message as Asked;
use proto::subscribe_response::Message as Told;

/// Wait for records that are not there yet, in one fetch.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// Pause when brokers only say that they cannot answer now.
const FETCH_PAUSE: Duration = Duration::from_millis(100);
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Notices that a client has not taken. One that lets so many lie does not read at all.
const NOTICES_MAX: usize = 256;

type Fetching = BoxFuture<'static, (Vec<FetchPartition>, Result<Vec<FetchedPartition>, Error>)>;

pub(super) struct Session<B> {
    shared: Arc<Shared<B>>,
    options: Options,
    membership: Membership,
    slots: Slots,
    /// Below zero when a message took more than was left.
    credit_bytes: i128,
    fetching: Option<Fetching>,
    /// No fetch before.
    fetch_at: Instant,
    /// Lets another partition be the first to be filled each time.
    turn: usize,
    in_hand: VecDeque<InHand>,
    notices: VecDeque<Told>,
    /// The revocation under way, and when it is waited for no longer.
    revocation: Option<(u64, Instant)>,
    commit_at: Instant,
    heard_at: Instant,
}

impl<B: BrokerPort> Session<B> {
    pub(super) fn new(shared: Arc<Shared<B>>, options: Options, membership: Membership) -> Self {
        let now = Instant::now();
        Self {
            shared,
            commit_at: now + options.commit_interval,
            options,
            membership,
            slots: Slots::default(),
            credit_bytes: 0,
            fetching: None,
            fetch_at: now,
            turn: 0,
            in_hand: VecDeque::new(),
            notices: VecDeque::new(),
            revocation: None,
            heard_at: now,
        }
    }

    pub(super) fn into_membership(self) -> Membership {
        self.membership
    }

    /// Goes on until the client closes its side.
    pub(super) async fn run(
        &mut self,
        requests: &mut Streaming<proto::SubscribeRequest>,
        messages: &Messages,
    ) -> Result<(), Error> {
        loop {
            self.keep_time().await?;
            self.start_fetch();
            let wake_at = self.wake_at();
            let has_words =
                !self.notices.is_empty() || (!self.in_hand.is_empty() && self.credit_bytes > 0);
            tokio::select! {
                biased;
                change = self.membership.changes.recv() => match change {
                    Some(change) => self.change(change).await?,
                    None => return Err(ErrorCode::UnknownServerError.into()),
                },
                request = requests.message() => match request.map_err(unreadable)? {
                    Some(request) => self.hear(request).await?,
                    None => return Ok(()),
                },
                permit = messages.reserve(), if has_words => {
                    // Fails when the client is gone.
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(told) = self.next_words().await? {
                        permit.send(Ok(proto::SubscribeResponse { message: Some(told) }));
                    }
                },
                (asked, fetched) = fetched(&mut self.fetching) => {
                    self.fetching = None;
                    self.take(asked, fetched).await?;
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }

    // ------------------------------------------------------------------- Time

    /// Does what is due.
    async fn keep_time(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if let Some((number, until)) = self.revocation
            && (now >= until || self.slots.can_give_up())
        {
            self.give_up(number).await?;
        }
        if now >= self.commit_at {
            self.commit(false).await?;
        }
        if self.slots.is_waiting() && now >= self.heard_at + self.options.idle_wait {
            let message = format!(
                "nothing was acknowledged nor asked for {} ms",
                self.options.idle_wait.as_millis()
            );
            return Err(Error::new(ErrorCode::RequestTimedOut, message).not_applied());
        }
        Ok(())
    }

    fn wake_at(&self) -> Instant {
        let idle_at = self.heard_at + self.options.idle_wait;
        let wakes = [
            Some(self.commit_at),
            self.revocation.map(|(_, until)| until),
            self.slots.is_waiting().then_some(idle_at),
            (self.fetch_at > Instant::now()).then_some(self.fetch_at),
        ];
        wakes.into_iter().flatten().min().unwrap_or(self.commit_at)
    }

    // ------------------------------------------------------------------- Client

    pub(super) fn grant(&mut self, bytes: u64) -> Result<(), Error> {
        self.credit_bytes += i128::from(bytes);
        match self.credit_bytes > i128::from(CREDIT_BYTES_MAX) {
            true => Err(Error::invalid_request(format!(
                "at most {CREDIT_BYTES_MAX} bytes of credit may be open"
            ))),
            false => Ok(()),
        }
    }

    async fn hear(&mut self, request: proto::SubscribeRequest) -> Result<(), Error> {
        self.heard_at = Instant::now();
        match request.message {
            Some(Asked::CreditBytes(bytes)) if bytes > 0 => self.grant(bytes),
            Some(Asked::Ack(positions)) => {
                for (name, offset) in named_positions(positions)? {
                    self.slots.acknowledge(&name, offset)?;
                }
                Ok(())
            }
            Some(Asked::Pause(refs)) => self.pause(refs, true),
            Some(Asked::Resume(refs)) => self.pause(refs, false),
            Some(Asked::Seek(positions)) => {
                for (name, offset) in named_positions(positions)? {
                    self.slots.seek(&name, offset);
                }
                self.fetching = None;
                Ok(())
            }
            Some(Asked::Commit(proto::CommitNow {})) => self.commit(true).await,
            Some(Asked::CreditBytes(_)) => {
                Err(Error::invalid_request("credit_bytes must be more than 0"))
            }
            Some(Asked::Start(_)) => Err(Error::invalid_request("start can be said only once")),
            None => Err(Error::invalid_request("a message without anything in it")),
        }
    }

    fn pause(&mut self, refs: proto::PartitionRefs, is_paused: bool) -> Result<(), Error> {
        words::at_most("the number of partitions", refs.partitions.len(), fetch::PARTITIONS_MAX)?;
        for one in refs.partitions {
            self.slots.pause(&(one.topic, one.partition), is_paused);
        }
        self.fetching = None;
        Ok(())
    }

    fn tell(&mut self, told: Told) -> Result<(), Error> {
        if self.notices.len() >= NOTICES_MAX {
            let message = "the client takes no messages";
            return Err(Error::new(ErrorCode::RequestTimedOut, message).resource_exhausted());
        }
        self.notices.push_back(told);
        Ok(())
    }

    // ------------------------------------------------------------------- Membership

    async fn change(&mut self, change: Change) -> Result<(), Error> {
        match change {
            Change::Joined => {
                let member = self.membership.member.borrow().clone();
                self.tell(Told::Joined(proto::GroupMembership {
                    member_id: member.member_id,
                    epoch: member.epoch,
                    instance_id: member.instance_id.unwrap_or_default(),
                }))
            }
            Change::Assigned(names) => self.assign(names).await,
            Change::Revoke(number, names) => {
                self.slots.revoke(&names);
                self.revocation = Some((number, Instant::now() + self.options.revocation_wait));
                self.fetching = None;
                self.tell(Told::Revoking(proto::PartitionsRevoking { partitions: refs(names) }))
            }
            Change::Lost => {
                (self.revocation, self.fetching) = (None, None);
                self.in_hand.clear();
                let names = self.slots.clear();
                self.tell(Told::Gone(proto::PartitionsGone { partitions: refs(names) }))
            }
            Change::Failed(error) => Err(error),
        }
    }

    async fn assign(&mut self, names: BTreeSet<Name>) -> Result<(), Error> {
        let beginnings = positions::beginnings(&self.shared, &self.options, names).await?;
        let mut partitions = Vec::with_capacity(beginnings.len());
        for ((topic, partition), offset) in beginnings {
            self.slots.insert((topic.clone(), partition), Slot::at(offset));
            partitions.push(proto::PartitionPosition { topic, partition, offset });
        }
        self.fetching = None;
        self.tell(Told::Assigned(proto::PartitionsAssigned { partitions }))
    }

    /// Commits what is acknowledged of what has to be given up, and lets go of it.
    async fn give_up(&mut self, number: u64) -> Result<(), Error> {
        self.commit(false).await?;
        let names = self.slots.revoking();
        for name in &names {
            self.slots.remove(name);
        }
        self.revocation = None;
        // Fails when the membership has ended, which it says itself.
        let _ = self.membership.given_up.send(number).await;
        self.tell(Told::Gone(proto::PartitionsGone { partitions: refs(names) }))
    }

    // ------------------------------------------------------------------- Commits

    /// Commits what is acknowledged; what did not work and may pass is tried again the next time.
    pub(super) async fn commit(&mut self, is_asked: bool) -> Result<(), Error> {
        self.commit_at = Instant::now() + self.options.commit_interval;
        let positions = self.slots.to_commit();
        let member = self.membership.member.borrow().clone();
        let mut told = Vec::new();
        if !positions.is_empty() && member.epoch > 0 {
            let deadline = Deadline::at(Instant::now() + COMMIT_WAIT_MAX);
            let (group, client) = (&self.options.group, self.options.client.clone());
            let committing =
                offsets::commit(&self.shared, group, client, member, positions.clone(), deadline);
            let results = match committing.await {
                Ok(results) => results,
                Err(error) if commits::passes(&error) => {
                    positions.keys().map(|name| (name.clone(), Err(error.clone()))).collect()
                }
                Err(error) => return Err(error),
            };
            told = commits::settle(&mut self.slots, &positions, results, is_asked);
        }
        if is_asked || !told.is_empty() {
            self.tell(Told::Committed(proto::SubscribeCommitted { partitions: told }))?;
        }
        Ok(())
    }

    // ------------------------------------------------------------------- Records

    fn start_fetch(&mut self) {
        let is_wanted = self.fetching.is_none()
            && self.in_hand.is_empty()
            && self.credit_bytes > 0
            && Instant::now() >= self.fetch_at;
        if !is_wanted {
            return;
        }
        let credit_bytes = usize::try_from(self.credit_bytes).unwrap_or(usize::MAX);
        let max_bytes = self.options.max_bytes.min(credit_bytes);
        let readable = self.slots.readable().filter_map(|((topic, partition), offset)| {
            Some(FetchPartition {
                topic: words::topic_name(topic).ok()?,
                partition: words::partition(*partition).ok()?,
                offset,
                max_bytes,
                current_leader_epoch: LeaderEpoch::NONE,
            })
        });
        let mut partitions: Vec<_> = readable.collect();
        if partitions.is_empty() {
            return;
        }
        let first = self.turn % partitions.len();
        partitions.rotate_left(first);
        self.turn = self.turn.wrapping_add(1);
        let call = FetchCall {
            partitions: partitions.clone(),
            min_bytes: 1,
            max_bytes,
            max_wait: FETCH_WAIT,
            isolation: self.options.isolation,
            rack: String::new(),
        };
        let shared = Arc::clone(&self.shared);
        self.fetching =
            Some(Box::pin(async move { (partitions, shared.broker.fetch(call).await) }));
    }

    async fn take(
        &mut self,
        asked: Vec<FetchPartition>,
        fetched: Result<Vec<FetchedPartition>, Error>,
    ) -> Result<(), Error> {
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) if error.retriable => {
                self.fetch_at = Instant::now() + FETCH_PAUSE;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for (asked, fetched) in asked.into_iter().zip(fetched) {
            let name = (asked.topic.to_string(), asked.partition.0);
            if !self.slots.wants(&name, asked.offset) {
                continue;
            }
            let bytes = fetch::size_bytes(&fetched);
            self.shared.metrics.fetched_bytes.inc_by(bytes as u64);
            match &fetched.result {
                Ok(_) if bytes == 0 => {}
                Ok(_) => {
                    self.in_hand.push_back(InHand::new(asked, fetched.result, self.options.form));
                }
                Err(error) if error.code == ErrorCode::OffsetOutOfRange => {
                    let offset = positions::reset(&self.shared, &self.options, &name).await?;
                    self.slots.seek(&name, offset);
                }
                // A topic that is deleted is taken from the member by the coordinator.
                Err(error)
                    if is_about_leader(error)
                        || error.code == ErrorCode::UnknownTopicOrPartition =>
                {
                    self.fetch_at = Instant::now() + FETCH_PAUSE;
                }
                Err(error) => return Err(error.clone()),
            }
        }
        Ok(())
    }

    /// A notice, or records; nothing if what is in hand holds no record, or is not wanted any more.
    async fn next_words(&mut self) -> Result<Option<Told>, Error> {
        if let Some(notice) = self.notices.pop_front() {
            return Ok(Some(notice));
        }
        let mut records = proto::SubscribeRecords::default();
        let mut used_bytes = 0;
        while used_bytes < self.options.max_bytes
            && let Some(hand) = self.in_hand.front_mut()
        {
            let name = (hand.partition.topic.to_string(), hand.partition.partition.0);
            if !self.slots.wants(&name, hand.partition.offset) {
                self.in_hand.pop_front();
                continue;
            }
            let (answer, bytes) = hand.answer(self.options.max_bytes - used_bytes).await;
            if let Some(error) = answer.error {
                return Err(Error::from_detail(error));
            }
            let end = match self.options.form {
                Form::Records => {
                    answer.records.last().map(|record| record.offset.saturating_add(1))
                }
                Form::Batches => (bytes > 0).then_some(answer.next_offset),
            };
            self.slots.sent(&name, end, Offset(answer.next_offset));
            if hand.is_empty() {
                self.in_hand.pop_front();
            }
            used_bytes += bytes;
            if bytes > 0 {
                records.partitions.push(answer);
            }
        }
        if records.partitions.is_empty() {
            return Ok(None);
        }
        records.charged_bytes = used_bytes as u64;
        self.credit_bytes -= i128::from(records.charged_bytes);
        Ok(Some(Told::Records(records)))
    }
}

/// The end of the fetch under way; never, if there is none.
async fn fetched(
    fetching: &mut Option<Fetching>,
) -> (Vec<FetchPartition>, Result<Vec<FetchedPartition>, Error>) {
    match fetching {
        Some(fetching) => fetching.await,
        None => std::future::pending().await,
    }
}

fn refs(names: impl IntoIterator<Item = Name>) -> Vec<proto::PartitionRef> {
    let one = |(topic, partition)| proto::PartitionRef { topic, partition };
    names.into_iter().map(one).collect()
}

fn named_positions(positions: proto::PartitionPositions) -> Result<Vec<(Name, i64)>, Error> {
    let partitions = positions.partitions;
    words::at_most("the number of partitions", partitions.len(), fetch::PARTITIONS_MAX)?;
    let named = |one: proto::PartitionPosition| match one.offset {
        ..0 => Err(Error::invalid_request(format!("offset must not be negative: {}", one.offset))),
        offset => Ok(((one.topic, one.partition), offset)),
    };
    partitions.into_iter().map(named).collect()
}
