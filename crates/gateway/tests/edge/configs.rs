//! Configs of topics and brokers.

use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;

use crate::rig::{Rig, assert_refused};
use proto::config_change::{Change, Unset};
use proto::config_resource::{AllBrokers, Resource};

fn topic(name: &str) -> Resource {
    Resource::Topic(name.to_owned())
}

fn all_brokers() -> Resource {
    Resource::AllBrokers(AllBrokers {})
}

fn set(value: &str) -> Change {
    Change::Set(value.to_owned())
}

fn resource(resource: Resource) -> Option<proto::ConfigResource> {
    Some(proto::ConfigResource { resource: Some(resource) })
}

fn alteration(of: Resource, changes: &[(&str, Change)]) -> proto::ConfigAlteration {
    let change = |(name, change): &(&str, Change)| proto::ConfigChange {
        name: (*name).to_owned(),
        change: Some(change.clone()),
    };
    proto::ConfigAlteration {
        resource: resource(of),
        changes: changes.iter().map(change).collect(),
    }
}

impl Rig {
    /// What each of the resources was refused for.
    async fn alter(&self, alterations: Vec<proto::ConfigAlteration>) -> Vec<Option<String>> {
        let request = proto::AlterConfigsRequest { alterations, validate_only: false };
        let altered = self.admin().alter_configs(request).await.unwrap().into_inner().resources;
        altered.into_iter().map(|one| one.error.map(|error| error.name)).collect()
    }

    async fn describe(&self, of: Resource) -> Vec<proto::DescribedConfig> {
        let request =
            proto::DescribeConfigsRequest { resources: resource(of).into_iter().collect() };
        let described = self.admin().describe_configs(request).await.unwrap().into_inner();
        let [one] = &described.resources[..] else { panic!("{described:?}") };
        assert_eq!(one.error, None);
        one.configs.clone()
    }

    async fn value(&self, of: Resource, name: &str) -> (String, proto::ConfigSource) {
        let configs = self.describe(of).await;
        let config = configs.into_iter().find(|config| config.name == name).unwrap();
        (config.value.clone().unwrap_or_default(), config.source())
    }
}

#[tokio::test]
async fn a_value_is_that_of_the_strongest_who_set_it() {
    use proto::ConfigSource::{AllBrokers, Broker, Default, Settings, Topic};
    let rig = Rig::start(&[("orders", 1)]).await;
    let retention = || rig.value(topic("orders"), "retention.ms");
    assert_eq!(retention().await, ("7200000".to_owned(), Settings), "from hours");
    for (of, name, value, source) in [
        (all_brokers(), "log.retention.ms", "3000", AllBrokers),
        (Resource::Broker(1), "log.retention.ms", "2000", Broker),
        (topic("orders"), "retention.ms", "1000", Topic),
    ] {
        assert_eq!(rig.alter(vec![alteration(of, &[(name, set(value))])]).await, [None]);
        assert_eq!(retention().await, (value.to_owned(), source));
    }
    let configs = rig.describe(topic("orders")).await;
    let config = configs.iter().find(|config| config.name == "retention.ms").unwrap();
    let found: Vec<_> =
        config.values.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
    assert_eq!(
        found,
        [
            ("retention.ms", "1000"),
            ("log.retention.ms", "2000"),
            ("log.retention.ms", "3000"),
            ("log.retention.hours", "2"),
            ("log.retention.hours", "168"),
        ]
    );
    assert_eq!((config.r#type.as_str(), config.read_only), ("long", false));
    assert!(!config.documentation.is_empty());

    let back = alteration(topic("orders"), &[("retention.ms", Change::Unset(Unset {}))]);
    assert_eq!(rig.alter(vec![back]).await, [None]);
    assert_eq!(retention().await, ("2000".to_owned(), Broker));
    let (unset, source) = rig.value(all_brokers(), "log.segment.bytes").await;
    assert_eq!((unset.as_str(), source), ("1073741824", Default));
}

#[tokio::test]
async fn lists_are_edited_and_a_check_changes_nothing() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let policy = async |change| {
        let one = alteration(topic("orders"), &[("cleanup.policy", change)]);
        assert_eq!(rig.alter(vec![one]).await, [None]);
        rig.value(topic("orders"), "cleanup.policy").await.0
    };
    assert_eq!(policy(Change::Append("compact".to_owned())).await, "delete,compact");
    assert_eq!(policy(Change::Subtract("delete".to_owned())).await, "compact");
    let request = proto::AlterConfigsRequest {
        alterations: vec![alteration(topic("orders"), &[("cleanup.policy", set("delete"))])],
        validate_only: true,
    };
    rig.admin().alter_configs(request).await.unwrap();
    assert_eq!(rig.value(topic("orders"), "cleanup.policy").await.0, "compact");
}

#[tokio::test]
async fn each_resource_of_a_request_is_refused_by_itself_with_name_value_and_range() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let refused = rig
        .alter(vec![
            alteration(topic("orders"), &[("retention.ms", set("5"))]),
            alteration(topic("no/name"), &[("retention.ms", set("5"))]),
            alteration(topic("absent"), &[("retention.ms", set("5"))]),
            alteration(all_brokers(), &[("no.such.config", set("5"))]),
            alteration(Resource::Broker(1), &[("num.partitions", set("5"))]),
            alteration(Resource::Broker(9), &[("log.retention.ms", set("5"))]),
            proto::ConfigAlteration::default(),
        ])
        .await;
    let names: Vec<_> = refused.iter().map(|name| name.as_deref().unwrap_or("")).collect();
    assert_eq!(
        names,
        [
            "",
            "INVALID_TOPIC_EXCEPTION",
            "UNKNOWN_TOPIC_OR_PARTITION",
            "INVALID_CONFIG",
            "INVALID_CONFIG",
            "BROKER_ID_NOT_REGISTERED",
            "INVALID_REQUEST"
        ]
    );
    let wrong = alteration(topic("orders"), &[("segment.bytes", set("14"))]);
    let request = proto::AlterConfigsRequest { alterations: vec![wrong], validate_only: false };
    let altered = rig.admin().alter_configs(request).await.unwrap().into_inner();
    let message = &altered.resources[0].error.as_ref().unwrap().message;
    for part in ["segment.bytes", "\"14\"", "1048576 to 2147483647"] {
        assert!(message.contains(part), "{message}");
    }

    let resources = [topic("orders"), topic("absent"), Resource::Broker(9)];
    let resources = resources.into_iter().filter_map(resource).collect();
    let request = proto::DescribeConfigsRequest { resources };
    let described = rig.admin().describe_configs(request).await.unwrap().into_inner().resources;
    let refused: Vec<_> = described.iter().map(|one| one.error.is_some()).collect();
    assert_eq!(refused, [false, true, true]);

    let request = proto::AlterConfigsRequest::default();
    let error = Error::from(rig.admin().alter_configs(request).await.unwrap_err());
    assert_refused(&error, ErrorCode::InvalidRequest);
}
