//! Errors as callers over gRPC are told them: with the outcome, and with the leader where that is the question.

use thalweg_rpc::{Error, LeaderHint};
use thalweg_types::{LeaderEpoch, NodeId, Outcome, TopicPartition};

use crate::broker::Broker;
use crate::error::{AppendError, FetchError, NotLeading, ProduceError, Unknown};

/// A partition's leader and its epoch, as far as a refusal names them.
type Leader = (NodeId, LeaderEpoch);

/// Which leader an error names, if it is about leadership at all.
trait NamesLeader {
    fn leader(&self) -> Option<Leader>;
}

impl Broker {
    /// What became of a batch that was not acknowledged. `listener` says by which of its addresses a leader is named.
    pub fn not_produced(&self, error: &ProduceError, at: &TopicPartition, listener: &str) -> Error {
        let told = Error::new(error.code(), error.to_string());
        let told = match error.outcome() {
            Outcome::NotApplied => told.not_applied(),
            Outcome::Unknown => told.outcome_unknown(),
        };
        let told = if error.is_disk_full() { told.resource_exhausted() } else { told };
        self.with_leader(told, at, error.leader(), listener)
    }

    /// Why a partition cannot be read. `listener` says by which of its addresses a leader is named.
    pub fn unreadable(&self, error: &FetchError, at: &TopicPartition, listener: &str) -> Error {
        let told = Error::new(error.code(), error.to_string()).not_applied();
        let told = if error.is_damage() { told.data_loss() } else { told };
        self.with_leader(told, at, error.leader(), listener)
    }

    fn with_leader(
        &self,
        error: Error,
        at: &TopicPartition,
        leader: Option<Leader>,
        listener: &str,
    ) -> Error {
        let Some((node_id, leader_epoch)) = leader else { return error };
        let image = self.image();
        let endpoint = image
            .node(node_id)
            .and_then(|node| node.endpoint(listener))
            .map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port));
        error.with_leader(LeaderHint { partition: at.clone(), node_id, leader_epoch, endpoint })
    }
}

impl NamesLeader for Unknown {
    fn leader(&self) -> Option<Leader> {
        match self {
            Self::Elsewhere { leader, epoch } => Some((*leader, *epoch)),
            _ => None,
        }
    }
}

impl NamesLeader for NotLeading {
    fn leader(&self) -> Option<Leader> {
        match self {
            Self::NotLeader { leader, epoch } => Some((*leader, *epoch)),
            _ => None,
        }
    }
}

impl NamesLeader for AppendError {
    fn leader(&self) -> Option<Leader> {
        match self {
            Self::Unknown(error) => error.leader(),
            Self::NotLeading(error) => error.leader(),
            _ => None,
        }
    }
}

impl NamesLeader for ProduceError {
    fn leader(&self) -> Option<Leader> {
        match self {
            Self::Refused(error) => error.leader(),
            Self::Unacknowledged(_) => None,
        }
    }
}

impl NamesLeader for FetchError {
    fn leader(&self) -> Option<Leader> {
        match self {
            Self::Unknown(error) => error.leader(),
            Self::NotLeading(error) => error.leader(),
            _ => None,
        }
    }
}
