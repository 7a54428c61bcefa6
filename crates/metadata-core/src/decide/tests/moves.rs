//! Plans for brokers that come and go.

use super::*;
use crate::StayReason;
use crate::placement::Placement;

/// Brokers in racks `a` and `b` by turns, and a topic of `partitions` partitions with two replicas on those that were there first.
fn cluster(brokers: u32, added: u32, partitions: i32) -> Cluster {
    let mut cluster = Cluster::new();
    let join = |cluster: &mut Cluster, disk: u32| {
        let rack = Some(if disk % 2 == 1 { "a" } else { "b" }.to_owned());
        let node_id = cluster.register(&RegisterNode { rack, ..broker(disk) }).unwrap().node_id;
        cluster.unfence(node_id);
    };
    (1..=brokers).for_each(|disk| join(&mut cluster, disk));
    let topic =
        CreateTopic { partition_count: partitions, replication_factor: 2, ..cluster.topic("t") };
    cluster.create_one(topic).unwrap();
    (brokers + 1..=brokers + added).for_each(|disk| join(&mut cluster, disk));
    cluster
}

/// What the plan's targets give each broker: preferred leaders and replicas. Everybody is in two racks.
fn loads(cluster: &Cluster, plan: &[Reassign]) -> BTreeMap<NodeId, (usize, usize)> {
    let topic = cluster.image.topic("t").unwrap();
    let mut loads: BTreeMap<NodeId, (usize, usize)> = BTreeMap::new();
    for (index, partition) in &topic.partitions {
        let planned = plan.iter().find(|reassign| reassign.partition == *index);
        let replicas =
            planned.and_then(|r| r.target.clone()).unwrap_or_else(|| partition.replicas.clone());
        let racks: BTreeSet<_> =
            replicas.iter().map(|id| cluster.image.node(*id).unwrap().rack.clone()).collect();
        assert_eq!((replicas.len(), racks.len()), (2, 2), "{replicas:?}");
        loads.entry(replicas[0]).or_default().0 += 1;
        replicas.iter().for_each(|id| loads.entry(*id).or_default().1 += 1);
    }
    loads
}

#[test]
fn an_evacuated_broker_keeps_nothing_and_the_others_share_what_it_had() {
    let cluster = cluster(6, 0, 24);
    let plan = cluster.image.plan_evacuation(&BTreeSet::from([NodeId(3)]), 1);
    let after = loads(&cluster, &plan);
    assert!(!after.contains_key(&NodeId(3)));
    let moved = cluster.image.topic("t").unwrap().partitions.values();
    let moved = moved.filter(|partition| partition.replicas.contains(&NodeId(3))).count();
    assert_eq!(plan.len(), moved, "nothing else moves");
    // 1 and 5 are in its rack.
    assert_eq!((after[&NodeId(1)].1, after[&NodeId(5)].1), (12, 12));
    assert!(after[&NodeId(1)].0.abs_diff(after[&NodeId(5)].0) <= 2, "{after:?}");
}

#[test]
fn new_brokers_get_their_share_and_no_rack_gets_both_replicas() {
    let cluster = cluster(4, 2, 24);
    let plan = cluster.image.plan_balance(usize::MAX, 1);
    let after = loads(&cluster, &plan);
    assert!(after.values().all(|(_, replicas)| replicas.abs_diff(8) <= 1), "{after:?}");
    assert_eq!(cluster.image.plan_balance(3, 1).len(), 3);
}

#[test]
fn a_plan_is_decided_like_any_reassignment() {
    let mut cluster = cluster(4, 2, 6);
    let plan = cluster.image.plan_balance(usize::MAX, 1);
    let decision = cluster.image.decide_reassign(&plan, &cluster.policy);
    assert!(decision.response.iter().all(Result::is_ok));
    cluster.commit(&decision.records);
    assert_eq!(cluster.image.reassignments().count(), plan.len());
    let rest = cluster.image.plan_balance(usize::MAX, 1);
    assert!(rest.iter().all(|r| plan.iter().all(|p| p.partition != r.partition)));
}

#[test]
fn where_there_is_no_other_broker_nothing_is_planned() {
    let cluster = cluster(2, 0, 4);
    let leaving = BTreeSet::from([NodeId(1)]);
    let plan = cluster.image.plan_evacuation(&leaving, 1);
    assert!(plan.is_empty());
    let staying = cluster.image.staying_after(&leaving, &plan);
    assert!(!staying.is_empty());
    assert!(staying.iter().all(|one| one.reason == StayReason::NoOtherBroker));
    assert!(cluster.image.plan_balance(usize::MAX, 1).is_empty());
}

#[test]
fn a_cordoned_broker_gets_nothing_and_keeps_what_it_has() {
    let mut cluster = cluster(3, 0, 6);
    let held = |cluster: &Cluster, id| {
        let topics = cluster.image.topics();
        let partitions = topics.flat_map(|topic| topic.partitions.values());
        partitions.filter(|partition| partition.replicas.contains(&NodeId(id))).count()
    };
    let before = held(&cluster, 2);
    let (resource, name) = (ConfigResource::Broker(NodeId(2)), "cordoned.log.dirs".to_owned());
    cluster.commit(&[Record::ConfigSet { resource, name: name.clone(), value: "*".to_owned() }]);
    assert!(cluster.image.is_cordoned(NodeId(2)) && !cluster.image.is_cordoned(NodeId(1)));
    let placed = Placement::new(&cluster.image, 7).place(12, 2);
    assert!(placed.iter().flatten().all(|id| *id != NodeId(2)), "{placed:?}");
    assert!(
        cluster.image.plan_balance(100, 1).iter().all(|step| !step
            .target
            .iter()
            .flatten()
            .any(|id| *id == NodeId(2)))
    );
    assert!(before > 0 && held(&cluster, 2) == before);

    cluster.commit(&[Record::ConfigRemoved { resource, name }]);
    let placed = Placement::new(&cluster.image, 7).place(12, 2);
    assert!(placed.iter().flatten().any(|id| *id == NodeId(2)), "{placed:?}");
}
