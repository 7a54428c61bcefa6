//! Nodes: registration, heartbeats, fencing (R13, and the controller's side of R12).

use std::collections::BTreeSet;

use thalweg_invariants::{Mutant, mutant};
use thalweg_types::{
    BrokerEpoch, ClusterId, DirId, Durability, IncarnationId, LogIndex, NodeId, TopicIdPartition,
};

use super::{Decision, Policy};
use crate::error::Error;
use crate::image::{Image, Node};
use crate::record::{Endpoint, NodeRole, Record, Registration};

/// Longest host name or rack that is accepted, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// A node begins an uptime session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterNode {
    pub role: NodeRole,
    /// Identity of its storage directory.
    pub dir_id: DirId,
    /// This life of its process.
    pub incarnation: IncarnationId,
    /// What `storage.meta` says; `None` on an empty disk.
    pub cluster_id: Option<ClusterId>,
    /// What `storage.meta` says; `None` on an empty disk.
    pub node_id: Option<NodeId>,
    /// The session that the clean-shutdown marker names; `None` without a marker.
    pub previous_broker_epoch: Option<BrokerEpoch>,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    /// Replicas whose data on this disk cannot be trusted to be complete.
    pub suspect: BTreeSet<TopicIdPartition>,
}

/// The node's identity. Its broker epoch is the log index at which the decision's facts are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    pub node_id: NodeId,
    pub cluster_id: ClusterId,
}

/// A node is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    pub node_id: NodeId,
    pub broker_epoch: BrokerEpoch,
    /// Last metadata log entry it has applied.
    pub applied: LogIndex,
    /// It wants to stop: take what it leads away from it.
    pub want_shutdown: bool,
    /// Metadata log entry that every other live broker has applied; `None` when there is no other.
    pub others_applied: Option<LogIndex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    pub fenced: bool,
    /// It leads nothing any more and may stop.
    pub may_shut_down: bool,
}

impl Image {
    /// The first decision of an active controller: makes the cluster if there is none, and brings partitions in line with the settings
    /// it was started with. `new_cluster_id` is used at most once in a cluster's life.
    pub fn decide_activate(
        &self,
        new_cluster_id: ClusterId,
        policy: &Policy,
    ) -> Decision<ClusterId> {
        match self.cluster_id() {
            Some(cluster_id) => {
                let mut records = self.partitions_following_configs(policy);
                // Partitions of a time when nobody was assigned any.
                records.extend(self.coordinators_settled());
                Decision { records, response: cluster_id }
            }
            None => {
                let mut records = vec![Record::ClusterCreated { cluster_id: new_cluster_id }];
                records.extend(Self::first_features());
                Decision { records, response: new_cluster_id }
            }
        }
    }

    /// A node that is not live and was reached where one with a new disk is reached now: perhaps its disk was lost, or is not mounted.
    pub fn predecessor(&self, request: &RegisterNode) -> Option<NodeId> {
        if self.node_id_of(request.dir_id).is_some() {
            return None;
        }
        let is_there = |endpoint: &Endpoint| request.endpoints.contains(endpoint);
        let mut gone = self.nodes().filter(|node| !node.is_live() && node.role == request.role);
        gone.find(|node| node.endpoints.iter().any(is_there)).map(|node| node.id)
    }

    /// Registers a node, new or returning. It starts fenced and out of every in-sync set; the disk decides which node it is.
    pub fn decide_register_node(
        &self,
        request: &RegisterNode,
    ) -> Result<Decision<Registered>, Error> {
        let cluster_id = self.cluster_id().ok_or(Error::NoCluster)?;
        if let Some(given) = request.cluster_id.filter(|given| *given != cluster_id) {
            return Err(Error::ForeignCluster { given, own: cluster_id });
        }
        request.check()?;

        let mut records = Vec::new();
        let node_id = match self.node_id_of(request.dir_id) {
            Some(node_id) => {
                self.check_returning(request, node_id)?;
                records.extend(self.partitions_left_by(request, node_id));
                node_id
            }
            None => {
                let node_id = self.new_node_id(request)?;
                records.push(Record::NodeIdAllocated { dir_id: request.dir_id, node_id });
                node_id
            }
        };
        records.push(Record::NodeRegistered(Registration {
            node_id,
            role: request.role,
            dir_id: request.dir_id,
            incarnation: request.incarnation,
            broker_epoch: None,
            endpoints: request.endpoints.clone(),
            rack: request.rack.clone(),
            fenced: true,
            shutting_down_at: None,
        }));
        let records = self.with_coordinators(records);
        Ok(Decision { records, response: Registered { node_id, cluster_id } })
    }

    /// Unfences a node that has applied its own registration; takes leadership from one that wants to stop.
    pub fn decide_heartbeat(
        &self,
        request: &Heartbeat,
    ) -> Result<Decision<HeartbeatAnswer>, Error> {
        let node = self.registered(request.node_id, request.broker_epoch)?;
        if request.want_shutdown {
            return Ok(self.shut_down(node, request.others_applied));
        }
        let registered_at = u64::try_from(request.broker_epoch.0).unwrap_or(0);
        let may_be_live = node.fenced && node.shutting_down_at.is_none();
        let unfence = may_be_live && request.applied.0 >= registered_at;
        let mut records = Vec::new();
        if unfence {
            records.push(Record::NodeUnfenced { node_id: node.id });
            records.extend(self.partitions_with(node.id));
        }
        let records = self.with_coordinators(records);
        let response = HeartbeatAnswer { fenced: node.fenced && !unfence, may_shut_down: false };
        Ok(Decision { records, response })
    }

    /// R12: takes leadership, in-sync membership and what it coordinates from the node, then lets it go once every other live broker knows
    /// who does it instead.
    fn shut_down(
        &self,
        node: &Node,
        others_applied: Option<LogIndex>,
    ) -> Decision<HeartbeatAnswer> {
        let mut records = Vec::new();
        if !node.fenced && node.shutting_down_at.is_none() {
            records.push(Record::NodeShuttingDown { node_id: node.id });
            records.extend(self.partitions_without(node.id, |_, _, _| true));
        }
        let others_know = match (others_applied, node.shutting_down_at) {
            (None, _) => true,
            (Some(applied), Some(at)) => applied >= at,
            (Some(_), None) => false,
        };
        let may_shut_down = node.fenced || others_know;
        if may_shut_down {
            records.extend(self.session_over(node));
        }
        let records = self.with_coordinators(records);
        let response = HeartbeatAnswer { fenced: may_shut_down, may_shut_down };
        Decision { records, response }
    }

    /// A replica's data may be incomplete, as its own broker found: it is neither in sync nor eligible until it has caught up again.
    pub fn decide_replicas_unfit(
        &self,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
        replicas: &BTreeSet<TopicIdPartition>,
    ) -> Result<Decision<()>, Error> {
        self.registered(node_id, broker_epoch)?;
        let records = self.partitions_abandoned_by(node_id, replicas);
        Ok(Decision { records, response: () })
    }

    /// Forgets a node that is gone. Its replicas stay assigned to it.
    pub fn decide_unregister_node(&self, node_id: NodeId) -> Result<Decision<()>, Error> {
        let node = self.node(node_id).ok_or(Error::UnknownNode(node_id))?;
        if node.is_live() {
            return Err(Error::NodeIsLive(node_id));
        }
        let records = self.with_coordinators(vec![Record::NodeUnregistered { node_id }]);
        Ok(Decision { records, response: () })
    }

    /// Fences a node that is not heard of any more. What it has flushed stays, so it stays eligible where it was in sync. A node that keeps
    /// no data is forgotten at once.
    pub fn decide_fence(&self, node_id: NodeId) -> Result<Decision<()>, Error> {
        let node = self.node(node_id).ok_or(Error::UnknownNode(node_id))?;
        let mut records: Vec<_> = self.session_over(node).into_iter().collect();
        if !node.fenced {
            records.extend(self.partitions_without(node.id, |_, _, _| true));
        }
        Ok(Decision { records: self.with_coordinators(records), response: () })
    }

    /// Refuses whoever has not, or not any more, the node's present session.
    pub fn check_session(&self, id: NodeId, epoch: BrokerEpoch) -> Result<(), Error> {
        self.registered(id, epoch).map(|_| ())
    }

    /// The node, if this is its present session.
    pub(super) fn registered(&self, id: NodeId, epoch: BrokerEpoch) -> Result<&Node, Error> {
        let node = self.node(id).ok_or(Error::UnknownNode(id))?;
        if node.broker_epoch != epoch {
            let current = node.broker_epoch;
            return Err(Error::StaleBrokerEpoch { node_id: id, given: epoch, current });
        }
        Ok(node)
    }

    /// What the end of a node's session makes of the node itself.
    fn session_over(&self, node: &Node) -> Option<Record> {
        let node_id = node.id;
        match node.role.keeps_data() {
            true if node.fenced => None,
            true => Some(Record::NodeFenced { node_id }),
            false => Some(Record::NodeUnregistered { node_id }),
        }
    }

    fn check_returning(&self, request: &RegisterNode, node_id: NodeId) -> Result<(), Error> {
        let refuse = |reason| Err(Error::InvalidRegistration(reason));
        if let Some(given) = request.node_id.filter(|given| *given != node_id) {
            return refuse(format!("the disk names node {given}, but belongs to node {node_id}"));
        }
        match self.node(node_id) {
            Some(node) if node.role != request.role => refuse(format!(
                "node {node_id} is registered as {}, not as {}",
                node.role, request.role
            )),
            _ => Ok(()),
        }
    }

    fn new_node_id(&self, request: &RegisterNode) -> Result<NodeId, Error> {
        if let Some(given) = request.node_id {
            return Err(Error::InvalidRegistration(format!(
                "the disk names node {given}, but this cluster has never seen disk {}",
                request.dir_id
            )));
        }
        match self.next_node_id() {
            NodeId(i32::MAX) => Err(Error::NodeIdsExhausted),
            node_id => Ok(node_id),
        }
    }

    /// R13.4: the last session is over, so the node leaves every in-sync set. It stays eligible where what it acknowledged must still be
    /// on its disk: with `fsync` always, otherwise after a clean shutdown, and where there is no other replica that could know better.
    fn partitions_left_by(&self, request: &RegisterNode, node_id: NodeId) -> Vec<Record> {
        let last_session = self.node(node_id).map(|node| node.broker_epoch);
        let clean = last_session.is_some() && request.previous_broker_epoch == last_session;
        self.partitions_without(node_id, |topic_id, partition, state| {
            let flushed =
                state.durability == Durability::Fsync && !state.unproven.contains(&node_id);
            let proven = clean || flushed || state.replicas.len() == 1 || mutant!(Mutant::M12);
            let suspect = request.suspect.contains(&TopicIdPartition { topic_id, partition });
            proven && (!suspect || mutant!(Mutant::M30))
        })
    }
}

impl RegisterNode {
    fn check(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::InvalidRegistration(reason.to_owned()));
        let named = |text: &str| !text.is_empty() && text.len() <= NAME_BYTES_MAX;
        if self.dir_id.is_zero() || self.incarnation.is_zero() {
            return refuse("storage directory and incarnation must be given");
        }
        if self.endpoints.iter().any(|e| !named(&e.host) || !named(&e.listener) || e.port == 0) {
            return refuse("an endpoint needs a listener's name, a host and a port");
        }
        let listeners: BTreeSet<_> = self.endpoints.iter().map(|e| &e.listener).collect();
        if listeners.len() != self.endpoints.len() {
            return refuse("two endpoints have the same listener's name");
        }
        if self.rack.as_ref().is_some_and(|rack| !named(rack)) {
            return refuse("a rack's name has 1 to 255 bytes");
        }
        Ok(())
    }
}
