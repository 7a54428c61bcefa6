//! Which nodes a client is shown, and who leads in its eyes.
//!
//! A client talks to every node it is shown and to no other. Inside the cluster's network it is shown brokers and coordinators as they
//! are. Whoever talks to a gateway reaches gateways only: each stands for a part of the partitions, as their leader. Replica and in-sync
//! lists name brokers in both views, since they are about where the records are, and some clients wait until they are complete.

use std::borrow::Cow;

use thalweg_metadata_core::{Endpoint, Image, Node, NodeRole, Partition};
use thalweg_types::{NodeId, PartitionIndex, TopicId, TopicIdPartition};

/// A node as a client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'a> {
    pub id: NodeId,
    pub host: Cow<'a, str>,
    pub port: u16,
    pub rack: Option<Cow<'a, str>>,
    pub fenced: bool,
}

/// The cluster as a client of one node sees it.
#[derive(Debug)]
pub struct View<'a> {
    image: &'a Image,
    /// The node that answers.
    me: NodeId,
    /// In order of id, the fenced ones included.
    nodes: Vec<Listed<'a>>,
    is_gateways: bool,
}

impl<'a> View<'a> {
    /// Brokers and coordinators, as they are; `me` is one of them.
    pub fn direct(image: &'a Image, me: NodeId) -> Self {
        let listed = |role| {
            let nodes = image.nodes().filter(move |node| node.role == role);
            nodes.filter_map(|node| Listed::of(node))
        };
        let mut nodes: Vec<_> = listed(NodeRole::Broker).collect();
        // Where a broker and a coordinator are one process behind one listener, clients are shown one node: some of them tell nodes apart by
        // their addresses.
        let apart = listed(NodeRole::Coordinator)
            .filter(|coordinator| !nodes.iter().any(|broker| broker.is_at_address_of(coordinator)))
            .collect::<Vec<_>>();
        nodes.extend(apart);
        nodes.sort_by_key(|node| node.id);
        Self { image, me, nodes, is_gateways: false }
    }

    /// Gateways only. The one that answers is among them even if the others do not know it yet. Those behind one address are shown as one
    /// node, the first of them: it does not matter which of them a client reaches.
    pub fn through_gateways(image: &'a Image, me: Listed<'a>) -> Self {
        let others = image
            .nodes()
            .filter(|node| node.role == NodeRole::Gateway && node.id != me.id)
            .filter_map(|node| Listed::of(node));
        let mut all: Vec<_> = others.chain([me.clone()]).collect();
        all.sort_by_key(|node| node.id);
        let mut nodes: Vec<Listed<'a>> = Vec::with_capacity(all.len());
        for node in all {
            if !nodes.iter().any(|first| !first.fenced && first.is_at_address_of(&node)) {
                nodes.push(node);
            }
        }
        let shown = nodes.iter().find(|node| !node.fenced && node.is_at_address_of(&me));
        let me = shown.map_or(me.id, |node| node.id);
        Self { image, me, nodes, is_gateways: true }
    }

    pub fn image(&self) -> &'a Image {
        self.image
    }

    /// Every node that may be shown, whether or not it lives.
    pub fn nodes(&self) -> impl Iterator<Item = &Listed<'a>> {
        self.nodes.iter()
    }

    /// The nodes that clients may talk to.
    pub fn live_nodes(&self) -> impl Iterator<Item = &Listed<'a>> {
        self.nodes.iter().filter(|node| !node.fenced)
    }

    /// Any live node will do, since all of them take what is for the controller; this one is the closest. Before it is listed itself,
    /// and when it is about to leave, there is none.
    pub fn controller_id(&self) -> NodeId {
        let is_listed = self.live_nodes().any(|node| node.id == self.me);
        let is_staying = self.is_gateways || self.image.is_live(self.me);
        if is_listed && is_staying { self.me } else { NodeId::NONE }
    }

    /// To whom a client goes for a partition: as long as it is led at all.
    pub fn leader(
        &self,
        topic: TopicId,
        index: PartitionIndex,
        partition: &Partition,
    ) -> Option<NodeId> {
        let leader = partition.leader.filter(|leader| self.image.is_live(*leader))?;
        if !self.is_gateways {
            return Some(leader);
        }
        let (high, low) = halves(topic);
        self.gateway_for(high ^ low.rotate_left(32) ^ u64::from(index.0.unsigned_abs()))
    }

    /// To whom a client goes for a group of this partition of an internal topic.
    pub fn coordinator(&self, id: TopicIdPartition) -> Option<&Listed<'a>> {
        let node = self.image.coordinator_node(id)?;
        if !self.is_gateways {
            let own = Listed::of(node)?;
            return self.live_nodes().find(|shown| shown.is_at_address_of(&own));
        }
        let (high, low) = halves(id.topic_id);
        let key = high ^ low.rotate_left(32) ^ u64::from(id.partition.0.unsigned_abs());
        let gateway = self.gateway_for(key)?;
        self.live_nodes().find(|node| node.id == gateway)
    }

    /// Whether the node that answers stands for a node behind it: of several gateways, one does. Inside, every node stands for itself.
    pub fn stands_for(&self, node: NodeId) -> bool {
        match self.is_gateways {
            true => self.gateway_for(u64::from(node.0.unsigned_abs())) == Some(self.me),
            false => node == self.me,
        }
    }

    /// One live gateway for what is named by `key`. It stays the same while that gateway lives, whoever else comes and goes (rendezvous
    /// hashing), and every gateway says the same.
    fn gateway_for(&self, key: u64) -> Option<NodeId> {
        let weight = |node: &&Listed<'_>| mix(mix(key) ^ u64::from(node.id.0.unsigned_abs()));
        self.live_nodes().max_by_key(weight).map(|node| node.id)
    }
}

impl<'a> Listed<'a> {
    fn is_at_address_of(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    /// None if the node does not speak Kafka.
    fn of(node: &'a Node) -> Option<Self> {
        let endpoint = node.endpoint(Endpoint::KAFKA)?;
        Some(Self {
            id: node.id,
            host: Cow::Borrowed(&endpoint.host),
            port: endpoint.port,
            rack: node.rack.as_deref().map(Cow::Borrowed),
            fenced: node.fenced,
        })
    }
}

fn halves(topic: TopicId) -> (u64, u64) {
    let id = u128::from_be_bytes(*topic.0.as_bytes());
    ((id >> 64) as u64, id as u64)
}

/// Spreads every bit over all of them (the finalizer of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::{self, gateway};

    fn leaders(image: &Image, me: i32) -> BTreeMap<PartitionIndex, NodeId> {
        let me = Listed { id: NodeId(me), host: "me".into(), port: 1, rack: None, fenced: false };
        let view = View::through_gateways(image, me);
        let topic = image.topic("many").unwrap();
        let leader = |(index, partition): (&PartitionIndex, &Partition)| {
            (*index, view.leader(topic.id, *index, partition).unwrap())
        };
        topic.partitions.iter().map(leader).collect()
    }

    #[test]
    fn inside_everybody_is_shown_as_it_is_but_gateways() {
        let image = sample::with_nodes(&[("many", 2)], &[gateway(7, false)]);
        let view = View::direct(&image, NodeId(1));
        assert_eq!(view.nodes().map(|node| node.id).collect::<Vec<_>>(), [NodeId(1)]);
        assert_eq!(view.controller_id(), NodeId(1));
        assert_eq!(View::direct(&image, NodeId(9)).controller_id(), NodeId::NONE);
    }

    #[test]
    fn a_broker_and_a_coordinator_behind_one_listener_are_shown_as_one_node() {
        let mut beside = sample::coordinator(7, false);
        beside.endpoints[0].host = "host-1".to_owned();
        let image = sample::coordinated(1, &[beside]);
        let view = View::direct(&image, NodeId(1));
        assert_eq!(view.nodes().map(|node| node.id).collect::<Vec<_>>(), [NodeId(1)]);
        let topic_id = image.topic("__consumer_offsets").unwrap().id;
        let partition = TopicIdPartition { topic_id, partition: PartitionIndex(0) };
        assert_eq!(view.coordinator(partition).map(|node| node.id), Some(NodeId(1)));
    }

    #[test]
    fn gateways_share_the_partitions_and_agree_on_them() {
        let image = sample::with_nodes(
            &[("many", 300)],
            &[gateway(7, false), gateway(8, false), gateway(9, true)],
        );
        let leaders_by_7 = leaders(&image, 7);
        assert_eq!(leaders_by_7, leaders(&image, 8));
        let of = |id: i32| leaders_by_7.values().filter(|leader| **leader == NodeId(id)).count();
        assert_eq!(of(7) + of(8), 300, "a fenced gateway leads nothing");
        assert!((100..200).contains(&of(7)), "{}", of(7));
    }

    #[test]
    fn a_gateway_more_takes_partitions_over_and_moves_no_others() {
        let few = sample::with_nodes(&[("many", 300)], &[gateway(7, false), gateway(8, false)]);
        let more = [gateway(7, false), gateway(8, false), gateway(9, false)];
        let more = sample::with_nodes(&[("many", 300)], &more);
        let (before, after) = (leaders(&few, 7), leaders(&more, 7));
        let moved = before.iter().filter(|(index, leader)| after[index] != **leader);
        assert!(moved.clone().all(|(index, _)| after[index] == NodeId(9)));
        assert!((50..150).contains(&moved.count()));
    }

    #[test]
    fn a_gateway_that_nobody_knows_yet_shows_itself() {
        let image = sample::with_nodes(&[("many", 3)], &[]);
        assert!(leaders(&image, 7).values().all(|leader| *leader == NodeId(7)));
    }

    #[test]
    fn gateways_behind_one_address_are_one_node_by_whichever_of_them_one_is_answered() {
        let image = sample::with_nodes(&[("many", 9)], &[gateway(7, false), gateway(8, false)]);
        let beside = |id: i32| Listed {
            id: NodeId(id),
            host: "host-7".into(),
            port: 9092,
            rack: None,
            fenced: false,
        };
        for id in [7, 9] {
            let view = View::through_gateways(&image, beside(id));
            assert_eq!(
                view.nodes().map(|node| node.id).collect::<Vec<_>>(),
                [NodeId(7), NodeId(8)]
            );
            assert_eq!(view.controller_id(), NodeId(7));
        }
    }

    #[test]
    fn what_nobody_leads_has_no_leader_through_gateways_either() {
        let image = sample::with_nodes(&[("many", 1)], &[gateway(7, false)]);
        let me = Listed { id: NodeId(7), host: "me".into(), port: 1, rack: None, fenced: false };
        let topic = image.topic("many").unwrap();
        let partition = Partition { leader: None, ..topic.partitions[&PartitionIndex(0)].clone() };
        let view = View::through_gateways(&image, me);
        assert_eq!(view.leader(topic.id, PartitionIndex(0), &partition), None);
    }
}
