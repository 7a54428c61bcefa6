//! One follower's stream: the partitions that have something for it, and the responses it is sent.
//!
//! Partitions list themselves, each once. Whoever sends asks them in turn for a bounded piece: one that has more goes to the end of the
//! list, so that a replica far behind holds up no other by more than its piece. What has to be read from the disk is read beside, a few at
//! a time, while the others go on. Responses are made when the connection asks for one, so nothing is made that cannot be sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use thalweg_proto::internal::replication::v1 as proto;
use thalweg_replication_core::PushCursor;
use thalweg_rpc::Error;
use thalweg_storage::{Chunk, ReadError, ReadSlice};
use thalweg_types::{BrokerEpoch, NodeId, TopicIdPartition};
use tokio::sync::Notify;
use tonic::Status;

use super::throttle::Throttle;
use super::window::Window;
use crate::partition::{NextPush, OwnedPush, Partition};
use crate::replication::{Hub, wire};

/// Bytes of batches in one response: large enough that its costs do not matter, small enough that what is appended meanwhile does not wait
/// long for its end.
const RESPONSE_BYTES: usize = 512 << 10;

/// Bytes of one partition's batches in a response, unless a single batch is larger.
const PUSH_BYTES: usize = 256 << 10;

/// Most that may be on its way to one follower, whatever it asks for.
const WINDOW_BYTES_MAX: usize = 64 << 20;

/// Answers that wait to be sent: every partition a broker may have, and then some.
const ANSWERS_MAX: usize = 200_000;

/// Responses on their way. Far more than fill the window, since a follower says so more often than that.
const RESPONSES_MAX: usize = 100_000;

/// Reads from the disk at a time for one follower.
const READS_MAX: usize = 2;

#[derive(Debug)]
pub(crate) struct FollowerStream {
    node: NodeId,
    /// The follower's session and its count of streams: what is larger is newer.
    number: (BrokerEpoch, u64),
    state: Mutex<State>,
    hub: Arc<Hub>,
    /// There may be something to send.
    filled: Notify,
    /// Wakes whoever reads the follower's requests.
    closing: Notify,
}

#[derive(Debug)]
struct State {
    /// Partitions that have something to be sent, in turn.
    listed: VecDeque<Arc<Partition>>,
    /// Those among them that wait for the follower to take in what it was sent of them.
    held: Vec<Arc<Partition>>,
    /// Those that have a follower to catch up, while that is to wait.
    throttled: Vec<Arc<Partition>>,
    /// What the follower takes of those.
    catch_up: Throttle,
    /// Those that have to be read from the disk, and wait for their turn.
    unread: VecDeque<Read>,
    reads: usize,
    loaded: Vec<Loaded>,
    answers: Vec<proto::Answer>,
    window: Window,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    Quiet,
    Failed(Error),
}

/// What is to be read for a push.
#[derive(Debug)]
struct Read {
    partition: Arc<Partition>,
    cursor: PushCursor,
    slice: ReadSlice,
}

#[derive(Debug)]
struct Loaded {
    partition: Arc<Partition>,
    cursor: PushCursor,
    batches: Result<Vec<Bytes>, ReadError>,
}

/// A response in the making.
#[derive(Default)]
struct Response {
    message: proto::ReplicateResponse,
    sizes: Vec<(TopicIdPartition, usize)>,
    bytes: usize,
}

impl FollowerStream {
    pub(super) fn new(
        node: NodeId,
        number: (BrokerEpoch, u64),
        hello: &proto::Hello,
        hub: &Arc<Hub>,
    ) -> Self {
        let bounded =
            |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(WINDOW_BYTES_MAX);
        let window =
            Window::new(bounded(hello.window_bytes), bounded(hello.partition_window_bytes));
        let state = State {
            listed: VecDeque::new(),
            held: Vec::new(),
            throttled: Vec::new(),
            catch_up: Throttle::default(),
            unread: VecDeque::new(),
            reads: 0,
            loaded: Vec::new(),
            answers: Vec::new(),
            window,
            end: None,
        };
        let state = Mutex::new(state);
        let hub = Arc::clone(hub);
        Self { node, number, state, hub, filled: Notify::new(), closing: Notify::new() }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn number(&self) -> (BrokerEpoch, u64) {
        self.number
    }

    // ---- Inputs ----

    /// The partition has something to be sent. It lists itself once until it is asked.
    pub(crate) fn list(&self, partition: Arc<Partition>) {
        self.state.lock().listed.push_back(partition);
        self.filled.notify_one();
    }

    /// Fails when the follower asks and asks, and takes in nothing.
    pub(super) fn answer(&self, answer: proto::Answer) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.answers.len() >= ANSWERS_MAX || state.window.responses() >= RESPONSES_MAX {
            return Err(Error::invalid_request("answers are asked for and not taken in"));
        }
        state.answers.push(answer);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// The follower has taken in so many responses.
    pub(super) fn taken(&self, count: u64) -> Result<(), Error> {
        let mut state = self.state.lock();
        let taken = state.window.taken(count);
        if taken.map_err(|error| Error::invalid_request(error.to_string()))? {
            let held = std::mem::take(&mut state.held);
            state.listed.extend(held);
            drop(state);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Nothing is taken in or sent any more; the follower is told why, if there is a reason.
    pub(crate) fn close(&self, error: Option<Error>) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(error.map_or(End::Quiet, End::Failed));
            state.listed.clear();
            state.held.clear();
            state.throttled.clear();
            state.unread.clear();
        }
        drop(state);
        self.filled.notify_one();
        self.closing.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// Resolves when it is closed. For one task.
    pub(super) async fn closed(&self) {
        while !self.is_closed() {
            self.closing.notified().await;
        }
    }

    // ---- Outputs ----

    /// The next response; `None` at the end of the stream.
    async fn next(self: &Arc<Self>) -> Option<Result<proto::ReplicateResponse, Status>> {
        loop {
            if let Some(end) = &mut self.state.lock().end {
                return match std::mem::replace(end, End::Quiet) {
                    End::Quiet => None,
                    End::Failed(error) => Some(Err(error.into())),
                };
            }
            let response = self.compose();
            if !response.is_empty() {
                self.state.lock().window.sent(response.sizes);
                return Some(Ok(response.message));
            }
            if self.state.lock().throttled.is_empty() {
                self.filled.notified().await;
                continue;
            }
            let wait = Duration::from_millis(self.catch_up_wait_ms());
            // Whoever is woken by something else looks at those that wait as well.
            let _ = tokio::time::timeout(wait, self.filled.notified()).await;
        }
    }

    fn compose(self: &Arc<Self>) -> Response {
        let mut response = Response::default();
        response.message.answers = std::mem::take(&mut self.state.lock().answers);
        // Taken first: the loop needs the lock, too.
        let loaded = std::mem::take(&mut self.state.lock().loaded);
        for loaded in loaded {
            self.take_loaded(loaded, &mut response);
        }
        let is_limited = self.limits_catch_up();
        self.take_back_throttled();
        while response.bytes < RESPONSE_BYTES {
            let Some(partition) = self.next_listed() else { break };
            let is_catching_up = is_limited && partition.is_catching_up(self.node);
            if is_catching_up && self.catch_up_wait_ms() > 0 {
                self.state.lock().throttled.push(partition);
                continue;
            }
            let before = response.bytes;
            match partition.next_push(self, PUSH_BYTES) {
                NextPush::Nothing => {}
                NextPush::Ready { push, more } => {
                    response.push(partition.id(), push);
                    if more {
                        self.state.lock().listed.push_back(partition);
                    }
                }
                NextPush::Cold { cursor, slice } => {
                    self.state.lock().unread.push_back(Read { partition, cursor, slice });
                }
                NextPush::Closed { session } => {
                    let partition = Some(wire::id_to_proto(partition.id()));
                    response.message.closings.push(proto::Closing { partition, session });
                }
            }
            if is_catching_up {
                self.pay_for_catch_up(response.bytes - before);
            }
        }
        self.start_reads();
        response
    }

    fn limits_catch_up(&self) -> bool {
        let of_leader = self.hub.configs().leader_catch_up_rate;
        of_leader.min(self.hub.follower_catch_up_rate(self.node)) < Throttle::UNLIMITED
    }

    /// How long what is not urgent has to wait, at the leader's rate and the follower's.
    fn catch_up_wait_ms(&self) -> u64 {
        let now = self.hub.now();
        let of_leader = self.hub.configs().leader_catch_up_rate;
        let of_follower = self.hub.follower_catch_up_rate(self.node);
        let all = self.hub.catch_up.lock().wait_ms(of_leader, now);
        all.max(self.state.lock().catch_up.wait_ms(of_follower, now))
    }

    fn pay_for_catch_up(&self, bytes: usize) {
        self.hub.catch_up.lock().spend(bytes);
        self.state.lock().catch_up.spend(bytes);
    }

    /// Those whose wait is over are in turn again.
    fn take_back_throttled(&self) {
        let has_none = self.state.lock().throttled.is_empty();
        if !has_none && self.catch_up_wait_ms() == 0 {
            let mut state = self.state.lock();
            let throttled = std::mem::take(&mut state.throttled);
            state.listed.extend(throttled);
        }
    }

    /// The next partition whose turn it is and that has room on the wire.
    fn next_listed(&self) -> Option<Arc<Partition>> {
        let mut state = self.state.lock();
        while state.window.has_room() {
            let partition = state.listed.pop_front()?;
            if state.window.has_room_for(partition.id()) {
                return Some(partition);
            }
            state.held.push(partition);
        }
        None
    }

    fn take_loaded(self: &Arc<Self>, loaded: Loaded, response: &mut Response) {
        let Loaded { partition, cursor, batches } = loaded;
        match batches {
            Ok(batches) => {
                let Some((push, more)) = partition.finish_push(self, cursor, batches) else {
                    return;
                };
                if self.limits_catch_up() && partition.is_catching_up(self.node) {
                    self.pay_for_catch_up(push.bytes);
                }
                response.push(partition.id(), push);
                if more {
                    self.state.lock().listed.push_back(partition);
                }
            }
            Err(error) => partition.handle_read_failure(self, &error),
        }
    }

    /// Reads from the disk where that holds up nobody.
    fn start_reads(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            if state.reads >= READS_MAX {
                return;
            }
            let Some(read) = state.unread.pop_front() else { return };
            state.reads += 1;
            drop(state);
            let stream = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let Read { partition, cursor, slice } = read;
                let batches = load(slice);
                let mut state = stream.state.lock();
                state.reads -= 1;
                state.loaded.push(Loaded { partition, cursor, batches });
                drop(state);
                stream.filled.notify_one();
            });
        }
    }
}

fn load(slice: ReadSlice) -> Result<Vec<Bytes>, ReadError> {
    let read = |chunk| match chunk {
        Chunk::Tail(bytes) => Ok(bytes),
        Chunk::File(range) => range.read().map(|slice| slice.bytes),
    };
    slice.chunks.into_iter().map(read).collect()
}

impl Response {
    fn push(&mut self, id: TopicIdPartition, push: OwnedPush) {
        self.bytes += push.bytes;
        self.sizes.push((id, push.bytes));
        self.message.pushes.push(wire::push_to_proto(id, &push.cursor, push.batches));
    }

    fn is_empty(&self) -> bool {
        let proto::ReplicateResponse { answers, pushes, closings } = &self.message;
        answers.is_empty() && pushes.is_empty() && closings.is_empty()
    }
}

/// Closes the stream when the connection lets go of it.
struct Sending(Arc<FollowerStream>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.close(None);
    }
}

/// The responses, each made when the connection asks for it.
pub(super) fn responses(
    stream: Arc<FollowerStream>,
) -> impl Stream<Item = Result<proto::ReplicateResponse, Status>> + Send + 'static {
    futures_util::stream::unfold(Sending(stream), |sending| async move {
        let response = sending.0.next().await?;
        Some((response, sending))
    })
}
