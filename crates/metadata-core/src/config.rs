//! Configs: what can be set on topics and brokers, under Kafka's names, and what a topic's configs amount to.
//!
//! A topic config that is not set on the topic takes its value from the broker configs it is a synonym of, which may be set for one
//! broker, for all brokers, or in a broker's own settings file; the catalogue's default is last:
//!
//! ```text
//!  topic ─► one broker (dynamic) ─► all brokers (dynamic) ─► settings file (static) ─► default
//! ```

mod broker;
mod catalogue;
mod definition;
mod describe;
mod topic;

use std::collections::BTreeMap;

pub use broker::BrokerConfig;
pub use definition::{Definition, Elsewhere, InvalidConfig, Kind, Scope, Synonym};
pub(crate) use definition::{list_with, list_without};
pub(crate) use describe::value_on;
pub use describe::{
    Entry, Source, SourcedValue, describe_all_brokers, describe_broker, describe_topic,
};
pub use topic::TopicConfig;

/// Every topic config, in order of name.
pub fn topic_configs() -> &'static [Definition] {
    catalogue::TOPIC
}

/// Every broker config, in order of name.
pub fn broker_configs() -> &'static [Definition] {
    catalogue::BROKER
}

pub fn topic_config(name: &str) -> Option<&'static Definition> {
    find(catalogue::TOPIC, name)
}

pub fn broker_config(name: &str) -> Option<&'static Definition> {
    find(catalogue::BROKER, name)
}

fn find(sorted: &'static [Definition], name: &str) -> Option<&'static Definition> {
    sorted.binary_search_by(|definition| definition.name.cmp(name)).ok().map(|at| &sorted[at])
}

/// Broker configs from the settings a process was started with: known names, valid values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StaticConfigs(BTreeMap<&'static str, String>);

impl StaticConfigs {
    /// Checks every entry against the catalogue of broker configs.
    pub fn new<N: AsRef<str>, V: Into<String>>(
        entries: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, InvalidConfig> {
        entries
            .into_iter()
            .try_fold(Self::default(), |configs, (name, value)| configs.with(name.as_ref(), value))
    }

    /// With a value that the process found out by itself, such as its own id.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Result<Self, InvalidConfig> {
        let definition =
            broker_config(name).ok_or_else(|| InvalidConfig::unknown_of_brokers(name))?;
        let value = value.into();
        definition.check(&value)?;
        self.0.insert(definition.name, value);
        Ok(self)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests;
