//! The calls of the consumer protocol, brought to their groups; and what makes and removes such groups.

use thalweg_types::{ErrorCode, GroupId, Uuid};

use super::group::Group;
use super::refusal::Refusal;
use super::request::check_request;
use crate::groups::{AnyGroup, Groups};
use crate::record::Record;
use crate::request::{Client, ConsumerHeartbeat};
use crate::response::{ConsumerHeartbeatAnswer, DescribedConsumerGroup};
use crate::step::Step;

impl Groups {
    pub(crate) fn consumer_heartbeat(
        &mut self,
        request: &ConsumerHeartbeat,
        client: &Client,
        fresh: Uuid,
        step: &mut Step<'_>,
    ) -> ConsumerHeartbeatAnswer {
        let decided = self.decide_heartbeat(request, client, fresh, step);
        decided.unwrap_or_else(|refusal| {
            ConsumerHeartbeatAnswer::refused(refusal.error, Some(refusal.message))
        })
    }

    fn decide_heartbeat(
        &mut self,
        request: &ConsumerHeartbeat,
        client: &Client,
        fresh: Uuid,
        step: &mut Step<'_>,
    ) -> Result<ConsumerHeartbeatAnswer, Refusal> {
        check_request(request, step.config.member_metadata_bytes_max)?;
        let joins = request.member_epoch.0 == 0;
        match self.groups.get_mut(&request.group) {
            Some(AnyGroup::Consumer(group)) => {
                let answer = group.heartbeat(request, client, fresh, step)?;
                self.downgrade_if_classic(&request.group, step);
                Ok(answer)
            }
            Some(AnyGroup::Classic(_)) if joins => self.upgrade(request, client, fresh, step),
            None if joins => {
                if self.groups.len() >= step.config.groups_max {
                    let message = "the coordinator has as many groups as it can have";
                    return Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, message));
                }
                // Kept only if its first member is let in.
                let mut group = Group::new(request.group.clone());
                let answer = group.heartbeat(request, client, fresh, step)?;
                self.groups.insert(request.group.clone(), AnyGroup::Consumer(group));
                Ok(answer)
            }
            Some(AnyGroup::Classic(_)) | None => Err(not_found(&request.group)),
        }
    }

    pub(crate) fn consumer_describe(
        &self,
        groups: &[GroupId],
        step: &Step<'_>,
    ) -> Vec<DescribedConsumerGroup> {
        let describe = |id: &GroupId| match self.groups.get(id) {
            Some(AnyGroup::Consumer(group)) => group.describe(step.config, step.topics),
            Some(AnyGroup::Classic(_)) | None => {
                let Refusal { error, message } = not_found(id);
                let error_message = Some(message);
                DescribedConsumerGroup {
                    error_message,
                    ..DescribedConsumerGroup::refused(id, error)
                }
            }
        };
        groups.iter().map(describe).collect()
    }

    /// Takes in a record of a group of the consumer protocol.
    pub(crate) fn replay_consumer(&mut self, record: &Record) {
        let id = record.group();
        let is_removal = match record {
            Record::ConsumerGroup(_, value) => value.is_none(),
            Record::ConsumerTopics(_, value) => value.is_none(),
            Record::ConsumerMember(_, value) => value.is_none(),
            Record::TargetEpoch(_, value) => value.is_none(),
            Record::Target(_, value) => value.is_none(),
            Record::CurrentAssignment(_, value) => value.is_none(),
            Record::RegularExpression(_, value) => value.is_none(),
            Record::Offset(..) | Record::Group(..) => return,
        };
        if let Some(AnyGroup::Consumer(group)) = self.groups.get_mut(id) {
            group.apply(record);
            if matches!(record, Record::ConsumerGroup(_, None)) {
                self.groups.remove(id);
            }
        } else if !is_removal {
            let mut group = Group::new(id.clone());
            group.apply(record);
            self.groups.insert(id.clone(), AnyGroup::Consumer(group));
        }
    }
}

pub(super) fn not_found(group: &GroupId) -> Refusal {
    let message = format!("there is no group {group:?} of the consumer protocol");
    Refusal::new(ErrorCode::GroupIdNotFound, message)
}
