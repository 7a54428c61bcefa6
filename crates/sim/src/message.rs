//! What is said between the hosts of a simulated cluster.

use thalweg_coordinator_runtime::{LogEnds, Token};
use thalweg_log_core::Continuation;
use thalweg_metadata_core::{Candidate, HoldId, Image, Reassign, RegisterNode};
use thalweg_replication_core::{AlterOutcome, Answer, Handshake, Proposal, Report};
use thalweg_types::{
    Acks, BrokerEpoch, CoordinatorEpoch, Durability, ErrorCode, LeaderEpoch, LogIndex, NodeId,
    Offset, Outcome, PartitionEpoch, TopicId, TopicIdPartition,
};

use crate::coordinators::Asking;
use crate::disk::Batch;

/// A host: brokers first, then controllers, then the one all clients are on, then coordinators.
pub(crate) type Host = usize;

pub(crate) const BROKERS_MAX: usize = 5;
pub(crate) const CONTROLLERS: usize = 3;
pub(crate) const FIRST_CONTROLLER: Host = BROKERS_MAX;
pub(crate) const CLIENTS: Host = BROKERS_MAX + CONTROLLERS;
pub(crate) const COORDINATORS: usize = 2;
pub(crate) const FIRST_COORDINATOR: Host = CLIENTS + 1;
pub(crate) const HOSTS: usize = FIRST_COORDINATOR + COORDINATORS;

/// Something that may be lost, delayed, or overtaken.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// To a controller.
    Ask { life: u64, id: u64, ask: Ask },
    /// From a controller.
    Told { life: u64, id: u64, told: Told },
    /// Committed metadata after `from` up to `to`.
    Entries { from: LogIndex, to: LogIndex },
    /// All of the metadata as its sender has it.
    Snapshot(Box<Image>),
    /// To a coordinator, from a client.
    Coordinate { partition: TopicIdPartition, token: Token, ask: Asking },
    /// From a client or a coordinator.
    Call { id: u64, partition: TopicIdPartition, call: Call },
    /// To whoever called.
    Answered { id: u64, result: CallResult },
}

impl Message {
    /// Calls that their sender, or a library under it, may repeat. Producers see to it themselves: they must know what they sent.
    pub(crate) fn may_be_repeated(&self) -> bool {
        let is_produce = matches!(self, Self::Call { call: Call::Produce(..), .. });
        let is_once =
            matches!(self, Self::Ask { ask: Ask::Admin(_), .. } | Self::Coordinate { .. });
        !is_produce && !is_once
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Register(Box<RegisterNode>),
    Heartbeat {
        node: NodeId,
        epoch: BrokerEpoch,
        applied: LogIndex,
        want_shutdown: bool,
    },
    /// Opens a stream to the active controller that ends with this process.
    Hold {
        node: NodeId,
        epoch: BrokerEpoch,
        hold: HoldId,
    },
    Alter {
        partition: TopicIdPartition,
        proposal: Box<Proposal>,
    },
    Unfit {
        node: NodeId,
        epoch: BrokerEpoch,
        partition: TopicIdPartition,
    },
    Watch {
        applied: LogIndex,
    },
    Admin(Admin),
}

/// What an operator asks for.
#[derive(Debug, Clone)]
pub(crate) enum Admin {
    Create {
        topic: String,
        id: TopicId,
        replicas: Vec<Vec<NodeId>>,
        min_isr: u32,
        durability: Durability,
        small: bool,
    },
    Delete {
        topic: String,
    },
    MinIsr {
        topic: String,
        min_isr: u32,
    },
    Durability {
        topic: String,
        durability: Durability,
    },
    Reassign(Reassign),
    Preferred,
    /// For when nobody who may be elected is left.
    Unclean {
        topic: String,
        /// As it was when the replicas were asked.
        partition_epoch: PartitionEpoch,
        candidates: Vec<Candidate>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Told {
    Registered { node: NodeId, epoch: BrokerEpoch },
    Heartbeat { fenced: bool, may_shut_down: bool },
    Altered(Box<AlterOutcome>),
    Done,
    Refused(ErrorCode),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Produce(Batch, Acks),
    Fetch {
        from: Offset,
    },
    /// ListOffsets, latest.
    End,
    /// Of a coordinator: where the log stands.
    Locate,
    /// Of a coordinator. Without a batch, a check.
    Append {
        continuation: Continuation,
        epoch: CoordinatorEpoch,
        batch: Option<Batch>,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum CallResult {
    /// In this epoch.
    Produced(Offset, LeaderEpoch),
    Fetched {
        batches: Vec<Batch>,
        log_start: Offset,
        high_watermark: Offset,
    },
    /// Of the true high watermark; with the leader epoch it was told in.
    End {
        end: Offset,
        epoch: LeaderEpoch,
    },
    Standing(LogEnds),
    Error {
        code: ErrorCode,
        outcome: Outcome,
    },
}

/// On a replication stream, in order.
#[derive(Debug, Clone)]
pub(crate) enum StreamMessage {
    Handshake(TopicIdPartition, Handshake),
    Answer(TopicIdPartition, Answer),
    Push(TopicIdPartition, OwnedPush),
    Report(TopicIdPartition, Report),
}

/// A push and the batches it carries.
#[derive(Debug, Clone)]
pub(crate) struct OwnedPush {
    pub(crate) session: u32,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) batches: Vec<Batch>,
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
}
