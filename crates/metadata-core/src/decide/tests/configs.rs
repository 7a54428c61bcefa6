//! Altering configs.

use super::*;

fn alter(target: ConfigTarget, changes: &[(&str, Option<&str>)]) -> AlterConfigs {
    let changes = changes
        .iter()
        .map(|(name, value)| match value {
            Some(value) => {
                ConfigChange::Set { name: (*name).to_owned(), value: (*value).to_owned() }
            }
            None => ConfigChange::Delete { name: (*name).to_owned() },
        })
        .collect();
    alter_by(target, changes)
}

fn alter_by(target: ConfigTarget, changes: Vec<ConfigChange>) -> AlterConfigs {
    let alteration = ConfigAlteration { target, changes, replace: false };
    AlterConfigs { resources: vec![alteration], validate_only: false }
}

fn append(name: &str, items: &str) -> ConfigChange {
    ConfigChange::Append { name: name.to_owned(), items: items.to_owned() }
}

fn subtract(name: &str, items: &str) -> ConfigChange {
    ConfigChange::Subtract { name: name.to_owned(), items: items.to_owned() }
}

fn topic(name: &str) -> ConfigTarget {
    ConfigTarget::Topic(name.to_owned())
}

impl Cluster {
    fn alter(&mut self, request: &AlterConfigs) -> Vec<ItemResult<AlteredResource>> {
        let decision = self.image.decide_alter_configs(request, &self.policy);
        self.commit(&decision.records);
        decision.response
    }
}

#[test]
fn a_config_is_set_and_taken_back() {
    let mut cluster = Cluster::of_brokers(1);
    let id = cluster.create_on("t", &[1], &[]);
    let resource = ConfigResource::Topic(id);
    assert!(cluster.alter(&alter(topic("t"), &[("retention.ms", Some("5"))]))[0].is_ok());
    assert_eq!(cluster.image.config(&resource, "retention.ms"), Some("5"));
    assert!(cluster.alter(&alter(topic("t"), &[("retention.ms", None)]))[0].is_ok());
    assert_eq!(cluster.image.config(&resource, "retention.ms"), None);
    let nothing = alter(topic("t"), &[("retention.ms", None)]);
    let decision = cluster.image.decide_alter_configs(&nothing, &cluster.policy);
    assert!(decision.records.is_empty(), "it is the default already");
}

#[test]
fn a_list_is_appended_to_and_subtracted_from_as_it_holds_now() {
    let mut cluster = Cluster::of_brokers(1);
    let id = cluster.create_on("t", &[1], &[]);
    let resource = ConfigResource::Topic(id);
    let mut edit = |change| {
        let answer = cluster.alter(&alter_by(topic("t"), vec![change])).remove(0);
        let value = cluster.image.config(&resource, "cleanup.policy").map(str::to_owned);
        (answer.err().map(|error| error.code()), value)
    };
    let both = Some("delete,compact".to_owned());
    assert_eq!(edit(append("cleanup.policy", "compact")), (None, both.clone()), "to the default");
    assert_eq!(edit(append("cleanup.policy", " delete , compact")), (None, both));
    let compact = Some("compact".to_owned());
    assert_eq!(edit(subtract("cleanup.policy", "delete,nothing")), (None, compact.clone()));
    let refused = (Some(ErrorCode::InvalidConfig), compact);
    assert_eq!(edit(subtract("cleanup.policy", "compact")), refused, "it must not be empty");
    assert_eq!(edit(append("cleanup.policy", "shred")), refused);
    assert_eq!(edit(append("retention.ms", "1")), refused, "no list");
}

#[test]
fn a_list_does_not_grow_for_ever() {
    let mut cluster = Cluster::of_brokers(1);
    let id = cluster.create_on("t", &[1], &[]);
    let name = "leader.replication.throttled.replicas";
    let items = |from: i32| (from..from + 10_000).map(|at| format!("{at}:1,")).collect::<String>();
    let answers: Vec<_> = (0..6)
        .map(|round| {
            let change = append(name, &items(100_000 + round * 10_000));
            cluster.alter(&alter_by(topic("t"), vec![change])).remove(0).err()
        })
        .collect();
    let refused = answers.iter().flatten().map(|error| error.code()).collect::<Vec<_>>();
    assert_eq!(refused, [ErrorCode::InvalidConfig; 4], "ten thousand items have 90,000 bytes");
    let value = cluster.image.config(&ConfigResource::Topic(id), name).unwrap();
    assert_eq!(value.split(',').count(), 20_000);
}

#[test]
fn a_replacement_takes_back_what_it_does_not_name() {
    let mut cluster = Cluster::of_brokers(1);
    let id = cluster.create_on("t", &[1], &[("retention.ms", "5"), ("segment.ms", "6")]);
    let mut request = alter(topic("t"), &[("segment.ms", Some("7")), ("flush.ms", Some("8"))]);
    request.resources[0].replace = true;
    assert!(cluster.alter(&request)[0].is_ok());
    let configs: Vec<_> = cluster.image.configs(&ConfigResource::Topic(id)).collect();
    assert_eq!(configs, [("flush.ms", "8"), ("segment.ms", "7")]);

    let mut wrong = alter(topic("t"), &[("no.such", Some("1"))]);
    wrong.resources[0].replace = true;
    assert!(cluster.alter(&wrong)[0].is_err());
    assert_eq!(cluster.image.configs(&ConfigResource::Topic(id)).count(), 2, "all or nothing");
}

#[test]
fn a_resource_altered_twice_in_one_request_is_not_altered_at_all() {
    let mut cluster = Cluster::of_brokers(1);
    let id = cluster.create_on("t", &[1], &[]);
    cluster.create_on("other", &[1], &[]);
    let mut request = alter(topic("t"), &[("retention.ms", Some("5"))]);
    request.resources.push(request.resources[0].clone());
    request.resources.extend(alter(topic("other"), &[("retention.ms", Some("5"))]).resources);
    let answers = cluster.alter(&request);
    for answer in &answers[..2] {
        assert_eq!(answer.as_ref().unwrap_err().code(), ErrorCode::InvalidRequest);
    }
    assert!(answers[2].is_ok());
    assert_eq!(cluster.image.configs(&ConfigResource::Topic(id)).count(), 0);
}

#[test]
fn a_resource_is_altered_as_a_whole_or_not_at_all() {
    let mut cluster = Cluster::of_brokers(1);
    let id = cluster.create_on("t", &[1], &[]);
    let mixed = [("retention.ms", Some("5")), ("no.such", Some("1"))];
    for (request, expected) in [
        (alter(topic("t"), &mixed), ErrorCode::InvalidConfig),
        (alter(topic("missing"), &[]), ErrorCode::UnknownTopicOrPartition),
        (alter(ConfigTarget::Broker(NodeId(9)), &[]), ErrorCode::BrokerIdNotRegistered),
        (alter(ConfigTarget::Cluster, &[("num.partitions", Some("2"))]), ErrorCode::InvalidConfig),
        (
            alter(topic("t"), &[("retention.ms", Some("5")), ("retention.ms", None)]),
            ErrorCode::InvalidConfig,
        ),
    ] {
        assert_eq!(cluster.alter(&request)[0].as_ref().unwrap_err().code(), expected);
    }
    assert_eq!(cluster.image.configs(&ConfigResource::Topic(id)).count(), 0);
    let checked =
        AlterConfigs { validate_only: true, ..alter(topic("t"), &[("retention.ms", Some("5"))]) };
    assert!(cluster.alter(&checked)[0].is_ok());
    assert_eq!(cluster.image.configs(&ConfigResource::Topic(id)).count(), 0);
}

#[test]
fn partition_records_follow_their_configs_in_the_same_decision() {
    let mut cluster = Cluster::of_brokers(2);
    cluster.create_on("t", &[1, 2], &[]);
    cluster.create_on("own", &[1, 2], &[("min.insync.replicas", "1")]);
    let before = cluster.partition("t").clone();
    cluster.alter(&alter(ConfigTarget::Cluster, &[("min.insync.replicas", Some("5"))]));
    let after = cluster.partition("t");
    assert_eq!(after.min_isr, 2);
    assert_eq!(after.leader_epoch, before.leader_epoch);
    assert!(after.partition_epoch > before.partition_epoch);
    assert_eq!(cluster.partition("own").min_isr, 1, "its own config is stronger");
    cluster.alter(&alter(topic("t"), &[("thalweg.durability", Some("replicated"))]));
    assert_eq!(cluster.partition("t").durability, Durability::Replicated);
}

#[test]
fn a_change_of_the_minimum_forgets_the_eligible_replicas() {
    let mut cluster = Cluster::of_brokers(3);
    cluster.create_on("t", &[1, 2, 3], &[("min.insync.replicas", "3")]);
    cluster.fence(NodeId(3));
    assert_eq!(&*cluster.partition("t").elr, &nodes(&[3])[..]);
    cluster.alter(&alter(topic("t"), &[("min.insync.replicas", Some("2"))]));
    let partition = cluster.partition("t");
    assert_eq!((partition.min_isr, partition.elr.len()), (2, 0));
}

#[test]
fn a_change_of_the_minimum_keeps_the_eligible_replicas_where_nobody_is_in_sync() {
    let mut cluster = Cluster::of_brokers(2);
    cluster.create_on("t", &[1, 2], &[("min.insync.replicas", "2")]);
    cluster.fence(NodeId(1));
    cluster.fence(NodeId(2));
    cluster.alter(&alter(topic("t"), &[("min.insync.replicas", Some("1"))]));
    assert_eq!(&*cluster.partition("t").elr, &nodes(&[1, 2])[..]);
    cluster.unfence(NodeId(1));
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, partition.elr.len()), (Some(NodeId(1)), 0));
}

#[test]
fn other_settings_at_a_start_reach_the_partitions() {
    let mut cluster = Cluster::of_brokers(1);
    cluster.create_on("t", &[1], &[]);
    let mut cluster = cluster.with_settings(&[("thalweg.durability", "replicated")]);
    cluster.activate();
    assert_eq!(cluster.partition("t").durability, Durability::Replicated);
    let again = cluster.image.decide_activate(ClusterId(uuid(9)), &cluster.policy);
    assert!(again.records.is_empty());
}

#[test]
fn what_the_controller_goes_by_cannot_differ_between_brokers() {
    let mut cluster = Cluster::of_brokers(1);
    let on_one = ConfigTarget::Broker(NodeId(1));
    let mut code = |target: &ConfigTarget, value| {
        let answer = cluster.alter(&alter(target.clone(), &[("min.insync.replicas", value)]));
        answer[0].as_ref().err().map(|error| (error.code(), error.to_string()))
    };
    let (refused, why) = code(&on_one, Some("2")).unwrap();
    assert_eq!(refused, ErrorCode::InvalidConfig);
    assert!(why.contains("min.insync.replicas") && why.contains("all brokers"), "{why}");
    assert_eq!(code(&on_one, None), None, "what an older version left there can go");
    assert_eq!(code(&ConfigTarget::Cluster, Some("2")), None);
}

#[test]
fn one_topics_configs_move_that_topics_partitions_only() {
    let mut cluster = Cluster::of_brokers(2);
    let id = cluster.create_on("t", &[1, 2], &[]);
    // Behind the configs on purpose: nobody but an alteration of its own may look at it.
    let other = cluster.create_on("other", &[1, 2], &[]);
    let resource = ConfigResource::Topic(other);
    let (name, value) = ("min.insync.replicas".to_owned(), "2".to_owned());
    cluster.commit(&[Record::ConfigSet { resource, name, value }]);
    let request = alter(topic("t"), &[("min.insync.replicas", Some("2"))]);
    let decision = cluster.image.decide_alter_configs(&request, &cluster.policy);
    let moved: Vec<_> = decision
        .records
        .iter()
        .filter_map(|record| match record {
            Record::PartitionChanged { topic_id, .. } => Some(*topic_id),
            _ => None,
        })
        .collect();
    assert_eq!(moved, [id]);
    let all = alter(ConfigTarget::Cluster, &[("min.insync.replicas", Some("2"))]);
    assert!(cluster.image.decide_alter_configs(&all, &cluster.policy).records.len() > 1);
}
