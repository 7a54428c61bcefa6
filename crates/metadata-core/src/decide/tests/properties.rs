//! Random lives of a cluster, and what must hold at every step of all of them.

use proptest::prelude::*;
use thalweg_types::{LeaderEpoch, Offset, PartitionEpoch};

use super::*;
use coordinators::check_coordinators;

mod coordinators;

#[derive(Debug, Clone)]
enum Step {
    Register { disk: u32, clean: bool },
    Unfence { node: i32 },
    Fence { node: i32 },
    Create { name: u32, partitions: i32, factor: i16, minimum: u32 },
    Delete { name: u32 },
    Grow { name: u32, partitions: i32 },
    Minimum { name: u32, minimum: Option<u32> },
    Durability { name: u32, replicated: bool },
    ClusterMinimum { minimum: Option<u32> },
    ProducerIds { node: i32 },
    ShutDown { node: i32, others_know: bool },
    Unregister { node: i32 },
    Unfit { node: i32, name: u32 },
    Propose { name: u32, isr: Vec<i32>, unfit: Vec<i32>, recovering: bool },
    Reassign { name: u32, target: Option<Vec<i32>> },
    ElectPreferred,
    ElectUnclean { name: u32, nodes: Vec<i32> },
}

/// Disks from here on are coordinators' identities.
const FIRST_COORDINATOR: u32 = 5;

fn node(disk: u32) -> RegisterNode {
    match disk {
        ..FIRST_COORDINATOR => broker(disk),
        _ => RegisterNode { role: NodeRole::Coordinator, ..broker(disk) },
    }
}

/// The first two are coordinated.
fn topic_name(number: u32) -> String {
    match number {
        0 => "__consumer_offsets".to_owned(),
        1 => "__transaction_state".to_owned(),
        _ => format!("t{number}"),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (disk, node, name) = (1_u32..FIRST_COORDINATOR + 3, 1_i32..8, 0_u32..6);
    let some = || proptest::collection::vec(1_i32..8, 0..4);
    prop_oneof![
        2 => (disk, any::<bool>()).prop_map(|(disk, clean)| Step::Register { disk, clean }),
        4 => node.clone().prop_map(|node| Step::Unfence { node }),
        3 => node.clone().prop_map(|node| Step::Fence { node }),
        2 => (name.clone(), -1..5, -1_i16..4, 0_u32..4).prop_map(
            |(name, partitions, factor, minimum)| Step::Create { name, partitions, factor, minimum }
        ),
        1 => name.clone().prop_map(|name| Step::Delete { name }),
        1 => (name.clone(), 0..8).prop_map(|(name, partitions)| Step::Grow { name, partitions }),
        1 => (name.clone(), proptest::option::of(1_u32..4))
            .prop_map(|(name, minimum)| Step::Minimum { name, minimum }),
        1 => (name, any::<bool>())
            .prop_map(|(name, replicated)| Step::Durability { name, replicated }),
        1 => proptest::option::of(1_u32..4).prop_map(|minimum| Step::ClusterMinimum { minimum }),
        1 => node.clone().prop_map(|node| Step::ProducerIds { node }),
        1 => (node.clone(), any::<bool>())
            .prop_map(|(node, others_know)| Step::ShutDown { node, others_know }),
        1 => node.clone().prop_map(|node| Step::Unregister { node }),
        1 => (node, 0_u32..6).prop_map(|(node, name)| Step::Unfit { node, name }),
        6 => (0_u32..6, some(), some(), any::<bool>()).prop_map(
            |(name, isr, unfit, recovering)| Step::Propose { name, isr, unfit, recovering }
        ),
        2 => (0_u32..6, proptest::option::of(some()))
            .prop_map(|(name, target)| Step::Reassign { name, target }),
        1 => Just(Step::ElectPreferred),
        1 => (0_u32..6, some()).prop_map(|(name, nodes)| Step::ElectUnclean { name, nodes }),
    ]
}

/// What the step decides, or nothing when it is refused.
fn decide(cluster: &Cluster, step: &Step, number: u32) -> Vec<Record> {
    let (image, policy) = (&cluster.image, &cluster.policy);
    let records_of = |decision: Result<Decision<()>, Error>| {
        decision.map(|decision| decision.records).unwrap_or_default()
    };
    match step {
        Step::Register { disk, clean } => {
            let last = image.node_id_of(DirId(uuid(*disk))).and_then(|id| image.node(id));
            let previous = last.filter(|_| *clean).map(|node| node.broker_epoch);
            let request = RegisterNode { previous_broker_epoch: previous, ..node(*disk) };
            image.decide_register_node(&request).unwrap().records
        }
        Step::Unfence { node } => {
            let Some(node) = image.node(NodeId(*node)) else { return Vec::new() };
            let request = Heartbeat {
                node_id: node.id,
                broker_epoch: node.broker_epoch,
                applied: image.position().index,
                want_shutdown: false,
                others_applied: None,
            };
            image.decide_heartbeat(&request).unwrap().records
        }
        Step::ShutDown { node, others_know } => {
            let Some(node) = image.node(NodeId(*node)) else { return Vec::new() };
            let request = Heartbeat {
                node_id: node.id,
                broker_epoch: node.broker_epoch,
                applied: image.position().index,
                want_shutdown: true,
                others_applied: Some(if *others_know {
                    image.position().index
                } else {
                    LogIndex(0)
                }),
            };
            image.decide_heartbeat(&request).unwrap().records
        }
        Step::Unregister { node } => records_of(image.decide_unregister_node(NodeId(*node))),
        Step::Unfit { node, name } => {
            let epoch = image.node(NodeId(*node)).map_or(BrokerEpoch::NONE, |n| n.broker_epoch);
            let topic = image.topic(&topic_name(*name));
            let replicas = topic
                .map(|topic| TopicIdPartition { topic_id: topic.id, partition: PartitionIndex(0) });
            let replicas = replicas.into_iter().collect();
            records_of(image.decide_replicas_unfit(NodeId(*node), epoch, &replicas))
        }
        Step::Propose { name, isr, unfit, recovering } => {
            let name = topic_name(*name);
            let Some(leader) =
                image.partition(&name, PartitionIndex(0)).and_then(|state| state.leader)
            else {
                return Vec::new();
            };
            let mut members: Vec<_> =
                isr.iter().filter(|id| image.node(NodeId(**id)).is_some()).copied().collect();
            members.push(leader.0);
            members.sort_unstable();
            members.dedup();
            let unfit = nodes(unfit);
            let proposal = AlterPartition {
                unfit,
                recovering: *recovering && members.len() == 1,
                ..cluster.proposal(&name, &members)
            };
            image.decide_alter_partitions(&[proposal], policy).records
        }
        Step::Reassign { name, target } => {
            let target = target.as_deref().map(nodes);
            let topic = topic_name(*name);
            let request = Reassign { topic, partition: PartitionIndex(0), target };
            image.decide_reassign(&[request], policy).records
        }
        Step::ElectPreferred => image.decide_elect_all_preferred().records,
        Step::ElectUnclean { name, nodes } => {
            let partition =
                PartitionReference { topic: topic_name(*name), partition: PartitionIndex(0) };
            let known = nodes.iter().filter_map(|id| image.node(NodeId(*id)));
            let candidates = known.map(|node| Candidate {
                node: node.id,
                broker_epoch: node.broker_epoch,
                last_epoch: LeaderEpoch(0),
                durable_end: Offset(0),
            });
            let state = image.partition(&partition.topic, partition.partition);
            let partition_epoch = state.map_or(PartitionEpoch(0), |state| state.partition_epoch);
            let candidates = candidates.collect();
            let request = ElectUnclean { partition, partition_epoch, candidates };
            image.decide_elect_unclean(&request).map(|d| d.records).unwrap_or_default()
        }
        Step::Fence { node } => records_of(image.decide_fence(NodeId(*node))),
        Step::Create { name, partitions, factor, minimum } => {
            let topic = CreateTopic {
                name: topic_name(*name),
                partition_count: *partitions,
                replication_factor: *factor,
                assignments: BTreeMap::new(),
                configs: vec![("min.insync.replicas".to_owned(), Some(minimum.to_string()))],
                new_topic_id: TopicId(uuid(5000 + number)),
            };
            image.decide_create_topics(&[topic], false, u64::from(number), policy).records
        }
        Step::Delete { name } => {
            let topic = TopicReference::Name(topic_name(*name));
            image.decide_delete_topics(&[topic], policy).records
        }
        Step::Grow { name, partitions } => {
            let topics = vec![GrowTopic {
                name: topic_name(*name),
                partition_count: *partitions,
                assignments: Vec::new(),
            }];
            let request = CreatePartitions { topics, validate_only: false };
            image.decide_create_partitions(&request, u64::from(number), policy).records
        }
        Step::Minimum { name, minimum } => {
            let target = ConfigTarget::Topic(topic_name(*name));
            alter(image, policy, target, "min.insync.replicas", minimum.map(|m| m.to_string()))
        }
        Step::Durability { name, replicated } => {
            let target = ConfigTarget::Topic(topic_name(*name));
            let value = replicated.then(|| "replicated".to_owned());
            alter(image, policy, target, "thalweg.durability", value)
        }
        Step::ClusterMinimum { minimum } => {
            let value = minimum.map(|m| m.to_string());
            alter(image, policy, ConfigTarget::Cluster, "min.insync.replicas", value)
        }
        Step::ProducerIds { node } => {
            let epoch = image.node(NodeId(*node)).map(|node| node.broker_epoch);
            let epoch = epoch.unwrap_or(BrokerEpoch::NONE);
            let decision = image.decide_allocate_producer_ids(NodeId(*node), epoch);
            decision.map(|decision| decision.records).unwrap_or_default()
        }
    }
}

fn alter(
    image: &Image,
    policy: &Policy,
    target: ConfigTarget,
    name: &str,
    value: Option<String>,
) -> Vec<Record> {
    let name = name.to_owned();
    let change = match value {
        Some(value) => ConfigChange::Set { name, value },
        None => ConfigChange::Delete { name },
    };
    let resources = vec![ConfigAlteration { target, changes: vec![change], replace: false }];
    image.decide_alter_configs(&AlterConfigs { resources, validate_only: false }, policy).records
}

fn check_partitions(before: &Image, after: &Image) {
    for topic in after.topics() {
        for (index, new) in &topic.partitions {
            let live_in_sync = new.isr.iter().all(|id| after.is_live(*id));
            assert!(live_in_sync, "a fenced node is in sync: {new:?}");
            assert!(new.leader.is_none_or(|leader| new.isr.contains(&leader)), "{new:?}");
            assert_eq!(new.leader.is_none(), new.isr.is_empty(), "{new:?}");
            assert!(new.elr.iter().all(|id| !new.isr.contains(id)), "{new:?}");
            let members: Vec<_> = new.isr.iter().chain(&new.elr).collect();
            assert!(members.iter().all(|id| new.replicas.contains(id)), "{new:?}");
            assert!(new.isr.len() < new.min_isr as usize || new.elr.is_empty(), "{new:?}");
            assert!((1..=new.replicas.len()).contains(&(new.min_isr as usize)), "{new:?}");
            let moving = || new.adding.iter().chain(&new.removing);
            assert!(moving().all(|id| new.replicas.contains(id)), "{new:?}");
            let distinct: BTreeSet<_> = new.replicas.iter().collect();
            assert_eq!(distinct.len(), new.replicas.len(), "{new:?}");
            let electable = new.elr.iter().any(|id| after.is_live(*id));
            assert!(new.leader.is_some() || !electable, "an eligible replica is not used: {new:?}");

            let id = TopicIdPartition { topic_id: topic.id, partition: *index };
            if let Some(old) = before.partition_by_id(id) {
                let epochs = |p: &Partition| (p.leader_epoch, p.partition_epoch);
                assert!(new == old || new.partition_epoch > old.partition_epoch);
                assert!(new.leader == old.leader || new.leader_epoch > old.leader_epoch);
                assert!(epochs(new) >= epochs(old));
                let left = old.replicas.iter().any(|id| !new.replicas.contains(id));
                assert!(!left || new.leader_epoch > old.leader_epoch, "{old:?} to {new:?}");
            }
        }
        let dense = (0..).map(PartitionIndex).take(topic.partitions.len());
        assert!(topic.partitions.keys().copied().eq(dense));
    }
}

/// Takes the cluster through the steps, and a follower and a store beside it.
fn live(mut cluster: Cluster, steps: &[Step]) -> Result<(), TestCaseError> {
    // What a follower has, and what the key-value store has.
    let mut follower = cluster.image.clone();
    let mut stored: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
    for record in cluster.image.to_records() {
        stored.insert(record.key().to_bytes(), record);
    }
    let mut ids: BTreeMap<DirId, NodeId> = BTreeMap::new();

    for (number, step) in (0..).zip(steps) {
        let before = cluster.image.clone();
        let records = decide(&cluster, step, number);
        let keys = {
            let mut image = before.clone();
            let mut keys = BTreeSet::new();
            for record in &records {
                keys.extend(image.keys_changed_by(record));
                image.apply(image.position(), record);
            }
            keys
        };
        cluster.commit(&records);
        let image = &cluster.image;
        for record in &records {
            follower.apply(image.position(), record);
        }
        for key in keys {
            match image.record_at(&key) {
                Some(record) => stored.insert(key.to_bytes(), record),
                None => stored.remove(&key.to_bytes()),
            };
        }

        check_partitions(&before, image);
        check_coordinators(&before, image);
        prop_assert!(image.next_producer_id() >= before.next_producer_id());
        for node in image.nodes() {
            let known = ids.entry(node.dir_id).or_insert(node.id);
            prop_assert_eq!(*known, node.id, "a disk keeps its id");
        }
        let distinct: BTreeSet<_> = ids.values().collect();
        prop_assert_eq!(distinct.len(), ids.len(), "no id has two disks");
    }

    prop_assert_eq!(&follower, &cluster.image);
    let snapshot = cluster.image.to_records();
    let position: Position = cluster.image.position();
    prop_assert_eq!(&Image::restore(position, &snapshot), &cluster.image);
    prop_assert_eq!(&Image::restore(position, stored.values()), &cluster.image);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_life_keeps_the_invariants_and_survives_snapshots(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        live(Cluster::new(), &steps)?;
    }

    #[test]
    fn every_partition_of_an_internal_topic_has_one_coordinator_with_an_even_share(
        steps in proptest::collection::vec(coordinators::step(), 1..60)
    ) {
        live(Cluster::of_brokers(1), &steps)?;
    }
}
