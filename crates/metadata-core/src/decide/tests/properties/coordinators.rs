//! Lives in which coordinators come and go, and what must hold of their shares.

use super::*;

/// Of a cluster with a live broker.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let (disk, node, name) = (FIRST_COORDINATOR..FIRST_COORDINATOR + 4, 1_i32..6, 0_u32..2);
    let minimum = 1;
    prop_oneof![
        4 => disk.prop_map(|disk| Step::Register { disk, clean: false }),
        6 => node.clone().prop_map(|node| Step::Unfence { node }),
        2 => node.clone().prop_map(|node| Step::Fence { node }),
        1 => (node.clone(), any::<bool>())
            .prop_map(|(node, others_know)| Step::ShutDown { node, others_know }),
        1 => node.prop_map(|node| Step::Unregister { node }),
        2 => (name.clone(), 1..12).prop_map(
            move |(name, partitions)| Step::Create { name, partitions, factor: 1, minimum }
        ),
        1 => name.prop_map(|name| Step::Delete { name }),
    ]
}

pub(super) fn check_coordinators(before: &Image, after: &Image) {
    let live: BTreeSet<_> = after.live_coordinators().map(|node| node.id).collect();
    for topic in after.topics() {
        let mut counts: BTreeMap<_, usize> = live.iter().map(|node| (*node, 0)).collect();
        for partition in topic.partitions.keys() {
            let id = TopicIdPartition { topic_id: topic.id, partition: *partition };
            let Some(new) = after.coordinator_of(id) else {
                assert!(live.is_empty() || !topic.name.is_internal(), "{id:?} has no coordinator");
                continue;
            };
            assert!(topic.name.is_internal());
            assert_eq!(new.node.is_none(), live.is_empty(), "{id:?}: {new:?}");
            if let Some(node) = new.node {
                *counts.get_mut(&node).expect("it is assigned to a live coordinator") += 1;
            }
            let old = before.coordinator_of(id);
            assert!(old.is_none_or(|old| new == old || new.epoch > old.epoch), "{old:?} {new:?}");
        }
        let (most, least) = (counts.values().max(), counts.values().min());
        assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "{counts:?}");
        if before.topic_by_id(topic.id).is_some() && topic.name.is_internal() {
            check_moves(before, after, topic);
        }
    }
    let assigned = after.nodes().flat_map(|node| after.coordinated_by(node.id));
    let mut ids = assigned.map(|(id, _)| id);
    assert!(ids.all(|id| after.partition_by_id(id).is_some()), "of a topic that is gone");
}

/// Taken from those who are live is only what they have above an even share, the larger shares being theirs who have most.
fn check_moves(before: &Image, after: &Image, topic: &crate::Topic) {
    let mut kept: BTreeMap<NodeId, usize> =
        after.live_coordinators().map(|node| (node.id, 0)).collect();
    let mut moved = 0;
    for partition in topic.partitions.keys() {
        let id = TopicIdPartition { topic_id: topic.id, partition: *partition };
        let Some(old) = before.coordinator_of(id).and_then(|old| old.node) else { continue };
        if let Some(count) = kept.get_mut(&old) {
            *count += 1;
            moved += usize::from(after.coordinator_of(id).unwrap().node != Some(old));
        }
    }
    let mut counts: Vec<_> = kept.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let (total, nodes) = (topic.partitions.len(), counts.len().max(1));
    let share = |rank| total / nodes + usize::from(rank < total % nodes);
    let fewest: usize =
        counts.iter().enumerate().map(|(rank, count)| count.saturating_sub(share(rank))).sum();
    assert_eq!(moved, fewest, "{counts:?} of {total}");
}
