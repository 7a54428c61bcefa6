//! One connection: reads requests, lets them be handled, sends the answers in the order of the requests.
//!
//! ```text
//! socket ─► Frames ─► slots: [waiting][ready][waiting] ... ─► WriteQueue ─► socket
//! ```
//!
//! All of it is one task that is polled as a whole. A request is polled for the first time as soon as it is read, so requests begin in
//! order; what does not finish at once waits in its slot while later ones are read, and answers leave from the front only.
//! Limits: unanswered requests and their bytes, and answers that the client does not take; at a limit nothing more is read.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::frames::Frames;
use super::log_limit::escaped;
use super::requests::{self, Client, Question, Refused};
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
    queue: WriteQueue,
    /// False once the client has ended its side, broken the protocol, or the listener stops.
    is_reading: bool,
    /// When the client ended its side. It may be gone, which a socket does not tell before something is written.
    client_ended: Option<Instant>,
    last_progress: Instant,
    /// Bytes since `last_progress` that have not counted as progress.
    unfinished_bytes: usize,
    idle: Pin<Box<Sleep>>,
}

/// A request without its answer sent.
struct Slot {
    question: Question,
    request_bytes: usize,
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
    let Accepted { socket, peer, number, open: _open } = accepted;
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
        queue: WriteQueue::default(),
        is_reading: true,
        client_ended: None,
        last_progress: Instant::now(),
        unfinished_bytes: 0,
        idle: Box::pin(tokio::time::sleep(shared.options.idle_timeout)),
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
            match self.frames.fill(&self.socket) {
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

    fn start(&mut self, frame: BytesMut, context: &mut Context<'_>) {
        let received_at = Instant::now();
        self.last_progress = received_at;
        self.unfinished_bytes = 0;
        let request_bytes = frame.len();
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
            let (question, response) = requests::api_versions(question, apis);
            let state = SlotState::Ready(Reply::Response(response));
            return self.push_slot(Slot { question, request_bytes, state });
        }
        let request_context = self.client.context(question, parsed.client_id, received_at);
        let backend = Arc::clone(&self.shared.backend);
        let mut answer: Answer =
            Box::pin(async move { backend.handle(request_context, parsed.request).await });
        let state = match answer.as_mut().poll(context) {
            Poll::Ready(reply) => SlotState::Ready(reply),
            Poll::Pending => SlotState::Waiting(answer),
        };
        self.push_slot(Slot { question, request_bytes, state });
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
            let Some(Slot { question, request_bytes, state: SlotState::Ready(reply) }) =
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

    /// Ready when the connection has made no progress for too long. Requests that are being handled are progress by themselves, but
    /// not for a client that has ended its side: a fetch that waits for days must not hold the connection of somebody who is gone.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let timeout = self.shared.options.idle_timeout;
        while self.idle.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let is_handled = !self.slots.is_empty() && self.queue.is_empty();
            if is_handled {
                self.last_progress = now;
            }
            let mut deadline = self.last_progress + timeout;
            if let Some(ended) = self.client_ended {
                let since =
                    if self.queue.is_empty() { ended } else { ended.max(self.last_progress) };
                deadline = deadline.min(since + self.shared.options.drain_timeout);
            }
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
            self.idle.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }
}
