//! Every config of a resource with its value and where the value is from: what DescribeConfigs answers.

use thalweg_types::{NodeId, TopicId};

use super::definition::{Definition, Kind, Scope, Synonym};
use super::{StaticConfigs, broker_config, broker_configs, topic_configs};
use crate::image::Image;
use crate::record::ConfigResource;

const MIN_IN_SYNC_REPLICAS: &str = "min.insync.replicas";

/// One config of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    /// `None`: not set.
    pub value: Option<String>,
    pub source: Source,
    /// Everything the value was chosen from, the strongest first; the config itself is among it.
    pub synonyms: Vec<SourcedValue>,
    pub kind: Kind,
    pub read_only: bool,
    pub documentation: &'static str,
}

/// A value of a config or of a synonym of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcedValue {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

/// Where a value is from, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
}

impl Source {
    /// Its number in a DescribeConfigs answer (KIP-226).
    pub fn wire_code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// Every topic config as it holds for `topic` on `broker` (`None`: on a broker without configs of its own).
pub fn describe_topic(
    image: &Image,
    topic: TopicId,
    broker: Option<NodeId>,
    settings: &StaticConfigs,
) -> Vec<Entry> {
    let resolver = Resolver { image, topic: Some(topic), broker, settings };
    topic_configs().iter().map(|definition| resolver.entry(definition)).collect()
}

/// Every broker config as it holds on `broker` (`None`: on a broker without configs of its own).
pub fn describe_broker(
    image: &Image,
    broker: Option<NodeId>,
    settings: &StaticConfigs,
) -> Vec<Entry> {
    let resolver = Resolver { image, topic: None, broker, settings };
    broker_configs().iter().map(|definition| resolver.entry(definition)).collect()
}

/// Every broker config that can be set for all brokers, with what is set and what holds where nothing is. What a broker's settings
/// file says is not known here.
pub fn describe_all_brokers(image: &Image) -> Vec<Entry> {
    let mut entries = describe_broker(image, None, &StaticConfigs::default());
    entries.retain(|entry| !entry.read_only);
    entries
}

/// The value of one config as it holds for `resource`, which is of the definition's kind.
pub(crate) fn value_on(
    image: &Image,
    resource: &ConfigResource,
    definition: &'static Definition,
    settings: &StaticConfigs,
) -> Option<String> {
    let (topic, broker) = match *resource {
        ConfigResource::Topic(id) => (Some(id), None),
        ConfigResource::Broker(id) => (None, Some(id)),
        ConfigResource::Cluster => (None, None),
    };
    Resolver { image, topic, broker, settings }.value(definition)
}

/// Finds values by going through the sources from the strongest to the weakest.
pub(super) struct Resolver<'a> {
    pub(super) image: &'a Image,
    pub(super) topic: Option<TopicId>,
    pub(super) broker: Option<NodeId>,
    pub(super) settings: &'a StaticConfigs,
}

impl Resolver<'_> {
    fn entry(&self, definition: &'static Definition) -> Entry {
        let synonyms = self.chain(definition);
        // A broker config that is not set says so, even where another one stands in for it: each is listed for itself.
        let shown = match self.topic {
            Some(_) => synonyms.first(),
            None => synonyms.iter().find(|value| value.name == definition.name),
        };
        Entry {
            name: definition.name,
            value: match shown {
                Some(value) => value.in_unit_of(definition),
                None => definition.default.map(str::to_owned),
            },
            source: synonyms.first().map_or(Source::Default, |first| first.source),
            synonyms,
            kind: definition.kind,
            read_only: definition.scope == Scope::ReadOnly,
            documentation: definition.doc,
        }
    }

    /// The value that counts, in the config's own unit.
    pub(super) fn value(&self, definition: &'static Definition) -> Option<String> {
        match self.chain(definition).first() {
            Some(first) => first.in_unit_of(definition),
            None => definition.default.map(str::to_owned),
        }
    }

    fn chain(&self, definition: &'static Definition) -> Vec<SourcedValue> {
        let mut chain = Vec::new();
        let mut push = |name, value: Option<&str>, source| {
            if let Some(value) = value {
                chain.push(SourcedValue { name, value: Some(value.to_owned()), source });
            }
        };
        let own = [Synonym { name: definition.name, factor: 1 }];
        let names: &[Synonym] = match self.topic {
            Some(topic) => {
                let resource = ConfigResource::Topic(topic);
                let value = self.image.config(&resource, definition.name);
                push(definition.name, value, Source::Topic);
                definition.synonyms
            }
            None if definition.synonyms.is_empty() => &own,
            None => definition.synonyms,
        };
        for Synonym { name, .. } in names {
            let per_broker =
                broker_config(name).is_some_and(|broker| broker.scope == Scope::Dynamic);
            let on_broker = self.broker.filter(|_| per_broker).map(ConfigResource::Broker);
            let value = on_broker.and_then(|resource| self.image.config(&resource, name));
            push(name, value, Source::DynamicBroker);
        }
        for Synonym { name, .. } in names {
            let value = self.image.config(&ConfigResource::Cluster, name);
            push(name, value, Source::DynamicDefaultBroker);
        }
        for Synonym { name, .. } in names {
            push(name, self.settings.get(name), Source::StaticBroker);
        }
        for Synonym { name, .. } in names {
            let default = match self.topic {
                Some(topic) if *name == MIN_IN_SYNC_REPLICAS => Some(self.min_in_sync(topic)),
                _ => broker_config(name).and_then(|broker| broker.default),
            };
            push(name, default, Source::Default);
        }
        chain
    }

    /// The default of `min.insync.replicas`: with three replicas and more, two, so that what is acknowledged outlives the loss of any one
    /// disk, and one broker may be away. With two it would cost the availability that the second one is for.
    fn min_in_sync(&self, topic: TopicId) -> &'static str {
        let topic = self.image.topic_by_id(topic);
        let first = topic.and_then(|topic| topic.partitions.values().next());
        // While it is moved, what it shall have in the end.
        match first.map_or(0, |first| first.replicas.len().saturating_sub(first.removing.len())) {
            3.. => "2",
            _ => "1",
        }
    }
}

impl SourcedValue {
    /// A synonym may count in a larger unit, such as hours for milliseconds. -1 is "none" in every unit.
    fn in_unit_of(&self, definition: &Definition) -> Option<String> {
        let value = self.value.clone()?;
        let synonym = definition.synonyms.iter().find(|synonym| synonym.name == self.name);
        match (synonym.map_or(1, |synonym| synonym.factor), value.parse::<i64>()) {
            (factor, Ok(number)) if factor != 1 && number > 0 => {
                Some(number.saturating_mul(factor).to_string())
            }
            _ => Some(value),
        }
    }
}
