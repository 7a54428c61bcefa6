//! All groups of one partition: who gets which call, and who wants to be woken when.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_types::{ErrorCode, GroupId, Moment};

use crate::alarms::Alarms;
use crate::config::GroupConfig;
use crate::consumer;
use crate::effects::{Effects, Now, Token};
use crate::record::Record;
use crate::request::{Call, Request};
use crate::response::Response;
use crate::step::Step;
use crate::topics::Topics;

/// The groups and offsets of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Groups {
    config: Arc<GroupConfig>,
    pub(crate) groups: BTreeMap<GroupId, AnyGroup>,
    alarms: Alarms,
}

/// A group of either protocol.
#[derive(Debug)]
pub(crate) enum AnyGroup {
    Consumer(consumer::Group),
}

impl Groups {
    pub fn new(config: GroupConfig) -> Self {
        Self { config: Arc::new(config), groups: BTreeMap::new(), alarms: Alarms::default() }
    }

    /// Takes in a stored record, in the order of the log.
    pub fn replay(&mut self, record: Record) {
        self.replay_consumer(&record);
    }

    /// Everything stored has been replayed: from now on members have to be heard of.
    pub fn start(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        let config = Arc::clone(&self.config);
        let step = Step::new(&config, topics, now);
        for (id, group) in &mut self.groups {
            match group {
                AnyGroup::Consumer(group) => group.start(&step),
            }
            self.alarms.set(id, group.next_deadline());
        }
        step.effects
    }

    /// Decides a call. Its answer is among these effects or, when it has to wait for others, among later ones.
    pub fn handle(&mut self, call: Call, topics: &dyn Topics, now: Now) -> Effects {
        let config = Arc::clone(&self.config);
        let mut step = Step::new(&config, topics, now);
        let response = match &call.request {
            Request::ConsumerHeartbeat(heartbeat) => Response::ConsumerHeartbeat(
                self.consumer_heartbeat(heartbeat, &call.client, call.fresh, &mut step),
            ),
            Request::ConsumerDescribe(groups) => {
                Response::ConsumerDescribe(self.consumer_describe(groups, &step))
            }
            request => Response::refused(request, ErrorCode::CoordinatorNotAvailable),
        };
        step.answer(call.token, response);
        if let Some(id) = call.request.group() {
            let next = self.groups.get(id).and_then(AnyGroup::next_deadline);
            self.alarms.set(id, next);
        }
        step.effects
    }

    /// To be called when [`next_deadline`](Self::next_deadline) has come; at another time it does no harm.
    pub fn handle_deadline(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        let config = Arc::clone(&self.config);
        let mut step = Step::new(&config, topics, now);
        while let Some(id) = self.alarms.take_due(now.moment) {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            match group {
                AnyGroup::Consumer(group) => group.handle_deadline(&mut step),
            }
            self.alarms.set(&id, group.next_deadline());
        }
        step.effects
    }

    /// When [`handle_deadline`](Self::handle_deadline) wants to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.alarms.next()
    }

    /// Topics were made, have grown or are gone.
    pub fn handle_metadata(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        for group in self.groups.values_mut() {
            match group {
                AnyGroup::Consumer(group) => group.metadata_changed(),
            }
        }
        Step::new(&self.config, topics, now).effects
    }

    /// Nobody waits for this answer any more.
    pub fn cancel(&mut self, _token: Token) {}
}

impl AnyGroup {
    fn next_deadline(&self) -> Option<Moment> {
        match self {
            Self::Consumer(group) => group.next_deadline(),
        }
    }
}
