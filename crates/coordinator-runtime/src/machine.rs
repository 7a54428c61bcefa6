//! One partition as a machine: inputs come in, actions are taken out; no clock, no task, no socket.
//!
//! Every question to the log carries a ticket. An answer whose ticket is not waited for (late, repeated, of a load given up) changes
//! nothing.

mod batches;
mod loading;
mod serving;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use thalweg_types::{CoordinatorEpoch, Moment, NodeId, Offset};

use crate::core::{Core, Now, Refusal, Token};
use crate::port::{Condition, LogEnds, PortError};
use loading::Loading;
use serving::Serving;

/// Pauses between loads that fail, doubled each time.
const PAUSE_MS_MIN: u64 = 20;
const PAUSE_MS_MAX: u64 = 1_000;

/// Names one question to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How much may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Appends without an answer; what is decided meanwhile shares the next batch.
    pub appends_max: usize,
    /// Of one batch; below what the topic takes, and no record may be larger.
    pub batch_bytes_max: usize,
    /// Records that wait for their turn to be appended; beyond it calls are refused.
    pub waiting_bytes_max: usize,
    /// Calls without an answer; beyond it calls are refused.
    pub calls_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            appends_max: 16,
            batch_bytes_max: 900 << 10,
            waiting_bytes_max: 16 << 20,
            calls_max: 50_000,
        }
    }
}

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<R> {
    Locate {
        ticket: Ticket,
    },
    Read {
        ticket: Ticket,
        from: Offset,
    },
    /// In the order they are taken out. An empty batch is a check.
    Append {
        ticket: Ticket,
        condition: Condition,
        batch: Bytes,
    },
    Answer {
        token: Token,
        answer: Result<R, Refusal>,
    },
    Report(Report),
}

/// What people should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Loading,
    /// Serves from now on.
    Serving {
        records: u64,
        ms: u64,
    },
    /// A load did not get to its end and is begun again.
    LoadFailed(String),
    /// What was decided after the last committed record is void.
    Dropped(String),
}

pub struct Machine<C: Core, F> {
    make: F,
    limits: Limits,
    node: NodeId,
    epoch: CoordinatorEpoch,
    /// Random: makes this machine's chains others than everybody's.
    chain_base: u64,
    phase: Phase<C>,
    /// Until when no other coordinator can have been given the partition by a controller that waits for this one's session to end.
    lease_until: Moment,
    tickets: u64,
    pause_ms: u64,
    /// Calls that the core has taken and nobody has been answered.
    calls: BTreeSet<Token>,
    actions: VecDeque<Action<C::Response>>,
}

enum Phase<C: Core> {
    /// Between two loads.
    Pausing {
        until: Moment,
        refusal: Refusal,
    },
    Loading(Box<Loading<C>>),
    Serving(Box<Serving<C>>),
    Stopped,
}

/// Why a phase ended before its time.
#[derive(Debug)]
struct Failure {
    why: String,
    refusal: Refusal,
}

impl<C: Core, F: Fn() -> C> Machine<C, F> {
    /// Begins to load. `make` makes the core of every load; `chain_base` is random.
    pub fn new(
        make: F,
        limits: Limits,
        node: NodeId,
        epoch: CoordinatorEpoch,
        chain_base: u64,
        now: Now,
    ) -> Self {
        let mut machine = Self {
            make,
            limits,
            node,
            epoch,
            chain_base,
            phase: Phase::Stopped,
            lease_until: Moment(0),
            tickets: 0,
            pause_ms: PAUSE_MS_MIN,
            calls: BTreeSet::new(),
            actions: VecDeque::new(),
        };
        machine.load(now);
        machine
    }

    // ---- Inputs ----

    pub fn handle_call(&mut self, token: Token, request: C::Request, now: Now) {
        let has_lease = now.moment < self.lease_until;
        let refusal = match &self.phase {
            // Clients wait for what is being loaded. Somebody who may have been replaced has to send them on.
            Phase::Pausing { .. } | Phase::Loading(_) if !has_lease => {
                Some(Refusal::NotCoordinator)
            }
            Phase::Pausing { refusal, .. } => Some(*refusal),
            Phase::Loading(_) => Some(Refusal::Loading),
            Phase::Stopped => Some(Refusal::NotCoordinator),
            Phase::Serving(serving) => {
                let is_full = self.calls.len() >= self.limits.calls_max
                    || serving.waiting_bytes() >= self.limits.waiting_bytes_max;
                is_full.then_some(Refusal::Busy)
            }
        };
        if let Some(refusal) = refusal {
            self.actions.push_back(Action::Answer { token, answer: Err(refusal) });
            return;
        }
        self.calls.insert(token);
        let needs_proof = C::must_be_current(&request) || !has_lease;
        let Phase::Serving(serving) = &mut self.phase else { return };
        let effects = serving.core.handle(token, request, now);
        let decided = serving.decide(effects, needs_proof, now, &self.limits);
        if let Err(Failure { refusal: Refusal::TooLarge, .. }) = decided
            && self.calls.remove(&token)
        {
            let answer = Err(Refusal::TooLarge);
            self.actions.push_back(Action::Answer { token, answer });
        }
        self.settle(decided, now);
    }

    pub fn handle_event(&mut self, event: C::Event, now: Now) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        let effects = serving.core.handle_event(event, now);
        let decided = serving.decide(effects, true, now, &self.limits);
        self.settle(decided, now);
    }

    /// The lease of this coordinator's session.
    pub fn handle_lease(&mut self, until: Moment) {
        self.lease_until = until;
    }

    pub fn cancel(&mut self, token: Token) {
        self.calls.remove(&token);
        if let Phase::Serving(serving) = &mut self.phase {
            serving.core.cancel(token);
        }
    }

    pub fn handle_located(&mut self, ticket: Ticket, result: Result<LogEnds, PortError>, now: Now) {
        let Phase::Loading(loading) = &mut self.phase else { return };
        if !loading.awaits(ticket) {
            return;
        }
        let next = result.map_err(Failure::from).and_then(|ends| loading.handle_located(ends));
        self.go_on_loading(next, now);
    }

    pub fn handle_read(&mut self, ticket: Ticket, result: Result<Vec<Bytes>, PortError>, now: Now) {
        let Phase::Loading(loading) = &mut self.phase else { return };
        if !loading.awaits(ticket) {
            return;
        }
        let next = result.map_err(Failure::from).and_then(|batches| loading.handle_read(&batches));
        self.go_on_loading(next, now);
    }

    /// The answer to an append or to a check.
    pub fn handle_appended(&mut self, ticket: Ticket, result: Result<(), PortError>, now: Now) {
        match &mut self.phase {
            Phase::Loading(loading) if loading.awaits(ticket) => match result {
                Ok(()) => self.serve(now),
                Err(error) => self.go_on_loading(loading::after_fence(error), now),
            },
            Phase::Serving(serving) if serving.awaits(ticket) => match result {
                Ok(()) => {
                    let answers = serving.handle_appended(ticket);
                    self.answer(answers);
                }
                Err(error) => self.settle(Err(Failure::from(error)), now),
            },
            _ => {}
        }
    }

    pub fn handle_deadline(&mut self, now: Now) {
        match &mut self.phase {
            Phase::Pausing { until, .. } if *until <= now.moment => self.load(now),
            Phase::Loading(loading) if loading.pause_until.is_some_and(|at| at <= now.moment) => {
                loading.pause_until = None;
                self.locate();
            }
            Phase::Serving(serving)
                if serving.core.next_deadline().is_some_and(|at| at <= now.moment) =>
            {
                let effects = serving.core.handle_deadline(now);
                let decided = serving.decide(effects, true, now, &self.limits);
                self.settle(decided, now);
            }
            _ => {}
        }
    }

    /// The partition is another coordinator's now, or this one stops: nothing is decided any more. What is on its way may still land, before
    /// the other one's fence.
    pub fn stop(&mut self) {
        self.phase = Phase::Stopped;
        self.refuse_all(Refusal::NotCoordinator);
    }

    // ---- Outputs ----

    pub fn poll_action(&mut self) -> Option<Action<C::Response>> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let Phase::Serving(serving) = &mut self.phase else { return None };
        let (ticket, condition, batch) =
            serving.poll_append(&mut self.tickets, self.epoch, &self.limits)?;
        Some(Action::Append { ticket, condition, batch })
    }

    pub fn next_deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Pausing { until, .. } => Some(*until),
            Phase::Loading(loading) => loading.pause_until,
            Phase::Serving(serving) => serving.core.next_deadline(),
            Phase::Stopped => None,
        }
    }

    pub fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving(_))
    }

    pub fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Loading(_) | Phase::Pausing { .. })
    }

    /// The core, while it serves.
    pub fn core(&self) -> Option<&C> {
        match &self.phase {
            Phase::Serving(serving) => Some(&serving.core),
            _ => None,
        }
    }

    // ---- Between phases ----

    fn load(&mut self, now: Now) {
        self.phase = Phase::Loading(Box::new(Loading::new((self.make)(), now.moment)));
        self.actions.push_back(Action::Report(Report::Loading));
        self.locate();
    }

    fn locate(&mut self) {
        let ticket = take_ticket(&mut self.tickets);
        if let Phase::Loading(loading) = &mut self.phase {
            loading.ticket = Some(ticket);
            self.actions.push_back(Action::Locate { ticket });
        }
    }

    fn go_on_loading(&mut self, next: Result<loading::Next, Failure>, now: Now) {
        let Phase::Loading(loading) = &mut self.phase else { return };
        loading.ticket = None;
        match next {
            Ok(loading::Next::Locate) => self.locate(),
            Ok(loading::Next::Pause) => {
                loading.pause_until = Some(now.moment.saturating_add_ms(loading.pause_ms()));
            }
            Ok(loading::Next::Read(from)) => {
                let ticket = take_ticket(&mut self.tickets);
                loading.ticket = Some(ticket);
                self.actions.push_back(Action::Read { ticket, from });
            }
            Ok(loading::Next::Fence(ends)) => {
                let ticket = take_ticket(&mut self.tickets);
                let chain = self.chain_base.wrapping_add(ticket.0);
                match loading.fence(ends, ticket, chain, self.node, self.epoch, now) {
                    Ok((condition, batch)) => {
                        self.actions.push_back(Action::Append { ticket, condition, batch });
                    }
                    Err(failure) => self.settle(Err(failure), now),
                }
            }
            Ok(loading::Next::ServeUnproven) => self.serve(now),
            Err(failure) => self.settle(Err(failure), now),
        }
    }

    fn serve(&mut self, now: Now) {
        let Phase::Loading(loading) = std::mem::replace(&mut self.phase, Phase::Stopped) else {
            return;
        };
        self.pause_ms = PAUSE_MS_MIN;
        self.actions.push_back(Action::Report(Report::Serving {
            records: loading.records,
            ms: now.moment.ms_since(loading.since),
        }));
        let mut serving = Box::new(loading.into_serving());
        let effects = serving.core.start(now);
        let decided = serving.decide(effects, true, now, &self.limits);
        self.phase = Phase::Serving(serving);
        self.settle(decided, now);
    }

    /// Sends the answers of a decision, or ends the phase.
    fn settle(&mut self, decided: Result<Vec<(Token, C::Response)>, Failure>, now: Now) {
        let failure = match decided {
            Ok(answers) => return self.answer(answers),
            Err(failure) => failure,
        };
        let report = match &self.phase {
            Phase::Serving(_) => Report::Dropped(failure.why),
            _ => Report::LoadFailed(failure.why),
        };
        self.actions.push_back(Action::Report(report));
        let refusal = match failure.refusal {
            Refusal::NotCoordinator => Refusal::NotCoordinator,
            _ if now.moment >= self.lease_until => Refusal::NotCoordinator,
            _ => Refusal::Loading,
        };
        self.refuse_all(refusal);
        let until = now.moment.saturating_add_ms(self.pause_ms);
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX);
        self.phase = Phase::Pausing { until, refusal };
    }

    fn answer(&mut self, answers: Vec<(Token, C::Response)>) {
        for (token, response) in answers {
            if self.calls.remove(&token) {
                self.actions.push_back(Action::Answer { token, answer: Ok(response) });
            }
        }
    }

    fn refuse_all(&mut self, refusal: Refusal) {
        for token in std::mem::take(&mut self.calls) {
            self.actions.push_back(Action::Answer { token, answer: Err(refusal) });
        }
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        let refusal = match error {
            PortError::Deposed(_) => Refusal::NotCoordinator,
            PortError::Refused(_) | PortError::Unknown(_) => Refusal::Loading,
        };
        Self { why: error.to_string(), refusal }
    }
}

fn take_ticket(tickets: &mut u64) -> Ticket {
    *tickets += 1;
    Ticket(*tickets)
}
