//! What the assignors promise, on chosen and on random groups.

use proptest::prelude::*;
use thalweg_types::{PartitionIndex, Uuid};

use super::*;

/// A member of a test: its id, its instance, the numbers of its topics.
#[derive(Debug, Clone)]
struct Member {
    id: String,
    instance_id: Option<String>,
    topics: Vec<u8>,
    target: PartitionSet,
}

fn topic(number: u8) -> TopicId {
    let mut bytes = [0; 16];
    bytes[15] = number;
    TopicId(Uuid::from_bytes(bytes))
}

fn member(id: &str, topics: &[u8]) -> Member {
    let (id, topics) = (id.to_owned(), topics.to_vec());
    Member { id, instance_id: None, topics, target: PartitionSet::EMPTY }
}

fn set(pairs: &[(u8, i32)]) -> PartitionSet {
    pairs.iter().map(|(number, index)| (topic(*number), PartitionIndex(*index))).collect()
}

fn counts(counts: &[(u8, i32)]) -> BTreeMap<TopicId, i32> {
    counts.iter().map(|(number, count)| (topic(*number), *count)).collect()
}

fn assign(
    assignor: Assignor,
    members: &[Member],
    counts: &BTreeMap<TopicId, i32>,
) -> Vec<PartitionSet> {
    let subscribers: Vec<Subscriber<'_>> = members
        .iter()
        .map(|member| Subscriber {
            member_id: &member.id,
            instance_id: member.instance_id.as_deref(),
            topics: member.topics.iter().map(|number| topic(*number)).collect(),
            target: &member.target,
        })
        .collect();
    assignor.assign(&subscribers, counts)
}

/// Every partition with a subscriber has one owner, who is subscribed to it.
fn assert_complete(members: &[Member], counts: &BTreeMap<TopicId, i32>, sets: &[PartitionSet]) {
    assert_eq!(members.len(), sets.len());
    let mut owned = PartitionSet::EMPTY;
    for (member, set) in members.iter().zip(sets) {
        assert!(set.topics().all(|(id, _)| member.topics.iter().any(|n| topic(*n) == id)));
        assert!(owned.is_disjoint(set), "owned twice");
        owned = owned.union(set);
    }
    let is_subscribed =
        |id: TopicId| members.iter().flat_map(|member| &member.topics).any(|n| topic(*n) == id);
    let wanted: PartitionSet = counts
        .iter()
        .filter(|(id, _)| is_subscribed(**id))
        .flat_map(|(id, count)| (0..*count).map(move |index| (*id, PartitionIndex(index))))
        .collect();
    assert_eq!(owned, wanted);
}

#[test]
fn a_group_without_members_owns_nothing() {
    for assignor in Assignor::ALL {
        assert!(assign(*assignor, &[], &counts(&[(1, 3)])).is_empty());
    }
}

#[test]
fn uniform_shares_differ_by_one_at_most() {
    let members = ["a", "b", "c"].map(|id| member(id, &[1, 2]));
    let sets = assign(Assignor::Uniform, &members, &counts(&[(1, 4), (2, 3)]));
    assert_eq!(sets.iter().map(PartitionSet::len).collect::<Vec<_>>(), [3, 2, 2]);
}

#[test]
fn uniform_spreads_every_topic() {
    let mut members = [member("a", &[1, 2]), member("b", &[1, 2])];
    let all: Vec<_> = (0..8).flat_map(|index| [(1, index), (2, index)]).collect();
    members[0].target = set(&all);
    let sets = assign(Assignor::Uniform, &members, &counts(&[(1, 8), (2, 8)]));
    for set in sets {
        assert_eq!((set.of_topic(topic(1)).len(), set.of_topic(topic(2)).len()), (4, 4));
    }
}

#[test]
fn uniform_moves_only_what_a_newcomer_needs() {
    let mut members = ["a", "b", "c"].map(|id| member(id, &[1]));
    members[0].target = set(&[(1, 0), (1, 1), (1, 2)]);
    members[1].target = set(&[(1, 3), (1, 4), (1, 5)]);
    let sets = assign(Assignor::Uniform, &members, &counts(&[(1, 6)]));
    assert!(sets[0].is_subset(&members[0].target) && sets[0].len() == 2);
    assert!(sets[1].is_subset(&members[1].target) && sets[1].len() == 2);
}

#[test]
fn uniform_with_other_subscriptions_finds_chains_of_moves() {
    // c can get nothing from a directly: b gives it what b gets back from a.
    let mut members = [member("a", &[1]), member("b", &[1, 2]), member("c", &[2])];
    members[0].target = set(&[(1, 0), (1, 1), (1, 2), (1, 3)]);
    members[1].target = set(&[(2, 0), (2, 1)]);
    let sets = assign(Assignor::Uniform, &members, &counts(&[(1, 4), (2, 2)]));
    assert_eq!(sets.iter().map(PartitionSet::len).collect::<Vec<_>>(), [2, 2, 2]);
    assert_complete(&members, &counts(&[(1, 4), (2, 2)]), &sets);
}

#[test]
fn range_gives_consecutive_partitions_and_co_partitions_topics_of_one_size() {
    let members = [member("b", &[1, 2]), member("a", &[1, 2])];
    let sets = assign(Assignor::Range, &members, &counts(&[(1, 3), (2, 3)]));
    assert_eq!(sets[1], set(&[(1, 0), (1, 1), (2, 0), (2, 1)]));
    assert_eq!(sets[0], set(&[(1, 2), (2, 2)]));
}

#[test]
fn range_divides_a_topic_among_its_subscribers_only() {
    let members = [member("a", &[1]), member("b", &[1, 2]), member("c", &[2])];
    let sets = assign(Assignor::Range, &members, &counts(&[(1, 2), (2, 3)]));
    assert_eq!(sets[0], set(&[(1, 0)]));
    assert_eq!(sets[1], set(&[(1, 1), (2, 0), (2, 1)]));
    assert_eq!(sets[2], set(&[(2, 2)]));
}

#[test]
fn range_keeps_the_place_of_a_static_member_that_comes_back_as_another_member() {
    let with_instance = |id: &str, instance: &str| {
        let instance_id = Some(instance.to_owned());
        Member { instance_id, ..member(id, &[1]) }
    };
    let before = [with_instance("x", "one"), with_instance("y", "two"), member("a", &[1])];
    let after = [member("a", &[1]), with_instance("m", "two"), with_instance("z", "one")];
    let old = assign(Assignor::Range, &before, &counts(&[(1, 6)]));
    let new = assign(Assignor::Range, &after, &counts(&[(1, 6)]));
    assert_eq!((&old[0], &old[1], &old[2]), (&new[2], &new[1], &new[0]));
}

#[test]
fn topics_that_do_not_exist_are_nobodys() {
    let mut members = [member("a", &[1, 9])];
    members[0].target = set(&[(9, 0), (1, 7)]);
    for assignor in Assignor::ALL {
        let sets = assign(*assignor, &members, &counts(&[(1, 2)]));
        assert_eq!(sets, [set(&[(1, 0), (1, 1)])]);
    }
}

#[test]
fn names_are_those_of_kafka() {
    for assignor in Assignor::ALL {
        assert_eq!(assignor.name().parse(), Ok(*assignor));
    }
    assert!("Uniform".parse::<Assignor>().is_err());
}

// ---- Random groups ----

const TOPICS: u8 = 5;

fn random_counts() -> impl Strategy<Value = BTreeMap<TopicId, i32>> {
    prop::collection::btree_map((0..TOPICS).prop_map(topic), 0_i32..7, 0..6)
}

/// Members with any subscriptions, and targets of an earlier assignment that may overlap, be foreign, or be out of date.
fn random_members(homogeneous: bool) -> impl Strategy<Value = Vec<Member>> {
    let topics = || prop::collection::btree_set(0..TOPICS, 0..5);
    let target = prop::collection::vec((0..TOPICS, 0_i32..8), 0..8);
    (topics(), prop::collection::vec((topics(), target, any::<bool>()), 0..7)).prop_map(
        move |(common, members)| {
            let make = |(position, (own, target, is_static)): (usize, (_, Vec<_>, bool))| {
                let topics = if homogeneous { &common } else { &own };
                let topics: &std::collections::BTreeSet<u8> = topics;
                Member {
                    id: format!("member-{}", (position * 5) % 7),
                    instance_id: is_static.then(|| format!("instance-{position}")),
                    topics: topics.iter().copied().collect(),
                    target: set(&target),
                }
            };
            members.into_iter().enumerate().map(make).collect()
        },
    )
}

/// The sum of squares of the most even assignment, found by trying out all of them.
fn least_squares(members: &[Member], counts: &BTreeMap<TopicId, i32>) -> usize {
    let partitions: Vec<TopicId> =
        counts.iter().flat_map(|(id, count)| (0..*count).map(move |_| *id)).collect();
    // Partitions of a topic are alike: sets of loads after each partition are enough.
    let mut reached = std::collections::BTreeSet::from([vec![0_usize; members.len()]]);
    for id in partitions {
        let mut next = std::collections::BTreeSet::new();
        for loads in &reached {
            for (position, member) in members.iter().enumerate() {
                if member.topics.iter().any(|number| topic(*number) == id) {
                    let mut loads = loads.clone();
                    loads[position] += 1;
                    next.insert(loads);
                }
            }
        }
        if !next.is_empty() {
            reached = next;
        }
    }
    reached.iter().map(|loads| loads.iter().map(|load| load * load).sum()).min().unwrap_or(0)
}

fn squares(sets: &[PartitionSet]) -> usize {
    sets.iter().map(|set| set.len() * set.len()).sum()
}

proptest! {
    #[test]
    fn every_partition_gets_one_owner_who_is_subscribed(
        members in random_members(false),
        counts in random_counts(),
    ) {
        for assignor in Assignor::ALL {
            let sets = assign(*assignor, &members, &counts);
            assert_complete(&members, &counts, &sets);
        }
    }

    #[test]
    fn uniform_is_even_and_moves_as_little_as_that_needs(
        members in random_members(true),
        counts in random_counts(),
    ) {
        let sets = assign(Assignor::Uniform, &members, &counts);
        assert_complete(&members, &counts, &sets);
        let loads: Vec<usize> = sets.iter().map(PartitionSet::len).collect();
        let (least, most) = (loads.iter().min(), loads.iter().max());
        prop_assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "{:?}", loads);

        // What each could keep: of partitions that two claim the first keeps them. Larger shares to those who could keep most.
        let mut claimed = PartitionSet::EMPTY;
        let mut could_keep = Vec::new();
        for member in &members {
            let valid = member.target.filtered(|id, index| {
                member.topics.iter().any(|number| topic(*number) == id)
                    && counts.get(&id).is_some_and(|count| index.0 < *count)
                    && !claimed.contains(id, index)
            });
            claimed = claimed.union(&valid);
            could_keep.push(valid.len());
        }
        let total: usize = loads.iter().sum();
        let count = members.len().max(1);
        could_keep.sort_unstable_by(|a, b| b.cmp(a));
        let most_kept: usize = could_keep
            .iter()
            .enumerate()
            .map(|(rank, kept)| (*kept).min(total / count + usize::from(rank < total % count)))
            .sum();
        let kept: usize = members
            .iter()
            .zip(&sets)
            .map(|(member, set)| set.intersection(&member.target).intersection(&claimed).len())
            .sum();
        prop_assert!(kept >= most_kept, "kept {} of {}", kept, most_kept);
    }

    #[test]
    fn uniform_with_any_subscriptions_is_as_even_as_can_be(
        members in random_members(false).prop_map(|mut all| { all.truncate(4); all }),
        counts in prop::collection::btree_map((0..TOPICS).prop_map(topic), 0_i32..4, 0..5),
    ) {
        let sets = assign(Assignor::Uniform, &members, &counts);
        prop_assert_eq!(squares(&sets), least_squares(&members, &counts));
    }

    #[test]
    fn an_assignment_that_is_even_already_stays(
        members in random_members(false),
        counts in random_counts(),
    ) {
        for assignor in Assignor::ALL {
            let first = assign(*assignor, &members, &counts);
            let again: Vec<Member> = members
                .iter()
                .zip(&first)
                .map(|(member, target)| Member { target: target.clone(), ..member.clone() })
                .collect();
            prop_assert_eq!(&assign(*assignor, &again, &counts), &first);
        }
    }
}
