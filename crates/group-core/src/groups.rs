//! All groups of one partition: who gets which call, and who wants to be woken when.

use thalweg_types::{ErrorCode, Moment};

use crate::config::GroupConfig;
use crate::effects::{Effects, Now, Token};
use crate::record::Record;
use crate::request::Call;
use crate::response::Response;
use crate::step::Step;
use crate::topics::Topics;

/// The groups and offsets of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Groups {
    config: GroupConfig,
}

impl Groups {
    pub fn new(config: GroupConfig) -> Self {
        Self { config }
    }

    /// Takes in a stored record, in the order of the log.
    pub fn replay(&mut self, _record: Record) {}

    /// Everything stored has been replayed: from now on members have to be heard of.
    pub fn start(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        Step::new(&self.config, topics, now).effects
    }

    /// Decides a call. Its answer is among these effects or, when it has to wait for others, among later ones.
    pub fn handle(&mut self, call: Call, topics: &dyn Topics, now: Now) -> Effects {
        let mut step = Step::new(&self.config, topics, now);
        step.answer(
            call.token,
            Response::refused(&call.request, ErrorCode::CoordinatorNotAvailable),
        );
        step.effects
    }

    /// To be called when [`next_deadline`](Self::next_deadline) has come; at another time it does no harm.
    pub fn handle_deadline(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        Step::new(&self.config, topics, now).effects
    }

    /// When [`handle_deadline`](Self::handle_deadline) wants to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// Topics were made, have grown or are gone.
    pub fn handle_metadata(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        Step::new(&self.config, topics, now).effects
    }

    /// Nobody waits for this answer any more.
    pub fn cancel(&mut self, _token: Token) {}
}
