//! Deciding, appending in a pipeline, and answering what is committed.
//!
//! ```text
//!   committed             sent                decided
//!       │   in flight       │   waiting          │
//!   ────┴───────────────────┴────────────────────┴──►  offsets
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use thalweg_types::{CoordinatorEpoch, LeaderEpoch, Offset};

use super::batches::Batches;
use super::{Failure, Limits, Ticket, take_ticket};
use crate::core::{Core, Effects, Now, Refusal, Token};
use crate::port::Condition;

pub(super) struct Serving<C: Core> {
    pub(super) core: C,
    leader_epoch: LeaderEpoch,
    chain: u64,
    ends: Ends,
    waiting: Batches,
    /// Sent and not answered, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Answers that wait for what was decided before them to be committed, in this order.
    parked: VecDeque<Parked<C::Response>>,
    /// Answers that wait for a check which is sent after they were asked for.
    questions: VecDeque<(Token, C::Response)>,
    check: Option<Check>,
}

/// How far the log is this coordinator's; each at or after the one before it.
#[derive(Debug, Clone, Copy)]
struct Ends {
    committed: Offset,
    sent: Offset,
    decided: Offset,
}

#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    end: Offset,
}

#[derive(Debug)]
struct Parked<R> {
    /// What has to be committed.
    end: Offset,
    token: Token,
    response: R,
}

#[derive(Debug)]
struct Check {
    ticket: Ticket,
    end: Offset,
    /// How many of the questions, from the front, were there when it was sent.
    questions: usize,
}

impl<C: Core> Serving<C> {
    /// Right after the fence, which is committed.
    pub(super) fn new(core: C, fence: Condition) -> Self {
        let end = Offset(fence.expected_end.0 + 1);
        Self {
            core,
            leader_epoch: fence.leader_epoch,
            chain: fence.chain,
            ends: Ends { committed: end, sent: end, decided: end },
            waiting: Batches::default(),
            in_flight: VecDeque::new(),
            parked: VecDeque::new(),
            questions: VecDeque::new(),
            check: None,
        }
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// Takes what the core has decided. Returns the answers that may leave at once.
    pub(super) fn decide(
        &mut self,
        effects: Effects<C::Response>,
        needs_proof: bool,
        now: Now,
        limits: &Limits,
    ) -> Result<Vec<(Token, C::Response)>, Failure> {
        let Effects { records, answers } = effects;
        self.waiting.push(&records, now.wall, limits.batch_bytes_max).map_err(|error| Failure {
            why: format!("a record cannot be stored: {error}"),
            refusal: Refusal::TooLarge,
        })?;
        self.ends.decided = Offset(self.ends.decided.0 + records.len() as i64);
        let mut free = Vec::new();
        for (token, response) in answers {
            if needs_proof && self.waiting.is_empty() {
                self.questions.push_back((token, response));
            } else if self.ends.committed < self.ends.decided {
                // Where proof is needed, some of what is waited for is yet to be sent.
                self.parked.push_back(Parked { end: self.ends.decided, token, response });
            } else {
                free.push((token, response));
            }
        }
        Ok(free)
    }

    pub(super) fn awaits(&self, ticket: Ticket) -> bool {
        self.check.as_ref().is_some_and(|check| check.ticket == ticket)
            || self.in_flight.iter().any(|append| append.ticket == ticket)
    }

    /// An append or a check was accepted, and everything below its end is committed. Returns the answers that wait for no more.
    pub(super) fn handle_appended(&mut self, ticket: Ticket) -> Vec<(Token, C::Response)> {
        let mut answers = Vec::new();
        let end = match self.check.take_if(|check| check.ticket == ticket) {
            Some(check) => {
                answers.extend(self.questions.drain(..check.questions));
                Some(check.end)
            }
            None => self.in_flight.iter().find(|a| a.ticket == ticket).map(|append| append.end),
        };
        let Some(end) = end else { return answers };
        // One that is accepted follows upon all that were sent before it: these are committed as well, whenever their answers come.
        while self.in_flight.front().is_some_and(|append| append.end <= end) {
            self.in_flight.pop_front();
        }
        self.ends.committed = self.ends.committed.max(end);
        while let Some(parked) = self.parked.pop_front_if(|first| first.end <= self.ends.committed)
        {
            answers.push((parked.token, parked.response));
        }
        answers
    }

    /// The next thing to send: a batch if there is room in the pipeline, or the check that questions wait for.
    pub(super) fn poll_append(
        &mut self,
        tickets: &mut u64,
        coordinator_epoch: CoordinatorEpoch,
        limits: &Limits,
    ) -> Option<(Ticket, Condition, Bytes)> {
        let condition = Condition {
            leader_epoch: self.leader_epoch,
            expected_end: self.ends.sent,
            coordinator_epoch,
            chain: self.chain,
            opens_chain: false,
        };
        if self.check.is_none() && !self.questions.is_empty() {
            let ticket = take_ticket(tickets);
            let (end, questions) = (self.ends.sent, self.questions.len());
            self.check = Some(Check { ticket, end, questions });
            return Some((ticket, condition, Bytes::new()));
        }
        if self.in_flight.len() >= limits.appends_max {
            return None;
        }
        let (batch, records) = self.waiting.pop()?;
        let ticket = take_ticket(tickets);
        self.ends.sent = Offset(self.ends.sent.0 + records);
        self.in_flight.push_back(InFlight { ticket, end: self.ends.sent });
        Some((ticket, condition, batch))
    }
}
