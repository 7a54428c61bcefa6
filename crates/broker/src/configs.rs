//! Configs as this broker sees them: those of topics as they hold here, its own, and the defaults of all brokers.

use thalweg_metadata_core::ConfigTarget;
use thalweg_metadata_core::config::{
    Entry, StaticConfigs, describe_all_brokers, describe_broker, describe_topic,
};
use thalweg_types::{ErrorCode, NodeId, TopicName};

use crate::broker::Broker;

/// Whose configs this broker cannot tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeConfigsError {
    #[error("there is no topic {0}")]
    UnknownTopic(TopicName),
    #[error("{0}")]
    InvalidTopic(String),
    #[error("this is broker {here}, it does not know the settings of broker {asked}: ask that one")]
    OtherBroker { here: NodeId, asked: NodeId },
}

impl DescribeConfigsError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::InvalidTopic(_) => ErrorCode::InvalidTopicException,
            Self::OtherBroker { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl Broker {
    /// Every config of a resource, set or not.
    pub fn describe_configs(
        &self,
        target: &ConfigTarget,
    ) -> Result<Vec<Entry>, DescribeConfigsError> {
        let image = self.image();
        let here = self.node_id;
        let settings = &self.options.static_configs;
        match target {
            ConfigTarget::Topic(name) => match image.topic(name) {
                Some(topic) => Ok(describe_topic(&image, topic.id, Some(here), settings)),
                None => Err(match TopicName::new(name) {
                    Ok(name) => DescribeConfigsError::UnknownTopic(name),
                    Err(rule) => DescribeConfigsError::InvalidTopic(rule.to_string()),
                }),
            },
            ConfigTarget::Broker(asked) if *asked == here => {
                Ok(describe_broker(&image, Some(here), settings))
            }
            ConfigTarget::Broker(asked) => {
                Err(DescribeConfigsError::OtherBroker { here, asked: *asked })
            }
            ConfigTarget::Cluster => Ok(describe_all_brokers(&image)),
        }
    }
}

/// What the settings file says, and what only the running broker knows of itself.
pub(crate) fn own_configs(
    configs: StaticConfigs,
    node_id: NodeId,
    log_dir: &std::path::Path,
    rack: Option<&str>,
) -> StaticConfigs {
    let mut own =
        vec![("node.id", node_id.to_string()), ("log.dirs", log_dir.display().to_string())];
    own.extend(rack.map(|rack| ("broker.rack", rack.to_owned())));
    own.into_iter().fold(configs, |configs, (name, value)| {
        // A path can be longer than configs may be; it is left out then.
        configs.clone().with(name, value).unwrap_or(configs)
    })
}
