//! What is done from time to time: expired offsets go, and groups that have neither members nor offsets.
//!
//! A round goes through all groups in the order of their names, a part at a time, so that no call waits for long behind it.

use thalweg_types::{GroupId, Moment, TopicName};

use super::{AnyGroup, Groups};
use crate::config::GroupConfig;
use crate::offsets::Expiry;
use crate::step::Step;

/// Groups and offsets that one part looks at: some milliseconds.
const LOOKED_AT_MAX: usize = 10_000;

/// Tombstones that one part makes: they go into one append.
const TOMBSTONES_MAX: usize = 1_000;

/// How far the rounds are.
#[derive(Debug, Default)]
pub(super) struct Cleanup {
    /// When the next part is due; `None` before the start.
    next_at: Option<Moment>,
    /// Groups up to this one are done in this round.
    cursor: Option<GroupId>,
}

impl Cleanup {
    pub(super) fn start(&mut self, config: &GroupConfig, now: Moment) {
        self.next_at = Some(now.saturating_add_ms(config.offsets_check_interval_ms));
    }

    pub(super) fn next_at(&self) -> Option<Moment> {
        self.next_at
    }
}

impl Groups {
    pub(super) fn clean_up(&mut self, step: &mut Step<'_>) {
        if self.cleanup.next_at.is_none_or(|at| at > step.now.moment) {
            return;
        }
        if self.offsets.has_doomed() {
            return self.purge(step);
        }
        let (mut looked_at, mut tombstones) = (0, 0);
        while looked_at < LOOKED_AT_MAX && tombstones < TOMBSTONES_MAX {
            let Some(id) = self.group_after(self.cleanup.cursor.as_ref()) else {
                self.cleanup.cursor = None;
                let interval_ms = step.config.offsets_check_interval_ms;
                self.cleanup.next_at = Some(step.now.moment.saturating_add_ms(interval_ms));
                return;
            };
            let (offsets, expired) = self.clean_up_group(step, &id, TOMBSTONES_MAX - tombstones);
            looked_at += offsets + 1;
            tombstones += expired;
            self.cleanup.cursor = Some(id);
        }
        // The next part at once, after the calls that came meanwhile.
        self.cleanup.next_at = Some(step.now.moment);
    }

    /// Removes offsets of deleted topics, and sees to it that the rest is not forgotten.
    pub(super) fn purge(&mut self, step: &mut Step<'_>) {
        self.offsets.purge(step, TOMBSTONES_MAX);
        if self.offsets.has_doomed() {
            self.cleanup.next_at = Some(step.now.moment);
        }
    }

    fn clean_up_group(
        &mut self,
        step: &mut Step<'_>,
        id: &GroupId,
        expired_max: usize,
    ) -> (usize, usize) {
        let group = self.groups.get(id);
        let expiry = group.map_or(Expiry::SinceCommit, AnyGroup::expiry);
        let is_subscribed =
            |topic: &TopicName| group.is_some_and(|group| group.is_subscribed(topic));
        let looked = self.offsets.expire(step, id, expiry, expired_max, is_subscribed);
        let is_over = group.is_some_and(AnyGroup::is_deserted);
        if is_over && looked.offsets == looked.expired {
            self.bury(step, id);
        }
        (looked.offsets, looked.expired)
    }

    /// Removes a group's entry, and says so to the log if the log knows of it.
    pub(super) fn bury(&mut self, step: &mut Step<'_>, id: &GroupId) {
        if let Some(group) = self.groups.remove(id) {
            group.tombstones(id).into_iter().for_each(|record| step.record(record));
        }
        self.alarms.set(id, None);
    }

    /// The first group after this one, with an entry or only with offsets.
    fn group_after(&self, cursor: Option<&GroupId>) -> Option<GroupId> {
        let with_entry = super::after(&self.groups, cursor);
        let with_offsets = self.offsets.group_after(cursor);
        with_entry.into_iter().chain(with_offsets).min().cloned()
    }
}
