//! Creating, growing and deleting topics.

use super::*;

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    result.unwrap_err().code()
}

#[test]
fn a_topic_is_created_with_the_defaults_of_the_settings() {
    let mut cluster = Cluster::of_brokers(3)
        .with_settings(&[("num.partitions", "6"), ("default.replication.factor", "2")]);
    let request = cluster.topic("orders");
    let created = cluster.create_one(request).unwrap();
    assert_eq!((created.partition_count, created.replication_factor), (6, 2));
    assert_eq!(created.configs.len(), crate::config::topic_configs().len());
    let topic = cluster.image.topic("orders").unwrap();
    assert_eq!(topic.id, created.topic_id);
    let led = |node| topic.partitions.values().filter(|p| p.leader == Some(NodeId(node))).count();
    assert_eq!([led(1), led(2), led(3)], [2, 2, 2], "leaders are spread evenly");
    for partition in topic.partitions.values() {
        assert_eq!(partition.isr, partition.replicas);
        assert_eq!(partition.replicas.len(), 2);
        assert_ne!(partition.replicas[0], partition.replicas[1]);
        assert_eq!((partition.min_isr, partition.durability), (1, Durability::Fsync));
    }
}

#[test]
fn each_topic_of_a_request_is_decided_by_itself() {
    let mut cluster = Cluster::of_brokers(1);
    let request: Vec<_> =
        ["a", "twice", "no/slash", "twice", "b"].map(|name| cluster.topic(name)).into();
    let results = cluster.create(&request);
    let codes: Vec<_> = results.iter().map(|r| r.as_ref().map_err(Error::code).err()).collect();
    let twice = Some(ErrorCode::InvalidRequest);
    assert_eq!(codes, [None, twice, Some(ErrorCode::InvalidTopicException), twice, None]);
    assert_eq!(cluster.image.topic_count(), 2);
}

#[test]
fn names_that_exist_or_collide_are_refused_within_a_request_too() {
    let mut cluster = Cluster::of_brokers(1);
    let request = ["a.b", "a_b"].map(|name| cluster.topic(name));
    let results = cluster.create(&request);
    assert!(results[0].is_ok());
    let collision = results[1].as_ref().unwrap_err();
    assert_eq!(collision.code(), ErrorCode::InvalidTopicException);
    assert!(collision.to_string().contains("a.b"), "{collision}");
    let again = cluster.topic("a.b");
    assert_eq!(code(cluster.create_one(again)), ErrorCode::TopicAlreadyExists);
}

#[test]
fn impossible_counts_are_refused() {
    let mut cluster = Cluster::of_brokers(2);
    let base = cluster.topic("t");
    for count in [0, -2, i32::MIN, PARTITIONS_PER_TOPIC_MAX + 1] {
        let topic = CreateTopic { partition_count: count, ..base.clone() };
        assert_eq!(code(cluster.create_one(topic)), ErrorCode::InvalidPartitions, "{count}");
    }
    for factor in [0, -2, 3, i16::MAX, i16::MIN] {
        let topic = CreateTopic { replication_factor: factor, ..base.clone() };
        assert_eq!(
            code(cluster.create_one(topic)),
            ErrorCode::InvalidReplicationFactor,
            "{factor}"
        );
    }
    cluster.fence(NodeId(2));
    let topic = CreateTopic { replication_factor: 2, ..base };
    let refused = cluster.create_one(topic).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "replication factor 2 cannot be reached: 1 of 2 registered brokers are live"
    );
    assert_eq!(cluster.image.topic_count(), 0);
}

#[test]
fn one_request_cannot_make_more_partitions_than_one_entry_holds() {
    let mut cluster = Cluster::of_brokers(1);
    let request = ["a", "b"].map(|name| CreateTopic {
        partition_count: PARTITIONS_PER_TOPIC_MAX,
        ..cluster.topic(name)
    });
    let results = cluster.create(&request);
    assert!(results[0].is_ok());
    assert_eq!(code(results[1].clone()), ErrorCode::PolicyViolation);
}

#[test]
fn assignments_must_be_dense_even_and_of_known_brokers() {
    let mut cluster = Cluster::of_brokers(3);
    type Assignments = &'static [(i32, &'static [i32])];
    let cases: [(Assignments, &str); 7] = [
        (&[(1, &[1])], "not from 0"),
        (&[(0, &[1]), (2, &[1])], "a gap"),
        (&[(-1, &[1])], "negative"),
        (&[(0, &[])], "no replicas"),
        (&[(0, &[1, 1])], "twice"),
        (&[(0, &[1, 9])], "unknown"),
        (&[(0, &[1, 2]), (1, &[3])], "uneven"),
    ];
    for (assignments, why) in cases {
        let mut topic = cluster.topic("t");
        topic.assignments = assignments
            .iter()
            .map(|(partition, ids)| (PartitionIndex(*partition), nodes(ids)))
            .collect();
        assert_eq!(code(cluster.create_one(topic)), ErrorCode::InvalidReplicaAssignment, "{why}");
    }
    let mut topic = cluster.topic("t");
    topic.assignments.insert(PartitionIndex(0), nodes(&[1]));
    topic.partition_count = 1;
    assert_eq!(code(cluster.create_one(topic)), ErrorCode::InvalidRequest);
}

#[test]
fn an_assigned_but_fenced_replica_is_out_of_sync_from_the_start() {
    let mut cluster = Cluster::of_brokers(2);
    cluster.fence(NodeId(1));
    cluster.create_on("t", &[1, 2], &[]);
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, &*partition.isr), (Some(NodeId(2)), &nodes(&[2])[..]));
    let mut topic = cluster.topic("dead");
    topic.assignments.insert(PartitionIndex(0), nodes(&[1]));
    assert_eq!(code(cluster.create_one(topic)), ErrorCode::InvalidReplicaAssignment);
}

#[test]
fn configs_must_be_known_valid_and_named_once() {
    let mut cluster = Cluster::of_brokers(1);
    let set = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    for configs in [
        vec![set("no.such", "1")],
        vec![set("retention.ms", "soon")],
        vec![("retention.ms".to_owned(), None)],
        vec![set("retention.ms", "1"), set("retention.ms", "2")],
        vec![set("num.partitions", "3")],
    ] {
        let topic = CreateTopic { configs, ..cluster.topic("t") };
        assert_eq!(code(cluster.create_one(topic)), ErrorCode::InvalidConfig);
    }
    cluster.create_on(
        "t",
        &[1],
        &[("min.insync.replicas", "3"), ("thalweg.durability", "replicated")],
    );
    let partition = cluster.partition("t");
    assert_eq!(partition.min_isr, 1, "at most the number of replicas");
    assert_eq!(partition.durability, Durability::Replicated);
}

#[test]
fn checking_only_answers_the_same_and_changes_nothing() {
    let mut cluster = Cluster::of_brokers(2);
    let topic = CreateTopic { partition_count: 4, ..cluster.topic("t") };
    let decision =
        cluster.image.decide_create_topics(std::slice::from_ref(&topic), true, 7, &cluster.policy);
    assert!(decision.records.is_empty());
    let checked = decision.response[0].clone().unwrap();
    assert_eq!((checked.partition_count, checked.topic_id), (4, TopicId::ZERO));
    let created = cluster.create_one(topic.clone()).unwrap();
    assert_eq!(created, CreatedTopic { topic_id: topic.new_topic_id, ..checked });
}

#[test]
fn a_deleted_topic_is_gone_with_its_configs_and_its_name_is_free() {
    let mut cluster = Cluster::of_brokers(1);
    let id = cluster.create_on("t", &[1], &[("retention.ms", "5")]);
    let other = cluster.create_on("u", &[1], &[]);
    let asked = [
        TopicReference::Name("t".to_owned()),
        TopicReference::Id(other),
        TopicReference::Name("missing".to_owned()),
        TopicReference::Id(TopicId(uuid(9))),
    ];
    let decision = cluster.image.decide_delete_topics(&asked, &cluster.policy);
    let keys: Vec<_> =
        decision.records.iter().flat_map(|r| cluster.image.keys_changed_by(r)).collect();
    let partition = TopicIdPartition { topic_id: id, partition: PartitionIndex(0) };
    assert!(keys.contains(&Key::Partition(partition)));
    assert!(keys.contains(&Key::Config(ConfigResource::Topic(id), "retention.ms".to_owned())));
    cluster.commit(&decision.records);
    let codes: Vec<_> =
        decision.response.iter().map(|r| r.as_ref().map_err(Error::code).err()).collect();
    let unknown = [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
    assert_eq!(codes, [None, None, Some(unknown[0]), Some(unknown[1])]);
    assert!(keys.iter().all(|key| cluster.image.record_at(key).is_none()));

    let again = cluster.create_on("t", &[1], &[]);
    assert_ne!(again, id);
    assert_eq!(cluster.image.configs(&ConfigResource::Topic(again)).count(), 0);
}

#[test]
fn the_same_topic_by_name_and_id_is_refused_and_deletion_can_be_disabled() {
    let mut cluster = Cluster::of_brokers(1);
    let id = cluster.create_on("t", &[1], &[]);
    let asked = [TopicReference::Name("t".to_owned()), TopicReference::Id(id)];
    let decision = cluster.image.decide_delete_topics(&asked, &cluster.policy);
    assert!(decision.records.is_empty());
    assert!(
        decision
            .response
            .iter()
            .all(|r| r.as_ref().unwrap_err().code() == ErrorCode::InvalidRequest)
    );

    let cluster = cluster.with_settings(&[("delete.topic.enable", "false")]);
    let decision = cluster.image.decide_delete_topics(&asked[..1], &cluster.policy);
    assert_eq!(code(decision.response[0].clone()), ErrorCode::TopicDeletionDisabled);
}

fn grow(name: &str, partition_count: i32, assignments: &[&[i32]]) -> CreatePartitions {
    let assignments = assignments.iter().map(|ids| nodes(ids)).collect();
    let topics = vec![GrowTopic { name: name.to_owned(), partition_count, assignments }];
    CreatePartitions { topics, validate_only: false }
}

#[test]
fn partitions_are_added_behind_those_that_exist() {
    let mut cluster = Cluster::of_brokers(2);
    cluster.create_on("t", &[1, 2], &[]);
    let decide = |cluster: &Cluster, request: &CreatePartitions| {
        cluster.image.decide_create_partitions(request, 7, &cluster.policy)
    };
    let decision = decide(&cluster, &grow("t", 3, &[]));
    assert_eq!(decision.response, [Ok(3)]);
    cluster.commit(&decision.records);
    let decision = decide(&cluster, &grow("t", 4, &[&[2, 1]]));
    cluster.commit(&decision.records);
    let topic = cluster.image.topic("t").unwrap();
    assert_eq!(topic.partition_count(), 4);
    assert!(topic.partitions.values().all(|partition| partition.replicas.len() == 2));
    assert_eq!(topic.partitions[&PartitionIndex(3)].leader, Some(NodeId(2)));

    for (request, expected) in [
        (grow("t", 4, &[]), ErrorCode::InvalidPartitions),
        (grow("t", 1, &[]), ErrorCode::InvalidPartitions),
        (grow("t", -1, &[]), ErrorCode::InvalidPartitions),
        (grow("t", i32::MAX, &[]), ErrorCode::InvalidPartitions),
        (grow("missing", 4, &[]), ErrorCode::UnknownTopicOrPartition),
        (grow("t", 6, &[&[1, 2]]), ErrorCode::InvalidReplicaAssignment),
        (grow("t", 5, &[&[1]]), ErrorCode::InvalidReplicaAssignment),
        (grow("t", 5, &[&[1, 9]]), ErrorCode::InvalidReplicaAssignment),
    ] {
        let decision = decide(&cluster, &request);
        assert!(decision.records.is_empty());
        assert_eq!(code(decision.response[0].clone()), expected, "{request:?}");
    }
    let checked = CreatePartitions { validate_only: true, ..grow("t", 9, &[]) };
    let decision = decide(&cluster, &checked);
    assert_eq!((decision.records.len(), &decision.response[..]), (0, &[Ok(9)][..]));
}

#[test]
fn replicas_are_spread_over_racks_while_there_are_any() {
    let mut cluster = Cluster::new();
    for disk in 1..=6 {
        let rack = Some(format!("rack-{}", disk % 3));
        let node_id = cluster.register(&RegisterNode { rack, ..broker(disk) }).unwrap().node_id;
        cluster.unfence(node_id);
    }
    let topic = CreateTopic { partition_count: 30, replication_factor: 3, ..cluster.topic("t") };
    cluster.create_one(topic).unwrap();
    let topic = cluster.image.topic("t").unwrap();
    let mut leaders: BTreeMap<NodeId, usize> = BTreeMap::new();
    for partition in topic.partitions.values() {
        let racks: BTreeSet<_> = partition.replicas.iter().map(|id| id.0 % 3).collect();
        assert_eq!(racks.len(), 3, "{:?}", partition.replicas);
        *leaders.entry(partition.replicas[0]).or_default() += 1;
    }
    assert!(leaders.len() == 6 && leaders.values().all(|count| *count == 5), "{leaders:?}");
}

#[test]
fn placement_is_the_same_for_the_same_seed_only() {
    let mut cluster = Cluster::of_brokers(5);
    let topic = CreateTopic { partition_count: 20, replication_factor: 3, ..cluster.topic("t") };
    let decide = |seed| {
        cluster.image.decide_create_topics(
            std::slice::from_ref(&topic),
            false,
            seed,
            &cluster.policy,
        )
    };
    assert_eq!(decide(1), decide(1));
    assert_ne!(decide(1).records, decide(2).records);
}

#[test]
fn of_three_replicas_two_must_be_in_sync_unless_something_else_is_said() {
    let mut cluster = Cluster::of_brokers(4);
    cluster.create_on("three", &[1, 2, 3], &[]);
    cluster.create_on("two", &[1, 2], &[]);
    cluster.create_on("said", &[1, 2, 3], &[("min.insync.replicas", "1")]);
    let minimum = |cluster: &Cluster, topic| cluster.partition(topic).min_isr;
    assert_eq!(["three", "two", "said"].map(|topic| minimum(&cluster, topic)), [2, 1, 1]);
    let id = cluster.image.topic("three").unwrap().id;
    let entries =
        crate::config::describe_topic(&cluster.image, id, None, &StaticConfigs::default());
    let entry = entries.iter().find(|entry| entry.name == "min.insync.replicas").unwrap();
    assert_eq!(entry.value.as_deref(), Some("2"));
    assert_eq!(entry.source, crate::config::Source::Default);

    // What it shall have in the end counts while it is moved.
    cluster.reassign("two", Some(&[3, 4])).unwrap();
    let moved = cluster.alter_partition(&cluster.proposal("two", &[1, 3, 4])).unwrap();
    assert_eq!((moved.replicas.len(), moved.min_isr), (2, 1));
    cluster.reassign("two", Some(&[3, 4, 1])).unwrap();
    let grown = cluster.alter_partition(&cluster.proposal("two", &[3, 4, 1])).unwrap();
    assert_eq!((grown.replicas.len(), grown.min_isr), (3, 2));
}
