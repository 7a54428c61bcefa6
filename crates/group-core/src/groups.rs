//! All groups of one partition: who gets which call, and who wants to be woken when.

mod any;
mod calls;
mod cleanup;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use thalweg_types::{GroupId, Moment};

use crate::alarms::Alarms;
use crate::classic;
use crate::config::GroupConfig;
use crate::effects::{Effects, Now, Token};
use crate::offsets::Offsets;
use crate::record::Record;
use crate::request::{Call, Request};
use crate::response::Response;
use crate::step::Step;
use crate::topics::Topics;
pub(crate) use any::AnyGroup;
use cleanup::Cleanup;

/// The groups and offsets of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Groups {
    config: Arc<GroupConfig>,
    pub(crate) groups: BTreeMap<GroupId, AnyGroup>,
    offsets: Offsets,
    alarms: Alarms,
    /// Calls whose answer is still to come, and which group they wait for.
    waiting: BTreeMap<Token, GroupId>,
    cleanup: Cleanup,
    /// Since this core was made.
    rebalances: u64,
}

/// How much there is, for people who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Groups that have members or had some; those that only commit offsets do not count.
    pub groups: usize,
    pub members: usize,
    pub offsets: usize,
    /// Generations begun by members and target assignments computed since this core was loaded.
    pub rebalances: u64,
}

impl Groups {
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config: Arc::new(config),
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            alarms: Alarms::default(),
            waiting: BTreeMap::new(),
            cleanup: Cleanup::default(),
            rebalances: 0,
        }
    }

    // ---- Inputs ----

    /// Takes in a stored record, in the order of the log.
    pub fn replay(&mut self, record: Record) {
        match record {
            Record::Offset(key, value) => self.offsets.apply(key, value),
            Record::Group(id, Some(stored)) => {
                let group = classic::Group::from_stored(id.clone(), stored);
                self.groups.insert(id, AnyGroup::Classic(group));
            }
            Record::Group(id, None) => {
                if let Some(AnyGroup::Classic(_)) = self.groups.get(&id) {
                    self.groups.remove(&id);
                }
            }
            record => self.replay_consumer(&record),
        }
    }

    /// Everything stored has been replayed: from now on members have to be heard of.
    pub fn start(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        let config = Arc::clone(&self.config);
        let mut step = Step::new(&config, topics, now);
        for (id, group) in &mut self.groups {
            group.start(&mut step);
            self.alarms.set(id, group.next_deadline());
        }
        self.offsets.see_topics(&step);
        self.cleanup.start(&config, now.moment);
        self.finish(step)
    }

    /// Decides a call. Its answer is among these effects or, when it has to wait for others, among later ones.
    pub fn handle(&mut self, call: Call, topics: &dyn Topics, now: Now) -> Effects {
        let config = Arc::clone(&self.config);
        let mut step = Step::new(&config, topics, now);
        let token = call.token;
        let group = call.request.group().cloned();
        self.dispatch(&mut step, call);
        if let Some(group) = group {
            self.settle(&group);
            if step.effects.answers.iter().all(|(answered, _)| *answered != token) {
                self.waiting.insert(token, group);
            }
        }
        self.finish(step)
    }

    /// To be called when [`next_deadline`](Self::next_deadline) has come; at another time it does no harm.
    pub fn handle_deadline(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        let config = Arc::clone(&self.config);
        let mut step = Step::new(&config, topics, now);
        while let Some(id) = self.alarms.take_due(now.moment) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.handle_deadline(&mut step);
            }
            self.downgrade_if_classic(&id, &mut step);
            self.settle(&id);
        }
        self.clean_up(&mut step);
        self.finish(step)
    }

    /// When [`handle_deadline`](Self::handle_deadline) wants to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.alarms.next().into_iter().chain(self.cleanup.next_at()).min()
    }

    /// Topics were made, have grown or are gone.
    pub fn handle_metadata(&mut self, topics: &dyn Topics, now: Now) -> Effects {
        let config = Arc::clone(&self.config);
        let mut step = Step::new(&config, topics, now);
        self.groups.values_mut().for_each(AnyGroup::metadata_changed);
        self.offsets.see_topics(&step);
        self.purge(&mut step);
        self.finish(step)
    }

    /// Nobody waits for this answer any more. What follows from that comes with the next deadline.
    pub fn cancel(&mut self, token: Token) {
        let Some(id) = self.waiting.remove(&token) else { return };
        if let Some(group) = self.groups.get_mut(&id) {
            group.cancel(token);
        }
        self.settle(&id);
    }

    // ---- Accessors ----

    /// Looks at every group: for now and then.
    pub fn counts(&self) -> Counts {
        Counts {
            groups: self.groups.len(),
            members: self.groups.values().map(AnyGroup::member_count).sum(),
            offsets: self.offsets.count(),
            rebalances: self.rebalances,
        }
    }

    // ---- Helpers ----

    fn dispatch(&mut self, step: &mut Step<'_>, call: Call) {
        let Call { token, client, fresh, request } = call;
        let response = match request {
            Request::Join(join) => {
                return self.join(step, classic::Joining { token, client, fresh, join });
            }
            Request::Sync(sync) => return self.sync(step, token, sync),
            Request::Heartbeat(heartbeat) => Response::Heartbeat(self.heartbeat(step, &heartbeat)),
            Request::Leave(leave) => Response::Leave(self.leave(step, &leave)),
            Request::CommitOffsets(commit) => Response::CommitOffsets(self.commit(step, &commit)),
            Request::FetchOffsets(fetch) => Response::FetchOffsets(self.fetch(step, &fetch)),
            Request::DeleteOffsets(delete) => {
                Response::DeleteOffsets(self.delete_offsets(step, &delete))
            }
            Request::ListGroups(list) => Response::ListGroups(self.list(&list)),
            Request::DescribeGroups(groups) => Response::DescribeGroups(self.describe(&groups)),
            Request::DeleteGroups(groups) => Response::DeleteGroups(self.delete(step, groups)),
            Request::ConsumerHeartbeat(heartbeat) => Response::ConsumerHeartbeat(
                self.consumer_heartbeat(&heartbeat, &client, fresh, step),
            ),
            Request::ConsumerDescribe(groups) => {
                Response::ConsumerDescribe(self.consumer_describe(&groups, step))
            }
        };
        step.answer(token, response);
    }

    /// After anything that may have changed a group: its alarm is set anew, and a group that is nothing is forgotten.
    fn settle(&mut self, id: &GroupId) {
        if self.groups.get(id).is_some_and(AnyGroup::is_forgettable) {
            self.groups.remove(id);
        }
        let next = self.groups.get(id).and_then(AnyGroup::next_deadline);
        self.alarms.set(id, next);
    }

    fn finish(&mut self, step: Step<'_>) -> Effects {
        for (token, _) in &step.effects.answers {
            self.waiting.remove(token);
        }
        let is_target = |record: &&Record| matches!(record, Record::TargetEpoch(_, Some(_)));
        let targets = step.effects.records.iter().filter(is_target).count();
        self.rebalances += step.generations + targets as u64;
        step.effects
    }
}

/// The first key after this one.
pub(crate) fn after<'a, V>(
    map: &'a BTreeMap<GroupId, V>,
    cursor: Option<&GroupId>,
) -> Option<&'a GroupId> {
    let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
    map.range::<GroupId, _>((from, Bound::Unbounded)).next().map(|(id, _)| id)
}
