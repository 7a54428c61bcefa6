//! Drives one machine in a task of its own: calls in, answers out, questions to the log.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use thalweg_env::Clock;
use thalweg_types::{CoordinatorEpoch, Moment, NodeId};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use crate::core::{Core, Now, Refusal, Token};
use crate::machine::{Action, Limits, Machine, Report, Ticket};
use crate::port::{LogEnds, LogPort, PortError};

/// Inputs taken in before what they led to is sent: what they decide shares batches.
const INPUTS_AT_ONCE: usize = 256;

#[derive(Debug, Clone)]
pub struct ShellOptions {
    /// The partition's name in log lines.
    pub name: String,
    pub limits: Limits,
    pub node: NodeId,
    pub epoch: CoordinatorEpoch,
    /// Random, another one for every shell.
    pub chain_base: u64,
    pub clock: Arc<dyn Clock>,
    /// Until when (a [`Moment`] of the clock) the coordinator's session surely holds; renewed by whoever keeps the session.
    pub lease_until: Arc<AtomicU64>,
}

/// One partition that is hosted. Dropping it gives the partition up: whoever waits is told that another coordinator serves.
#[derive(Debug)]
pub struct Shell<C: Core> {
    inputs: mpsc::UnboundedSender<Input<C>>,
    tokens: AtomicU64,
    status: Arc<Status>,
}

/// What a partition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Loading,
    Serving,
    Stopped,
}

/// Counts of one partition since it was started, to be looked at from anywhere.
#[derive(Debug, Default)]
pub struct Status {
    standing: AtomicU8,
    pub loads: AtomicU64,
    pub loads_failed: AtomicU64,
    /// Of the last load that came to its end.
    pub load_ms: AtomicU64,
    pub load_records: AtomicU64,
    pub appends: AtomicU64,
    pub checks: AtomicU64,
    /// Times that what was decided had to be thrown away.
    pub dropped: AtomicU64,
}

enum Input<C: Core> {
    Call {
        token: Token,
        request: C::Request,
        answer: oneshot::Sender<Result<C::Response, Refusal>>,
    },
    Cancel(Token),
    Event(C::Event),
}

/// An answer of the log.
enum Done {
    Located(Ticket, Result<LogEnds, PortError>),
    Read(Ticket, Result<Vec<Bytes>, PortError>),
    Appended(Ticket, Result<(), PortError>),
}

type Pending = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>;

// ---- Shell ----

impl<C> Shell<C>
where
    C: Core + Send + 'static,
    C::Request: Send,
    C::Response: Send,
    C::Event: Send,
{
    /// Begins to load. `make` makes the core of every load.
    pub fn start<F, P>(make: F, port: P, options: ShellOptions) -> Self
    where
        F: Fn() -> C + Send + 'static,
        P: LogPort,
    {
        let (inputs, receiver) = mpsc::unbounded_channel();
        let status = Arc::new(Status::default());
        let now = now_of(&*options.clock);
        let (limits, node, epoch) = (options.limits, options.node, options.epoch);
        let machine = Machine::new(make, limits, node, epoch, options.chain_base, now);
        let task = Task {
            machine,
            port,
            options,
            status: Arc::clone(&status),
            callers: HashMap::new(),
            pending: FuturesUnordered::new(),
        };
        tokio::spawn(task.run(receiver));
        Self { inputs, tokens: AtomicU64::new(0), status }
    }

    /// Has the core serve a call. Dropping the future is no longer to wait for the answer; what was decided stays.
    pub async fn call(&self, request: C::Request) -> Result<C::Response, Refusal> {
        let token = Token(self.tokens.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        let input = Input::Call { token, request, answer };
        self.inputs.send(input).map_err(|_| Refusal::NotCoordinator)?;
        let mut waiting = Waiting { inputs: &self.inputs, token: Some(token) };
        let answer = answered.await;
        waiting.token = None;
        answer.unwrap_or(Err(Refusal::NotCoordinator))
    }

    /// Tells the core what has happened; a core that does not serve is not told.
    pub fn tell(&self, event: C::Event) {
        // A task that is gone has nobody left to serve.
        let _ = self.inputs.send(Input::Event(event));
    }

    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }
}

/// Takes a call back when its future is dropped.
struct Waiting<'a, C: Core> {
    inputs: &'a mpsc::UnboundedSender<Input<C>>,
    token: Option<Token>,
}

impl<C: Core> Drop for Waiting<'_, C> {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            // A task that is gone waits for nobody.
            let _ = self.inputs.send(Input::Cancel(token));
        }
    }
}

// ---- Status ----

impl Status {
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Relaxed) {
            0 => Standing::Loading,
            1 => Standing::Serving,
            _ => Standing::Stopped,
        }
    }

    fn set(&self, standing: Standing) {
        self.standing.store(standing as u8, Ordering::Relaxed);
    }
}

// ---- Task ----

struct Task<C: Core, F, P> {
    machine: Machine<C, F>,
    port: P,
    options: ShellOptions,
    status: Arc<Status>,
    callers: HashMap<Token, oneshot::Sender<Result<C::Response, Refusal>>>,
    pending: Pending,
}

impl<C, F, P> Task<C, F, P>
where
    C: Core + Send + 'static,
    F: Fn() -> C,
    P: LogPort,
{
    async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input<C>>) {
        self.act();
        loop {
            let pause = self.pause();
            tokio::select! {
                input = inputs.recv() => {
                    let Some(input) = input else { break };
                    self.take(input);
                    for _ in 1..INPUTS_AT_ONCE {
                        let Ok(input) = inputs.try_recv() else { break };
                        self.take(input);
                    }
                }
                Some(done) = self.pending.next() => self.take_done(done),
                () = tokio::time::sleep(pause) => self.machine.handle_deadline(self.now()),
            }
            self.act();
        }
        self.machine.stop();
        self.act();
        self.status.set(Standing::Stopped);
    }

    fn now(&self) -> Now {
        now_of(&*self.options.clock)
    }

    /// Until the next deadline; long if there is none.
    fn pause(&self) -> Duration {
        let ms = self.machine.next_deadline().map_or(60_000, |at| {
            // A deadline is met a moment after it, never before.
            at.0.saturating_sub(self.now().moment.0) + 1
        });
        Duration::from_millis(ms.min(60_000))
    }

    fn take(&mut self, input: Input<C>) {
        let now = self.now();
        self.machine.handle_lease(Moment(self.options.lease_until.load(Ordering::Relaxed)));
        match input {
            Input::Call { token, request, answer } => {
                self.callers.insert(token, answer);
                self.machine.handle_call(token, request, now);
            }
            Input::Cancel(token) => {
                self.callers.remove(&token);
                self.machine.cancel(token);
            }
            Input::Event(event) => self.machine.handle_event(event, now),
        }
    }

    fn take_done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Located(ticket, result) => self.machine.handle_located(ticket, result, now),
            Done::Read(ticket, result) => self.machine.handle_read(ticket, result, now),
            Done::Appended(ticket, result) => self.machine.handle_appended(ticket, result, now),
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Locate { ticket } => {
                    let located = self.port.locate();
                    self.pending
                        .push(Box::pin(async move { Done::Located(ticket, located.await) }));
                }
                Action::Read { ticket, from } => {
                    let read = self.port.read(from);
                    self.pending.push(Box::pin(async move { Done::Read(ticket, read.await) }));
                }
                Action::Append { ticket, condition, batch } => {
                    let count =
                        if batch.is_empty() { &self.status.checks } else { &self.status.appends };
                    count.fetch_add(1, Ordering::Relaxed);
                    let appended = self.port.append(condition, batch);
                    self.pending
                        .push(Box::pin(async move { Done::Appended(ticket, appended.await) }));
                }
                Action::Answer { token, answer } => {
                    if let Some(caller) = self.callers.remove(&token) {
                        // Whoever does not wait any more has taken the call back, or is about to.
                        let _ = caller.send(answer);
                    }
                }
                Action::Report(report) => self.report(report),
            }
        }
    }

    fn report(&self, report: Report) {
        let (name, epoch) = (&self.options.name, self.options.epoch);
        match report {
            Report::Loading => {
                self.status.set(Standing::Loading);
                self.status.loads.fetch_add(1, Ordering::Relaxed);
                debug!(partition = %name, %epoch, "loading");
            }
            Report::Serving { records, ms } => {
                self.status.set(Standing::Serving);
                self.status.load_ms.store(ms, Ordering::Relaxed);
                self.status.load_records.store(records, Ordering::Relaxed);
                info!(partition = %name, %epoch, records, ms, "coordinates");
            }
            Report::LoadFailed(why) => {
                self.status.loads_failed.fetch_add(1, Ordering::Relaxed);
                warn!(partition = %name, %epoch, why, "cannot be loaded, is tried again");
            }
            Report::Dropped(why) => {
                self.status.set(Standing::Loading);
                self.status.dropped.fetch_add(1, Ordering::Relaxed);
                warn!(partition = %name, %epoch, why, "what was not committed is void, loading anew");
            }
        }
    }
}

fn now_of(clock: &dyn Clock) -> Now {
    Now { moment: Moment(clock.monotonic_ns() / 1_000_000), wall: clock.now() }
}
