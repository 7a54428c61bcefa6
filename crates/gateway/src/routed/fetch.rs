//! Reading from several brokers at once as if they were one.
//!
//! Each broker is asked for the partitions it leads and waits for its part of `min_bytes`. If together there is enough, some broker has its
//! part; so whenever one answers, either there is enough, or it is asked again for correspondingly more. When the wait is over, those that
//! still wait are asked for what they have, without waiting.
//!
//! Who says where it is, is answered by an in-sync replica there (KIP-392), and by the leader where that one cannot.
//!
//! A partition without a leader, or whose leader does not answer, is looked for again whenever the metadata changes, as long as there is
//! nothing to answer with; then its error is in its place.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use thalweg_kafka::fetch::FetchMemory;
use thalweg_metadata_core::Image;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::{Error, MESSAGE_BYTES_MAX};
use thalweg_types::{ErrorCode, NodeId, Offset, TopicPartition};
use tokio::time::{Instant, sleep_until, timeout};

use super::nodes::Client;
use super::reads::{Reads, leader, nearest};
use super::words;
use crate::port::{FetchCall, FetchPartition, Fetched, FetchedPartition};

/// Longest time for a broker to answer what it need not wait for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// The same when others have answered already.
const LAST_LOOK_TIME_MAX: Duration = Duration::from_millis(250);

/// Wait before a partition is looked for again when the metadata says nothing new.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

type Answer = Result<Fetched, Error>;
type Asking<'a> = FuturesUnordered<BoxFuture<'a, (usize, Result<Vec<Answer>, Error>)>>;

/// The partitions of a call that one broker is asked for.
struct Share {
    node: NodeId,
    /// Positions in the call.
    indexes: Vec<usize>,
    /// Found so far.
    bytes: usize,
    /// Its answer does not count any more: the partitions are asked for elsewhere.
    is_void: bool,
}

struct Fetch<'a> {
    reads: &'a Reads,
    call: &'a FetchCall,
    memory: Option<&'a FetchMemory>,
    names: Vec<TopicPartition>,
    until: Instant,
    answers: Vec<Option<Answer>>,
    shares: Vec<Share>,
    /// Partitions that a follower could not answer: their leaders are asked.
    refused: BTreeSet<usize>,
    /// A partition does not exist: that is told at once.
    is_over: bool,
}

/// With `memory`, the records are counted there until they have been sent.
pub(super) async fn fetch(
    reads: &Reads,
    mut call: FetchCall,
    memory: Option<&FetchMemory>,
) -> Vec<FetchedPartition> {
    if let Some(memory) = memory {
        call.max_bytes = call.max_bytes.min(memory.allowance());
        call.min_bytes = call.min_bytes.min(call.max_bytes);
    }
    let answers = {
        let mut fetch = Fetch::new(reads, &call, memory);
        match call.min_bytes == 0 || call.max_wait.is_zero() {
            true => fetch.look(fetch.all(), Min::Nothing, ANSWER_TIME_MAX).await,
            false => fetch.wait().await,
        }
        fetch.answers
    };
    merge(call, answers)
}

impl<'a> Fetch<'a> {
    fn new(reads: &'a Reads, call: &'a FetchCall, memory: Option<&'a FetchMemory>) -> Self {
        let name = |wanted: &FetchPartition| TopicPartition {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
        };
        Self {
            reads,
            call,
            memory,
            names: call.partitions.iter().map(name).collect(),
            until: Instant::now() + call.max_wait,
            answers: call.partitions.iter().map(|_| None).collect(),
            shares: Vec::new(),
            refused: BTreeSet::new(),
            is_over: false,
        }
    }

    /// Waits for enough, or for the time to pass.
    async fn wait(&mut self) {
        let mut asking = Asking::new();
        let mut changed = self.reads.feed.changed();
        changed.mark_unchanged();
        let mut homeless = self.ask_for(self.all(), Min::Part, &mut asking);
        let end = self.until + LAST_LOOK_TIME_MAX;
        let mut retry_at = Instant::now() + RETRY_PAUSE;
        while !self.is_enough() && (!asking.is_empty() || !homeless.is_empty()) {
            tokio::select! {
                biased;
                Some((number, answer)) = asking.next(), if !asking.is_empty() => {
                    homeless.extend(self.take(number, answer, true));
                    if !self.is_enough() && !self.asks_again(number, &mut asking) {
                        break;
                    }
                }
                Ok(()) = changed.changed() => {
                    homeless.extend(self.moved());
                    homeless = self.ask_for(homeless, Min::Part, &mut asking);
                }
                () = sleep_until(retry_at), if !homeless.is_empty() => {
                    retry_at = Instant::now() + RETRY_PAUSE;
                    homeless = self.ask_for(homeless, Min::Part, &mut asking);
                }
                () = sleep_until(self.until), if asking.is_empty() => break,
                () = sleep_until(end) => break,
            }
        }
        drop(asking);
        let unanswered: Vec<usize> =
            self.all().into_iter().filter(|index| self.answers[*index].is_none()).collect();
        if Instant::now() >= end {
            self.note_silence();
        }
        self.look(unanswered, Min::NothingMore, LAST_LOOK_TIME_MAX).await;
    }

    /// Every position in the call.
    fn all(&self) -> Vec<usize> {
        (0..self.call.partitions.len()).collect()
    }

    /// Asks everyone once for what is there.
    async fn look(&mut self, indexes: Vec<usize>, min: Min, time_max: Duration) {
        if indexes.is_empty() {
            return;
        }
        for share in &mut self.shares {
            share.is_void = true;
        }
        let mut asking = Asking::new();
        self.ask_for(indexes.clone(), min, &mut asking);
        let all = async {
            while let Some((number, answer)) = asking.next().await {
                // Who was not near enough: its leader, this once.
                let refused = self.take(number, answer, false);
                self.ask_for(refused, min, &mut asking);
            }
        };
        if timeout(time_max, all).await.is_err() {
            self.note_silence();
        }
        for index in indexes {
            let name = &self.names[index];
            self.answers[index].get_or_insert_with(|| Err(unanswered(name)));
        }
    }

    /// Groups partitions by their leaders and asks these. Returns those without one.
    fn ask_for(&mut self, indexes: Vec<usize>, min: Min, asking: &mut Asking<'a>) -> Vec<usize> {
        if indexes.is_empty() {
            return indexes;
        }
        let image = self.reads.feed.image();
        let first_new = self.shares.len();
        let mut homeless = Vec::new();
        for index in indexes {
            match self.place(&image, index) {
                Ok(node) if min == Min::NothingMore && self.reads.nodes.is_silent(node) => {
                    self.answers[index] = Some(Err(silent(node)));
                }
                Ok(node) => {
                    self.answers[index] = None;
                    self.assign(index, node, first_new);
                }
                Err(error) => {
                    match error.code {
                        ErrorCode::UnknownTopicOrPartition => self.is_over = true,
                        _ => homeless.push(index),
                    }
                    self.answers[index] = Some(Err(error));
                }
            }
        }
        for number in first_new..self.shares.len() {
            let node = self.shares[number].node;
            let min_bytes = match min {
                Min::Nothing | Min::NothingMore => 0,
                Min::Part => self.part(self.call.min_bytes),
            };
            match self.reads.nodes.reads(&image, node) {
                Ok(client) => asking.push(self.ask(number, client, min_bytes)),
                Err(error) => homeless.extend(self.take(number, Err(error), true)),
            }
        }
        homeless
    }

    /// Who is to be asked for a partition.
    fn place(&self, image: &Image, index: usize) -> Result<NodeId, Error> {
        let near = nearest(image, &self.names[index], &self.call.rack)?;
        match self.refused.contains(&index) || self.reads.nodes.is_silent(near) {
            true => leader(image, &self.names[index]),
            false => Ok(near),
        }
    }

    fn assign(&mut self, index: usize, node: NodeId, first_new: usize) {
        let new_ones = self.shares.iter_mut().skip(first_new);
        match new_ones.into_iter().find(|share| share.node == node) {
            Some(share) => share.indexes.push(index),
            None => {
                self.shares.push(Share { node, indexes: vec![index], bytes: 0, is_void: false })
            }
        }
    }

    fn ask(
        &self,
        number: usize,
        client: Client,
        min_bytes: usize,
    ) -> BoxFuture<'a, (usize, Result<Vec<Answer>, Error>)> {
        let share = &self.shares[number];
        let wait = match min_bytes {
            0 => Duration::ZERO,
            _ => self.until.saturating_duration_since(Instant::now()),
        };
        let max_bytes = self.share_max();
        let request = proto::FetchRequest {
            partitions: share.indexes.iter().map(|index| self.wanted(*index)).collect(),
            min_bytes: wire(min_bytes),
            max_bytes: wire(max_bytes),
            max_wait_ms: wire(usize::try_from(wait.as_millis()).unwrap_or(usize::MAX)),
            isolation_level: words::isolation_level(self.call.isolation).into(),
            followers_too: !self.call.rack.is_empty(),
        };
        let collecting = Collecting { count: share.indexes.len(), max_bytes, memory: self.memory };
        async move { (number, collecting.collect(client, request).await) }.boxed()
    }

    fn wanted(&self, index: usize) -> proto::FetchPartition {
        let wanted = &self.call.partitions[index];
        proto::FetchPartition {
            topic: wanted.topic.to_string(),
            partition: wanted.partition.0,
            offset: wanted.offset.0,
            max_bytes: wire(wanted.max_bytes),
            leader_epoch: wanted.current_leader_epoch.0,
        }
    }

    /// Keeps what a broker answered. Returns the partitions to be looked for again.
    fn take(
        &mut self,
        number: usize,
        answer: Result<Vec<Answer>, Error>,
        waits: bool,
    ) -> Vec<usize> {
        let image = self.reads.feed.image();
        let share = &mut self.shares[number];
        if share.is_void {
            return Vec::new();
        }
        let answers = match answer {
            Ok(answers) => {
                self.reads.nodes.note_answer(share.node);
                answers
            }
            Err(error) => share.indexes.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut homeless = Vec::new();
        share.bytes = 0;
        for (index, answer) in share.indexes.iter().zip(answers) {
            match &answer {
                Ok(fetched) => share.bytes += size_bytes(fetched),
                // Only the leader knows whether the reader is wrong.
                Err(_)
                    if !self.refused.contains(index)
                        && leader(&image, &self.names[*index]).is_ok_and(|it| it != share.node)
                        && !self.call.rack.is_empty() =>
                {
                    self.refused.insert(*index);
                    homeless.push(*index);
                }
                Err(error) if waits && words::is_read_elsewhere(error) => homeless.push(*index),
                Err(_) => {}
            }
            self.answers[*index] = Some(answer);
        }
        share.indexes.retain(|index| !homeless.contains(index));
        homeless
    }

    /// Whether the wait is over.
    fn is_enough(&self) -> bool {
        let is_final = |answer: &Answer| match answer {
            Ok(_) => false,
            Err(error) => !words::is_read_elsewhere(error),
        };
        self.is_over
            || self.found_bytes() >= self.call.min_bytes
            || self.answers.iter().flatten().any(is_final)
    }

    /// Asks a broker that has answered for more than it had; false if it has all it may send.
    fn asks_again(&mut self, number: usize, asking: &mut Asking<'a>) -> bool {
        let missing = self.call.min_bytes.saturating_sub(self.found_bytes());
        let Some(share) = self.shares.get(number).filter(|share| !share.is_void) else {
            return true;
        };
        if share.indexes.is_empty() || Instant::now() >= self.until {
            return true;
        }
        let min_bytes = share.bytes + self.part(missing);
        if min_bytes > self.share_max() {
            return false;
        }
        if let Ok(client) = self.reads.nodes.reads(&self.reads.feed.image(), share.node) {
            asking.push(self.ask(number, client, min_bytes));
        }
        true
    }

    /// Takes partitions back from brokers that do not lead them any more and have not said so.
    fn moved(&mut self) -> Vec<usize> {
        let image = self.reads.feed.image();
        let mut homeless = Vec::new();
        for share in self.shares.iter_mut().filter(|share| !share.is_void) {
            let has_moved = share.indexes.iter().any(|index| {
                let now = match self.refused.contains(index) {
                    true => leader(&image, &self.names[*index]),
                    false => nearest(&image, &self.names[*index], &self.call.rack),
                };
                now.is_ok_and(|now| now != share.node)
            });
            if has_moved {
                share.is_void = true;
                share.bytes = 0;
                homeless.append(&mut share.indexes);
            }
        }
        homeless
    }

    fn note_silence(&self) {
        let is_unanswered = |index: &usize| self.answers[*index].is_none();
        for share in &self.shares {
            if share.indexes.iter().any(is_unanswered) {
                self.reads.nodes.note_silence(share.node);
            }
        }
    }

    fn found_bytes(&self) -> usize {
        self.answers.iter().flatten().flatten().map(size_bytes).sum()
    }

    /// One broker's part of so many bytes, at least 1.
    fn part(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.share_count()).clamp(1, self.share_max().max(1))
    }

    fn share_max(&self) -> usize {
        (self.call.max_bytes / self.share_count()).max(1)
    }

    fn share_count(&self) -> usize {
        self.shares.iter().filter(|share| !share.is_void).count().max(1)
    }
}

/// For how much a broker waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Min {
    Nothing,
    /// The same when the call has waited already: brokers that were silent lately are not asked.
    NothingMore,
    /// Its part of what the call asks for.
    Part,
}

/// One broker's answer while it comes.
struct Collecting<'a> {
    /// Partitions asked for.
    count: usize,
    max_bytes: usize,
    memory: Option<&'a FetchMemory>,
}

impl Collecting<'_> {
    /// The whole answer, in the order of the request. Without memory for the rest of the records these are left out: whoever holds some
    /// does not wait for more, so that readers never wait for each other.
    async fn collect(
        self,
        mut client: Client,
        request: proto::FetchRequest,
    ) -> Result<Vec<Answer>, Error> {
        let mut pieces = client.fetch(request).await?.into_inner();
        let mut answers: Vec<Option<Answer>> = (0..self.count).map(|_| None).collect();
        let mut bytes = 0;
        let mut is_full = false;
        while let Some(mut piece) = pieces.message().await? {
            let piece_bytes = bytes_of(&piece);
            is_full = is_full || !self.count_in(&mut piece, piece_bytes, bytes == 0).await;
            for mut partition in piece.partitions {
                if is_full {
                    partition.batches.clear();
                }
                let place = usize::try_from(partition.index).ok();
                let Some(answer) = place.and_then(|place| answers.get_mut(place)) else {
                    return Err(senseless("a partition that was not asked for"));
                };
                add(answer, partition);
            }
            bytes += piece_bytes;
            if bytes > self.max_bytes + MESSAGE_BYTES_MAX {
                return Err(senseless("far more than was asked for"));
            }
        }
        let missing = || Err(senseless("nothing about a partition"));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect())
    }

    /// Ties the memory of a piece to its records; false if there is none, and nothing is held yet that would have to be waited with.
    async fn count_in(
        &self,
        piece: &mut proto::FetchResponse,
        bytes: usize,
        is_first: bool,
    ) -> bool {
        let Some(memory) = self.memory.filter(|_| bytes > 0) else { return true };
        let mut lease = match memory.try_take(bytes) {
            Some(lease) => lease,
            None if is_first => memory.take(bytes).await,
            None => return false,
        };
        let mut batches = piece.partitions.iter_mut().flat_map(|one| &mut one.batches).peekable();
        while let Some(batch) = batches.next() {
            *batch = lease.tie(std::mem::take(batch));
            if batches.peek().is_none() {
                lease.tie_rest(batch);
            }
        }
        true
    }
}

fn bytes_of(piece: &proto::FetchResponse) -> usize {
    piece.partitions.iter().flat_map(|one| &one.batches).map(Bytes::len).sum()
}

/// Adds a piece to what is known of a partition.
fn add(answer: &mut Option<Answer>, piece: proto::FetchedPartition) {
    if let Some(refusal) = piece.refusal {
        *answer = Some(Err(words::error(refusal).not_applied()));
        return;
    }
    match answer {
        Some(Ok(fetched)) => fetched.batches.extend(piece.batches),
        Some(Err(_)) => {}
        None => {
            *answer = Some(Ok(Fetched {
                high_watermark: Offset(piece.high_watermark),
                last_stable_offset: Offset(piece.last_stable_offset),
                log_start_offset: Offset(piece.log_start_offset),
                batches: piece.batches,
            }));
        }
    }
}

/// The answers in the order of the call, within its bound: the first batch is answered in any case.
fn merge(call: FetchCall, answers: Vec<Option<Answer>>) -> Vec<FetchedPartition> {
    let mut left_bytes = call.max_bytes;
    let mut is_first = true;
    let merged = call.partitions.into_iter().zip(answers).map(|(wanted, answer)| {
        let FetchPartition { topic, partition, .. } = wanted;
        let mut result = answer.unwrap_or_else(|| {
            let name = TopicPartition { topic: topic.clone(), partition };
            Err(unanswered(&name))
        });
        if let Ok(fetched) = &mut result {
            let fits = fetched.batches.iter().take_while(|batch| {
                let fits = is_first || batch.len() <= left_bytes;
                if fits {
                    is_first = false;
                    left_bytes = left_bytes.saturating_sub(batch.len());
                }
                fits
            });
            let count = fits.count();
            fetched.batches.truncate(count);
        }
        let result = result.map_err(|error| words::for_clients(error.not_applied()));
        FetchedPartition { topic, partition, result }
    });
    merged.collect()
}

fn size_bytes(fetched: &Fetched) -> usize {
    fetched.batches.iter().map(Bytes::len).sum()
}

fn wire(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn unanswered(at: &TopicPartition) -> Error {
    let message = format!("the leader of {at} does not answer");
    Error::new(ErrorCode::LeaderNotAvailable, message).not_applied()
}

fn silent(node: NodeId) -> Error {
    Error::new(ErrorCode::LeaderNotAvailable, format!("broker {node} does not answer"))
        .not_applied()
}

fn senseless(what: &str) -> Error {
    Error::new(ErrorCode::UnknownServerError, format!("a broker answered {what}")).not_applied()
}
