//! One step of the core: what every rule may look at, and where it puts its effects.

use crate::config::GroupConfig;
use crate::effects::{Effects, Now, Token};
use crate::record::Record;
use crate::response::Response;
use crate::topics::Topics;

/// Goes through the rules of one call, one deadline or one change of metadata.
pub(crate) struct Step<'a> {
    pub(crate) config: &'a GroupConfig,
    pub(crate) topics: &'a dyn Topics,
    pub(crate) now: Now,
    pub(crate) effects: Effects,
    /// Generations that groups of the classic protocol began.
    pub(crate) generations: u64,
}

impl<'a> Step<'a> {
    pub(crate) fn new(config: &'a GroupConfig, topics: &'a dyn Topics, now: Now) -> Self {
        Self { config, topics, now, effects: Effects::default(), generations: 0 }
    }

    /// To be stored. The caller has changed the state, or does so before it returns.
    pub(crate) fn record(&mut self, record: Record) {
        self.effects.records.push(record);
    }

    pub(crate) fn answer(&mut self, token: Token, response: Response) {
        self.effects.answers.push((token, response));
    }
}
