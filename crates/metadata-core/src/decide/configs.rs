//! Alteration of configs, and what it means for partitions.

use std::collections::BTreeSet;
use std::fmt;

use thalweg_types::{Durability, NodeId};

use super::election::effective_min_isr;
use super::{Decision, ItemResult, Policy};
use crate::config::{self, Definition, InvalidConfig, Kind, Scope, TopicConfig};
use crate::error::Error;
use crate::image::{Image, Partition, Topic};
use crate::record::{ConfigResource, Record};

/// Changes to the configs of several resources, each of which is altered as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterConfigs {
    pub resources: Vec<ConfigAlteration>,
    /// Check only.
    pub validate_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigAlteration {
    pub target: ConfigTarget,
    pub changes: Vec<ConfigChange>,
    /// Whatever the changes do not name goes back to its default as well.
    pub replace: bool,
}

/// The resource as clients name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigTarget {
    Topic(String),
    Broker(NodeId),
    /// The default of every broker.
    Cluster,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    Set {
        name: String,
        value: String,
    },
    /// Back to the default.
    Delete {
        name: String,
    },
    /// Adds items to the list that holds now (KIP-339).
    Append {
        name: String,
        items: String,
    },
    /// Takes items out of the list that holds now.
    Subtract {
        name: String,
        items: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlteredResource {
    pub target: ConfigTarget,
    pub resource: ConfigResource,
}

impl Image {
    /// The answers are in the order of the request.
    pub fn decide_alter_configs(
        &self,
        request: &AlterConfigs,
        policy: &Policy,
    ) -> Decision<Vec<ItemResult<AlteredResource>>> {
        let mut records = Vec::new();
        let mut response = Vec::with_capacity(request.resources.len());
        let repeated = repeated_targets(request);
        for alteration in &request.resources {
            let altered = match repeated.contains(&alteration.target) {
                true => Err(Error::DuplicateConfigTarget(alteration.target.clone())),
                false => self.alter_resource(alteration, policy),
            };
            response.push(altered.map(|(resource, changes)| {
                records.extend(changes);
                AlteredResource { target: alteration.target.clone(), resource }
            }));
        }
        if request.validate_only {
            records.clear();
        } else {
            let following = self.with(&records).partitions_following(&records, policy);
            records.extend(following);
        }
        Decision { records, response }
    }

    fn alter_resource(
        &self,
        alteration: &ConfigAlteration,
        policy: &Policy,
    ) -> ItemResult<(ConfigResource, Vec<Record>)> {
        let resource = self.config_resource(&alteration.target)?;
        let mut names = BTreeSet::new();
        let mut records = Vec::new();
        for change in &alteration.changes {
            let name = change.name();
            if !names.insert(name) {
                return Err(Error::DuplicateConfig(name.to_owned()));
            }
            let definition = definition_for(&resource, change)?;
            let name = name.to_owned();
            match self.changed_value(change, &resource, definition, policy)? {
                Some(value) => {
                    definition.check(&value)?;
                    records.push(Record::ConfigSet { resource, name, value });
                }
                None if self.config(&resource, &name).is_some() => {
                    records.push(Record::ConfigRemoved { resource, name });
                }
                None => {}
            }
        }
        if alteration.replace {
            let others = self.configs(&resource).filter(|(name, _)| !names.contains(name));
            records.extend(others.map(|(name, _)| {
                let name = name.to_owned();
                Record::ConfigRemoved { resource, name }
            }));
        }
        Ok((resource, records))
    }

    /// The value to be set; `None` for back to the default. A list is changed from what holds for the resource now, be it set on it
    /// or not.
    fn changed_value(
        &self,
        change: &ConfigChange,
        resource: &ConfigResource,
        definition: &'static Definition,
        policy: &Policy,
    ) -> ItemResult<Option<String>> {
        let (edit, items): (fn(&str, &str) -> String, _) = match change {
            ConfigChange::Set { value, .. } => return Ok(Some(value.clone())),
            ConfigChange::Delete { .. } => return Ok(None),
            ConfigChange::Append { items, .. } => (config::list_with, items),
            ConfigChange::Subtract { items, .. } => (config::list_without, items),
        };
        if definition.kind != Kind::List {
            return Err(InvalidConfig::NotAList { name: definition.name }.into());
        }
        let now = config::value_on(self, resource, definition, &policy.settings);
        Ok(Some(edit(&now.unwrap_or_default(), items)))
    }

    fn config_resource(&self, target: &ConfigTarget) -> ItemResult<ConfigResource> {
        match target {
            ConfigTarget::Topic(name) => self
                .topic(name)
                .map(|topic| ConfigResource::Topic(topic.id))
                .ok_or_else(|| Error::UnknownTopicName(name.clone())),
            ConfigTarget::Broker(id) => {
                self.node(*id).ok_or(Error::UnknownNode(*id))?;
                Ok(ConfigResource::Broker(*id))
            }
            ConfigTarget::Cluster => Ok(ConfigResource::Cluster),
        }
    }

    /// Brings what partition records carry of the configs (effective `min.insync.replicas`, durability) in line with the configs: R10
    /// and R19.
    pub(super) fn partitions_following_configs(&self, policy: &Policy) -> Vec<Record> {
        self.topics().flat_map(|topic| self.topic_following_configs(topic, policy)).collect()
    }

    /// The same after the configs of `altered` changed: a topic's concern that topic, one broker's none, those of all brokers every
    /// topic.
    fn partitions_following(&self, altered: &[Record], policy: &Policy) -> Vec<Record> {
        let resources: BTreeSet<_> = altered.iter().filter_map(Record::config_resource).collect();
        if resources.contains(&ConfigResource::Cluster) {
            return self.partitions_following_configs(policy);
        }
        let topic = |resource: &ConfigResource| match resource {
            ConfigResource::Topic(id) => self.topic_by_id(*id),
            ConfigResource::Cluster | ConfigResource::Broker(_) => None,
        };
        let topics = resources.iter().filter_map(topic);
        topics.flat_map(|topic| self.topic_following_configs(topic, policy)).collect()
    }

    fn topic_following_configs(&self, topic: &Topic, policy: &Policy) -> Vec<Record> {
        let config = TopicConfig::resolve(self, topic.id, None, &policy.settings);
        topic.changes(|_, partition| Some(partition.following(&config)))
    }
}

impl Partition {
    fn following(&self, config: &TopicConfig) -> Self {
        let mut next = self.clone();
        next.set_durability(config.durability);
        next.set_min_isr(self.effective_min_isr(config.min_in_sync_replicas));
        next
    }

    /// R19: what was committed under `replicated` need not be on anybody's disk yet.
    fn set_durability(&mut self, durability: Durability) {
        if self.durability == durability {
            return;
        }
        self.durability = durability;
        self.unproven = match durability {
            Durability::Fsync => self.replicas.clone(),
            Durability::Replicated => Vec::new(),
        };
    }

    /// At most the number of assigned replicas; those that a reassignment is only adding do not raise it yet.
    pub(super) fn effective_min_isr(&self, configured: u32) -> u32 {
        effective_min_isr(configured, self.replicas.len() - self.adding.len())
    }
}

impl ConfigChange {
    pub fn name(&self) -> &str {
        match self {
            Self::Set { name, .. }
            | Self::Delete { name }
            | Self::Append { name, .. }
            | Self::Subtract { name, .. } => name,
        }
    }
}

impl fmt::Display for ConfigTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name:?}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Cluster => f.write_str("the default of all brokers"),
        }
    }
}

/// Two alterations of one resource could only be decided on the same state, and the second would undo the first.
fn repeated_targets(request: &AlterConfigs) -> BTreeSet<&ConfigTarget> {
    let mut seen = BTreeSet::new();
    let targets = request.resources.iter().map(|alteration| &alteration.target);
    targets.filter(|target| !seen.insert(*target)).collect()
}

fn definition_for(
    resource: &ConfigResource,
    change: &ConfigChange,
) -> ItemResult<&'static Definition> {
    let name = change.name();
    if let ConfigResource::Topic(_) = resource {
        return Ok(
            config::topic_config(name).ok_or_else(|| InvalidConfig::unknown_of_topics(name))?
        );
    }
    let definition =
        config::broker_config(name).ok_or_else(|| InvalidConfig::unknown_of_brokers(name))?;
    let name = definition.name;
    let goes_back = matches!(change, ConfigChange::Delete { .. });
    match (definition.scope, resource) {
        (Scope::ReadOnly, _) => Err(InvalidConfig::ReadOnly { name }.into()),
        (Scope::AllBrokers, ConfigResource::Broker(_)) if !goes_back => {
            Err(InvalidConfig::NotPerBroker { name }.into())
        }
        _ => Ok(definition),
    }
}
