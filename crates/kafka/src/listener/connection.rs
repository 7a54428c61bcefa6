//! One connection: reads requests, lets them be handled, sends the answers in the order of the requests.
//!
//! ```text
//! socket ─► Frames ─► slots: [waiting][ready][waiting] ... ─► WriteQueue ─► socket
//! ```
//!
//! All of it is one task that is polled as a whole. A request is polled for the first time as soon as it is read, so requests begin in
//! order; what does not finish at once waits in its slot while later ones are read, and answers leave from the front only.
//! Limits: unanswered requests and their bytes, and answers that the client does not take; at a limit nothing more is read. Two more are
//! shared by all connections: memory for requests ([`RequestMemory`](super::memory::RequestMemory)) and bytes of answers that clients do
//! not take ([`Unsent`](super::unsent::Unsent)). Whoever holds some of these while others wait must get on: a client that sends or takes
//! nothing for `stall_timeout` is closed.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::frames::Frames;
use super::log_limit::escaped;
use super::memory::{Granted, Share, UNCOUNTED_BYTES_MAX};
use super::requests::{self, Client, Question, Refused};
use super::unsent::UnsentShare;
use super::write_queue::WriteQueue;
use super::{Accepted, Shared};
use crate::backend::{Backend, Reply};
use crate::messages::Request;

/// Bytes of answers that may wait for the client before no further request is read.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of an unfinished request that count as progress.
const PROGRESS_BYTES: usize = 64 * 1024;

type Answer = Pin<Box<dyn Future<Output = Reply>>>;

struct Connection<B> {
    shared: Arc<Shared<B>>,
    socket: TcpStream,
    client: Client,
    frames: Frames,
    slots: VecDeque<Slot>,
    /// Bytes of the requests in `slots`.
    slots_bytes: usize,
    /// Memory of the request being read.
    share: Share,
    /// A wait for more of it.
    wait: Option<Pin<Box<dyn Future<Output = Granted>>>>,
    queue: WriteQueue,
    /// What `queue` holds, as all connections together see it.
    unsent: UnsentShare,
    /// A wait until others' clients have taken their answers.
    gate: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// False once the client has ended its side, broken the protocol, or the listener stops.
    is_reading: bool,
    /// When the client ended its side. It may be gone, which a socket does not tell before something is written.
    client_ended: Option<Instant>,
    last_progress: Instant,
    /// Bytes since `last_progress` that have not counted as progress.
    unfinished_bytes: usize,
    idle: Pin<Box<Sleep>>,
    /// Whether `idle` comes soon enough to notice that it stands still.
    is_watched: bool,
}

/// A request without its answer sent.
struct Slot {
    question: Question,
    request_bytes: usize,
    /// Held until the request is answered.
    _share: Share,
    state: SlotState,
}

enum SlotState {
    Waiting(Answer),
    Ready(Reply),
}

/// Serves the connection to its end.
pub(super) async fn serve<B: Backend>(
    accepted: Accepted,
    shared: Arc<Shared<B>>,
    mut stopped: watch::Receiver<bool>,
) {
    let Accepted { socket, peer, number, place: _place } = accepted;
    let socket = match TcpStream::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(%error, %peer, "cannot watch a connection");
            return;
        }
    };
    let listener = socket.local_addr().unwrap_or(shared.options.address);
    let mut connection = Connection {
        client: Client { peer, listener, connection: number, software: None },
        frames: Frames::new(shared.options.frame_bytes_max),
        slots: VecDeque::new(),
        slots_bytes: 0,
        share: Share::default(),
        wait: None,
        queue: WriteQueue::default(),
        unsent: UnsentShare::new(Arc::clone(&shared.unsent)),
        gate: None,
        is_reading: true,
        client_ended: None,
        last_progress: Instant::now(),
        unfinished_bytes: 0,
        idle: Box::pin(tokio::time::sleep(shared.options.idle_timeout)),
        is_watched: false,
        socket,
        shared,
    };
    let mut stop = Box::pin(async move {
        // A dropped sender means the same as a stop.
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    let mut is_stopping = false;
    let ended = poll_fn(|context| {
        if !is_stopping && stop.as_mut().poll(context).is_ready() {
            is_stopping = true;
            connection.is_reading = false;
        }
        connection.poll(context)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, %peer, "a Kafka connection broke");
    }
}

impl<B: Backend> Connection<B> {
    /// Ready when the connection is to be closed: everything answered, or broken.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let was_held = self.poll_read(context)?;
            self.poll_waiting(context);
            self.collect_answers();
            if let Poll::Ready(written) = self.queue.poll_write(&self.socket, context)
                && written.map(|bytes| self.count_written(bytes))? > 0
                && !self.queue.is_empty()
            {
                // The write side wants to be polled again for what is left; nothing is lost by doing so at once.
                continue;
            }
            self.unsent.set(self.queue.bytes());
            if !self.is_reading && self.slots.is_empty() && self.queue.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Reading stopped at a limit that the answers just sent have lifted.
            if !(was_held && self.may_read()) {
                break;
            }
        }
        self.poll_idle(context)
    }

    // ---- in ----

    fn may_read(&self) -> bool {
        let options = &self.shared.options;
        self.is_reading
            && self.slots.len() < options.in_flight_max
            && self.slots_bytes < options.in_flight_bytes_max
            && self.queue.bytes() < UNSENT_BYTES_MAX
    }

    /// Reads and starts requests. True when a limit, not a lack of bytes, ended it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        while self.may_read() {
            if self.poll_gate(context).is_pending() {
                return Ok(false);
            }
            match self.frames.next() {
                Ok(Some(frame)) => {
                    self.start(frame, context);
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    self.shared.counters.requests_malformed.fetch_add(1, Ordering::Relaxed);
                    self.refuse(&error, None);
                    return Ok(false);
                }
            }
            let Poll::Ready(readable) = self.socket.poll_read_ready(context) else {
                return Ok(false);
            };
            readable?;
            let Poll::Ready(room) = self.poll_room(context) else {
                return Ok(false);
            };
            match self.frames.fill(&self.socket, room) {
                Ok(0) => {
                    // The client may have closed one direction only: what it has asked is still answered.
                    self.is_reading = false;
                    let now = Instant::now();
                    self.client_ended = Some(now);
                    self.idle.as_mut().reset((now + self.shared.options.drain_timeout).into());
                    return Ok(false);
                }
                Ok(bytes) => self.count_read(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Ready when further requests may begin: clients take their answers, by and large.
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.gate.is_none() {
            if !self.shared.unsent.is_full() {
                return Poll::Ready(());
            }
            self.gate = Some(Box::pin(Arc::clone(&self.shared.unsent).until_room()));
        }
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(context));
            self.gate = None;
        }
        Poll::Ready(())
    }

    /// Ready with how many bytes more of the request being read there is memory for.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let Some((declared, arrived)) = self.frames.unfinished() else {
            return Poll::Ready(usize::MAX);
        };
        if declared <= UNCOUNTED_BYTES_MAX {
            return Poll::Ready(usize::MAX);
        }
        while self.share.bytes() <= arrived {
            if let Some(wait) = &mut self.wait {
                let granted = ready!(wait.as_mut().poll(context));
                self.wait = None;
                self.share.add(granted);
            } else if let Err(lacks) = self.shared.memory.grow(&mut self.share, declared, arrived) {
                let is_begun = self.share.bytes() > 0;
                let memory = Arc::clone(&self.shared.memory);
                self.wait = Some(Box::pin(memory.wait(lacks, is_begun)));
            }
        }
        Poll::Ready(self.share.bytes() - arrived)
    }

    fn start(&mut self, frame: BytesMut, context: &mut Context<'_>) {
        let received_at = Instant::now();
        self.last_progress = received_at;
        self.unfinished_bytes = 0;
        let request_bytes = frame.len();
        let share = std::mem::take(&mut self.share);
        let apis = self.shared.backend.apis();
        let parsed = match requests::parse(frame, apis) {
            Ok(parsed) => parsed,
            Err(error) => {
                let counters = &self.shared.counters;
                let counter = match error {
                    Refused::Malformed { .. } => &counters.requests_malformed,
                    Refused::Api(_) | Refused::Version { .. } => &counters.requests_unsupported,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                self.refuse(&error, None);
                return;
            }
        };
        let question = parsed.question;
        self.shared.counters.request(question.key);
        if let Request::ApiVersions(request) = &parsed.request {
            self.client.software =
                requests::client_software(request).or_else(|| self.client.software.take());
            let (question, response) =
                requests::api_versions(question, apis, self.shared.backend.features());
            let state = SlotState::Ready(Reply::Response(response));
            return self.push_slot(Slot { question, request_bytes, _share: share, state });
        }
        let request_context = self.client.context(question, parsed.client_id, received_at);
        let backend = Arc::clone(&self.shared.backend);
        let mut answer: Answer =
            Box::pin(async move { backend.handle(request_context, parsed.request).await });
        let state = match answer.as_mut().poll(context) {
            Poll::Ready(reply) => SlotState::Ready(reply),
            Poll::Pending => SlotState::Waiting(answer),
        };
        self.push_slot(Slot { question, request_bytes, _share: share, state });
    }

    fn push_slot(&mut self, slot: Slot) {
        self.slots_bytes += slot.request_bytes;
        self.slots.push_back(slot);
    }

    // ---- out ----

    fn poll_waiting(&mut self, context: &mut Context<'_>) {
        for slot in &mut self.slots {
            if let SlotState::Waiting(answer) = &mut slot.state
                && let Poll::Ready(reply) = answer.as_mut().poll(context)
            {
                slot.state = SlotState::Ready(reply);
            }
        }
    }

    /// Moves the answers that are ready at the front to the write queue.
    fn collect_answers(&mut self) {
        while let Some(Slot { state: SlotState::Ready(_), .. }) = self.slots.front() {
            let Some(Slot { question, request_bytes, state: SlotState::Ready(reply), .. }) =
                self.slots.pop_front()
            else {
                return;
            };
            self.slots_bytes -= request_bytes;
            match reply {
                Reply::None => {}
                Reply::Close => self.abandon(),
                Reply::Response(response) if response.api_key() != question.key => {
                    self.fail(question, &"the answer is to another call");
                }
                Reply::Response(response) => match requests::encode(question, response) {
                    Ok(segments) => self.queue.push(segments),
                    Err(error) => self.fail(question, &error),
                },
            }
        }
    }

    /// An answer that cannot be sent is a fault of ours; the client finds out by the connection's end.
    fn fail(&mut self, question: Question, error: &dyn std::fmt::Display) {
        self.shared.counters.responses_failed.fetch_add(1, Ordering::Relaxed);
        self.refuse(error, Some(question));
        self.abandon();
    }

    /// Nothing more is read or answered; what has been answered is still sent.
    fn abandon(&mut self) {
        self.is_reading = false;
        self.slots.clear();
        self.slots_bytes = 0;
    }

    /// Ends reading, with a line in the log unless there have been many.
    fn refuse(&mut self, error: &dyn std::fmt::Display, question: Option<Question>) {
        self.is_reading = false;
        let Some(suppressed) = self.shared.log_limit.admit(Instant::now()) else {
            return;
        };
        let peer = self.client.peer;
        let software = self.client.software.as_ref();
        let software = software.map(|software| escaped(&software.name)).unwrap_or_default();
        match question {
            None => {
                tracing::warn!(%peer, software, suppressed, "closing a Kafka connection: {error}");
            }
            Some(Question { key, version, .. }) => tracing::error!(
                %peer,
                software,
                suppressed,
                "cannot answer {} version {version}: {error}",
                key.name()
            ),
        }
    }

    // ---- progress ----

    fn count_read(&mut self, bytes: usize) {
        self.shared.counters.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.unfinished_bytes += bytes;
        if self.unfinished_bytes >= PROGRESS_BYTES {
            self.unfinished_bytes = 0;
            self.last_progress = Instant::now();
        }
    }

    fn count_written(&mut self, bytes: usize) -> usize {
        if bytes > 0 {
            self.shared.counters.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
            self.last_progress = Instant::now();
        }
        bytes
    }

    /// Whether it holds something that another connection waits for.
    fn is_in_the_way(&self) -> bool {
        let holds_memory = self.share.bytes() > 0 && self.wait.is_none();
        holds_memory && self.shared.memory.is_short()
            || !self.queue.is_empty()
                && (self.shared.unsent.is_full() || self.shared.backend.is_short_of_memory())
    }

    fn holds_anything(&self) -> bool {
        self.share.bytes() > 0 || !self.queue.is_empty()
    }

    /// Ready when the connection has made no progress for too long. Requests that are being handled are progress by themselves, but
    /// not for a client that has ended its side: a fetch that waits for days must not hold the connection of somebody who is gone.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_watched && self.holds_anything() {
            self.is_watched = true;
            let soon = Instant::now() + self.shared.options.stall_timeout;
            if soon < self.idle.deadline().into_std() {
                self.idle.as_mut().reset(soon.into());
            }
        }
        while self.idle.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let deadline = self.deadline(now);
            if deadline <= now {
                self.shared.counters.connections_idle.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(
                    peer = %self.client.peer,
                    unfinished_bytes = self.frames.unfinished_bytes(),
                    unsent_bytes = self.queue.bytes(),
                    "closing an idle Kafka connection"
                );
                return Poll::Ready(Ok(()));
            }
            self.is_watched = self.holds_anything();
            let next = if self.is_watched {
                deadline.min(now + self.shared.options.stall_timeout)
            } else {
                deadline
            };
            self.idle.as_mut().reset(next.into());
        }
        Poll::Pending
    }

    /// When it is to be closed unless it gets on.
    fn deadline(&mut self, now: Instant) -> Instant {
        let options = &self.shared.options;
        let is_handled = !self.slots.is_empty() && self.queue.is_empty();
        // Who waits for others is not to blame for standing still.
        if is_handled || self.wait.is_some() || self.gate.is_some() && self.queue.is_empty() {
            self.last_progress = now;
        }
        let patience =
            if self.is_in_the_way() { options.stall_timeout } else { options.idle_timeout };
        let mut deadline = self.last_progress + patience;
        if let Some(ended) = self.client_ended {
            let since = if self.queue.is_empty() { ended } else { ended.max(self.last_progress) };
            deadline = deadline.min(since + options.drain_timeout);
        }
        deadline
    }
}
