//! The parts of an image: positions, nodes, topics.

use thalweg_types::{BrokerEpoch, ControllerEpoch, LogIndex, TopicIdPartition};

use super::{Node, Position, Topic};
use crate::key::Key;
use crate::record::{Endpoint, Registration};

impl Position {
    /// Before the first entry.
    pub const START: Self = Self { index: LogIndex::ZERO, controller_epoch: ControllerEpoch(0) };
}

impl Node {
    pub(super) fn registered(registration: &Registration, index: LogIndex) -> Self {
        let Registration { node_id, role, dir_id, incarnation, .. } = *registration;
        let at = BrokerEpoch(i64::try_from(index.0).unwrap_or(i64::MAX));
        Self {
            id: node_id,
            role,
            dir_id,
            incarnation,
            broker_epoch: registration.broker_epoch.unwrap_or(at),
            endpoints: registration.endpoints.clone(),
            rack: registration.rack.clone(),
            fenced: registration.fenced,
            shutting_down_at: registration.shutting_down_at,
        }
    }

    pub(super) fn registration(&self) -> Registration {
        Registration {
            node_id: self.id,
            role: self.role,
            dir_id: self.dir_id,
            incarnation: self.incarnation,
            broker_epoch: Some(self.broker_epoch),
            endpoints: self.endpoints.clone(),
            rack: self.rack.clone(),
            fenced: self.fenced,
            shutting_down_at: self.shutting_down_at,
        }
    }

    /// Whether it may lead and be in sync.
    pub fn is_live(&self) -> bool {
        !self.fenced && self.shutting_down_at.is_none()
    }

    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

impl Topic {
    /// Partitions in order of index.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// Assigned replicas of the first partition, whose number new partitions get too.
    pub fn replication_factor(&self) -> i16 {
        let replicas = self.partitions.values().next().map_or(0, |first| first.replicas.len());
        i16::try_from(replicas).unwrap_or(i16::MAX)
    }

    pub(super) fn partition_keys(&self) -> impl Iterator<Item = Key> {
        let topic_id = self.id;
        self.partitions.keys().map(move |partition| {
            Key::Partition(TopicIdPartition { topic_id, partition: *partition })
        })
    }
}
