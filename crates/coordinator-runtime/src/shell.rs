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

const FAILURES_PER_WARNING: u32 = 10;

/// Until when the coordinator's session surely holds; `None`: it does not.
pub type Lease = Arc<dyn Fn() -> Option<Moment> + Send + Sync>;

#[derive(Clone)]
pub struct ShellOptions {
    /// The partition's name in log lines.
    pub name: String,
    pub limits: Limits,
    pub node: NodeId,
    pub epoch: CoordinatorEpoch,
    /// Random, another one for every shell.
    pub chain_base: u64,
    pub clock: Arc<dyn Clock>,
    pub lease: Lease,
    /// Of all partitions together.
    pub counts: Arc<Counts>,
}

/// One partition that is hosted, until it is stopped or dropped.
pub struct Shell<C: Core> {
    inputs: mpsc::UnboundedSender<Input<C>>,
    tokens: AtomicU64,
    standing: Arc<AtomicU8>,
}

/// What a partition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Loading,
    Serving,
    Stopped,
}

/// What has happened since the process began, to be looked at from anywhere.
#[derive(Debug, Default)]
pub struct Counts {
    /// Loads begun, those that did not get to their end, and the time that the others took.
    pub loads: AtomicU64,
    pub loads_failed: AtomicU64,
    pub loaded_ms: AtomicU64,
    pub loaded_records: AtomicU64,
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
    Stop,
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
        let standing = Arc::new(AtomicU8::new(Standing::Loading as u8));
        let now = now_of(&*options.clock);
        let (limits, node, epoch) = (options.limits, options.node, options.epoch);
        let machine = Machine::new(make, limits, node, epoch, options.chain_base, now);
        let task = Task {
            machine,
            port,
            options,
            standing: Arc::clone(&standing),
            callers: HashMap::new(),
            pending: FuturesUnordered::new(),
            failures: 0,
        };
        tokio::spawn(task.run(receiver));
        Self { inputs, tokens: AtomicU64::new(0), standing }
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

    /// Gives the partition up: whoever waits is told that another coordinator serves.
    pub fn stop(&self) {
        // A task that is gone has stopped.
        let _ = self.inputs.send(Input::Stop);
    }

    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Relaxed) {
            0 => Standing::Loading,
            1 => Standing::Serving,
            _ => Standing::Stopped,
        }
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

// ---- Task ----

struct Task<C: Core, F, P> {
    machine: Machine<C, F>,
    port: P,
    options: ShellOptions,
    standing: Arc<AtomicU8>,
    callers: HashMap<Token, oneshot::Sender<Result<C::Response, Refusal>>>,
    pending: Pending,
    /// Loads that failed since the last one that did not.
    failures: u32,
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
                    if !input.is_some_and(|input| self.take(input)) {
                        break;
                    }
                    let more = std::iter::from_fn(|| inputs.try_recv().ok());
                    if !more.take(INPUTS_AT_ONCE).all(|input| self.take(input)) {
                        break;
                    }
                }
                Some(done) = self.pending.next() => self.take_done(done),
                () = tokio::time::sleep(pause) => self.machine.handle_deadline(self.now()),
            }
            self.act();
        }
        self.machine.stop();
        self.act();
        self.set(Standing::Stopped);
    }

    fn set(&self, standing: Standing) {
        self.standing.store(standing as u8, Ordering::Relaxed);
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

    /// Whether to go on.
    fn take(&mut self, input: Input<C>) -> bool {
        let now = self.now();
        self.machine.handle_lease((self.options.lease)().unwrap_or(Moment(0)));
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
            Input::Stop => return false,
        }
        true
    }

    fn take_done(&mut self, done: Done) {
        let now = self.now();
        self.machine.handle_lease((self.options.lease)().unwrap_or(Moment(0)));
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
                    let counts = &self.options.counts;
                    let count = if batch.is_empty() { &counts.checks } else { &counts.appends };
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

    fn report(&mut self, report: Report) {
        let ShellOptions { name, epoch, counts, .. } = &self.options;
        let set = |standing: Standing| self.standing.store(standing as u8, Ordering::Relaxed);
        let add = |count: &AtomicU64, amount| count.fetch_add(amount, Ordering::Relaxed);
        match report {
            Report::Loading => {
                set(Standing::Loading);
                add(&counts.loads, 1);
                debug!(partition = %name, %epoch, "loading");
            }
            Report::Serving { records, ms } => {
                set(Standing::Serving);
                self.failures = 0;
                add(&counts.loaded_ms, ms);
                add(&counts.loaded_records, records);
                info!(partition = %name, %epoch, records, ms, "coordinates");
            }
            Report::LoadFailed(why) => {
                add(&counts.loads_failed, 1);
                self.failures += 1;
                // At first, a topic or a leader is only new. Then it is worth a word, but not one a second.
                if self.failures.is_multiple_of(FAILURES_PER_WARNING) {
                    let failures = self.failures;
                    warn!(partition = %name, %epoch, failures, why, "cannot be loaded, is tried again");
                } else {
                    debug!(partition = %name, %epoch, why, "cannot be loaded, is tried again");
                }
            }
            Report::Dropped(why) => {
                set(Standing::Loading);
                add(&counts.dropped, 1);
                warn!(partition = %name, %epoch, why, "what was not committed is void, loading anew");
            }
        }
    }
}

fn now_of(clock: &dyn Clock) -> Now {
    Now { moment: Moment(clock.monotonic_ns() / 1_000_000), wall: clock.now() }
}
