//! A follower of one partition, for one leader epoch.
//!
//! ```text
//!  Connecting ──► Asked ──accepted──► Following ──stream lost, bad push──► Connecting
//!      ▲            │ └─diverging──► Cutting ──cut is durable──► Connecting (R1 again, until nothing diverges)
//!      └─refused────┘ └─guard G-HW─► Halted
//! ```

mod push;
mod truncation;

use std::collections::VecDeque;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{LeaderEpoch, Moment, NodeId, Offset};

pub use push::PushRefusal;

use crate::action::{Action, Halt};
use crate::log_ends::{LogEnds, LogView};
use crate::message::{Answer, Fitness, Handshake, Report, Verdict};
use crate::partition::{Identity, Partition, Timing};

/// Begins with the epoch and ends with it.
#[derive(Debug, Clone, Hash)]
pub struct Follower {
    me: Identity,
    timing: Timing,
    fitness: Fitness,
    leader: NodeId,
    epoch: LeaderEpoch,
    /// From the registration.
    unclean_epoch: Option<LeaderEpoch>,
    ends: LogEnds,
    /// Of the last batch.
    last_epoch: LeaderEpoch,
    state: State,
    /// Numbers handshakes.
    attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    /// A handshake is to be sent, not before this.
    Connecting {
        not_before: Moment,
    },
    /// The answer to the latest attempt is awaited, not longer than this.
    Asked {
        until: Moment,
        /// The ends and fitness that it told.
        told: (Offset, Offset, Fitness),
    },
    /// The log is being cut or begun anew.
    Cutting,
    Following(Following),
    /// Until another leader epoch.
    Halted(Halt),
}

/// The handshake was accepted: our log is a prefix of the leader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Following {
    session: u32,
    /// The leader's, as last heard.
    leader_high_watermark: Offset,
    leader_log_start: Offset,
    /// The last report taken, by its ends and fitness; the handshake counts as the first.
    reported: (Offset, Offset, Fitness),
    /// Epoch of the last batch accepted, appended or not yet.
    accepted_epoch: LeaderEpoch,
}

impl Follower {
    pub(crate) fn begin(
        me: Identity,
        timing: Timing,
        fitness: Fitness,
        (leader, partition): (NodeId, &Partition),
        log: LogView<'_>,
        (now, attempts): (Moment, u32),
    ) -> Self {
        Self {
            me,
            timing,
            fitness,
            leader,
            epoch: partition.leader_epoch,
            unclean_epoch: partition.unclean_epoch,
            ends: log.ends,
            last_epoch: last_epoch(log),
            state: State::Connecting { not_before: now },
            attempts,
        }
    }

    // ---- Inputs ----

    /// A newer registration of the same epoch.
    pub(crate) fn take_over(&mut self, partition: &Partition) {
        self.unclean_epoch = partition.unclean_epoch;
    }

    /// Sends a handshake if one is due.
    pub(crate) fn connect(&mut self, now: Moment, actions: &mut VecDeque<Action>) {
        match self.state {
            State::Connecting { not_before } if now >= not_before => {}
            State::Asked { until, .. } if now >= until => {}
            _ => return,
        }
        if mutant!(Mutant::M6) && self.ends.high_watermark < self.ends.log_end {
            self.state = State::Cutting;
            let to = self.ends.high_watermark;
            actions.push_back(Action::Truncate { to, unclean: false });
            return;
        }
        self.attempts += 1;
        let told = (self.ends.log_end, self.ends.flushed_end, self.fitness);
        let until = now.saturating_add_ms(self.timing.retry_ms * 10);
        self.state = State::Asked { until, told };
        let handshake = Handshake {
            node: self.me.node,
            broker_epoch: self.me.broker_epoch,
            dir_id: self.me.dir_id,
            leader_epoch: self.epoch,
            log_end: self.ends.log_end,
            last_epoch: self.last_epoch,
            flushed_end: self.ends.flushed_end,
            fitness: self.fitness,
            attempt: self.attempts,
        };
        actions.push_back(Action::Handshake { leader: self.leader, handshake });
    }

    /// An answer to anything but the latest attempt says nothing about the log as it is now.
    pub(crate) fn handle_answer(
        &mut self,
        answer: &Answer,
        log: LogView<'_>,
        now: Moment,
        actions: &mut VecDeque<Action>,
    ) {
        let State::Asked { told, .. } = self.state else { return };
        if answer.leader_epoch != self.epoch || answer.attempt != self.attempts {
            return;
        }
        match answer.verdict {
            Verdict::Accepted { session, high_watermark, log_start } => {
                self.state = State::Following(Following {
                    session,
                    leader_high_watermark: high_watermark,
                    leader_log_start: log_start,
                    // What was flushed since the handshake is still to be reported.
                    reported: told,
                    accepted_epoch: self.last_epoch,
                });
                self.follow_ends(actions);
            }
            Verdict::Diverging { end, log_start } => self.diverges(end, log_start, log, actions),
            Verdict::OutOfRange { log_start } => self.begin_anew(log_start, None, actions),
            Verdict::Refused(_) => self.retry(now),
        }
    }

    /// The stream to the leader is gone.
    pub(crate) fn handle_disconnected(&mut self, now: Moment) {
        if matches!(self.state, State::Asked { .. } | State::Following(_)) {
            self.retry(now);
        }
    }

    /// What the log's owner appended or flushed.
    pub(crate) fn handle_local(&mut self, log: LogView<'_>, actions: &mut VecDeque<Action>) {
        // Until the log has done what it was told, what it was told counts.
        let told = self.ends;
        self.ends = log.ends;
        self.ends.high_watermark = told.high_watermark.max(log.ends.high_watermark);
        self.ends.log_start = told.log_start.max(log.ends.log_start);
        self.last_epoch = last_epoch(log);
        self.follow_ends(actions);
    }

    /// The log was cut or begun anew, and that is durable.
    pub(crate) fn handle_cut(
        &mut self,
        log: LogView<'_>,
        now: Moment,
        actions: &mut VecDeque<Action>,
    ) {
        self.ends = log.ends;
        self.last_epoch = last_epoch(log);
        if self.state == State::Cutting {
            self.state = State::Connecting { not_before: now };
            self.connect(now, actions);
        }
    }

    pub(crate) fn set_fitness(&mut self, fitness: Fitness) {
        self.fitness = fitness;
    }

    // ---- Outputs ----

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        match self.state {
            State::Connecting { not_before } => Some(not_before),
            State::Asked { until, .. } => Some(until),
            State::Cutting | State::Following(_) | State::Halted(_) => None,
        }
    }

    /// The progress that the leader does not know of yet, as a report to be sent now.
    pub(crate) fn take_report(&mut self) -> Option<Report> {
        let news = (self.ends.log_end, self.ends.flushed_end, self.fitness);
        let State::Following(following) = &mut self.state else { return None };
        if following.reported == news {
            return None;
        }
        following.reported = news;
        let (log_end, flushed_end, fitness) = news;
        let (session, leader_epoch) = (following.session, self.epoch);
        Some(Report { session, leader_epoch, log_end, flushed_end, fitness })
    }

    pub fn leader(&self) -> NodeId {
        self.leader
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn high_watermark(&self) -> Offset {
        self.ends.high_watermark
    }

    /// Whether its log is known to be a prefix of the leader's.
    pub fn is_following(&self) -> bool {
        matches!(self.state, State::Following(_))
    }

    pub fn halted(&self) -> Option<&Halt> {
        match &self.state {
            State::Halted(halt) => Some(halt),
            _ => None,
        }
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    // ---- Helpers ----

    fn retry(&mut self, now: Moment) {
        let not_before = now.saturating_add_ms(self.timing.retry_ms);
        self.state = State::Connecting { not_before };
    }

    /// Moves the high watermark and the log start after the leader's, as far as the own log goes.
    fn follow_ends(&mut self, actions: &mut VecDeque<Action>) {
        let State::Following(following) = &self.state else { return };
        let high_watermark = following.leader_high_watermark.min(self.ends.log_end);
        if high_watermark > self.ends.high_watermark {
            self.ends.high_watermark = high_watermark;
            actions.push_back(Action::FollowHighWatermark(high_watermark));
        }
        let log_start = following.leader_log_start.min(self.ends.high_watermark);
        if log_start > self.ends.log_start {
            self.ends.log_start = log_start;
            actions.push_back(Action::MoveLogStart(log_start));
        }
    }
}

/// Epoch of the log's last batch. The newest entry of the index may be of a leader that wrote nothing.
fn last_epoch(log: LogView<'_>) -> LeaderEpoch {
    let last = log.ends.log_end.0.checked_sub(1).map(Offset);
    last.and_then(|last| log.epochs.epoch_at(last)).unwrap_or(LeaderEpoch::NONE)
}
