//! `thalweg config`: whose configs, and what to do with them.

use clap::{Args, Subcommand, ValueEnum};
use thalweg_types::TopicName;

use super::Output;
use super::values::Config as Setting;

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show configs, with where each value is from.
    #[command(after_help = "Examples:
  thalweg config describe topic orders
  thalweg config describe broker 1 --all
  thalweg config describe cluster --output json

What is not set is at its default and left out, unless --all asks for it. Values come from, the strongest first:
the topic, its broker, all brokers (`cluster`), the broker's settings file, the default.")]
    Describe(Describe),
    /// Set configs; they take effect at once.
    #[command(after_help = "Examples:
  thalweg config set topic orders retention.ms=1d segment.bytes=256MiB
  thalweg config set broker 1 message.max.bytes=2MiB
  thalweg config set cluster log.retention.ms=7d --dry-run

Values of .ms configs may have a unit (ms, s, m, h, d, w), those of .bytes configs too (kB, MB, GB, TB, KiB, MiB,
GiB, TiB). All changes of one call happen, or none.")]
    Set(Change),
    /// Take configs back to their defaults.
    #[command(after_help = "Example:
  thalweg config unset topic orders retention.ms segment.bytes")]
    Unset(Change),
    /// Add items to lists.
    #[command(after_help = "Example:
  thalweg config append topic orders cleanup.policy=compact")]
    Append(Change),
    /// Take items out of lists.
    #[command(after_help = "Example:
  thalweg config subtract topic orders cleanup.policy=delete")]
    Subtract(Change),
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Whose configs.
    kind: Kind,
    /// Names of topics, or ids of brokers [default: all brokers there are].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Also what is at its default.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Whose configs.
    kind: Kind,
    /// Name of the topic or id of the broker (nothing for the cluster), and then the configs.
    #[arg(value_name = "NAME CONFIG[=VALUE]", required = true)]
    arguments: Vec<String>,
    /// Check everything, change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What can have configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A topic.
    Topic,
    /// One broker.
    Broker,
    /// All brokers that have no value of their own.
    Cluster,
}

/// One owner of configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    Topic(TopicName),
    Broker(i32),
    AllBrokers,
}

impl Describe {
    /// `None`: every broker.
    pub(crate) fn resources(&self) -> Result<Option<Vec<Resource>>, String> {
        match (self.kind, &self.names[..]) {
            (Kind::Broker, []) => Ok(None),
            (Kind::Topic, []) => {
                Err("which topic? for example: thalweg config describe topic orders".to_owned())
            }
            (Kind::Cluster, []) => Ok(Some(vec![Resource::AllBrokers])),
            (Kind::Cluster, [name, ..]) => Err(format!("{name:?}: the cluster has no name")),
            (kind, names) => {
                names.iter().map(|name| named(kind, name)).collect::<Result<_, _>>().map(Some)
            }
        }
    }
}

impl Change {
    /// Whose configs, and which, each with its value.
    pub(crate) fn settings(&self) -> Result<(Resource, Vec<Setting>), String> {
        let (resource, settings) = self.split()?;
        Ok((resource, settings.iter().map(|text| text.parse()).collect::<Result<_, _>>()?))
    }

    /// Whose configs, and which.
    pub(crate) fn names(&self) -> Result<(Resource, Vec<String>), String> {
        let (resource, names) = self.split()?;
        match names.iter().find(|name| name.contains('=')) {
            Some(name) => Err(format!("{name:?}: only the name, without a value")),
            None => Ok((resource, names.to_vec())),
        }
    }

    fn split(&self) -> Result<(Resource, &[String]), String> {
        let (resource, configs) = match (self.kind, self.arguments.split_first()) {
            (Kind::Cluster, _) => (Resource::AllBrokers, &self.arguments[..]),
            (kind, Some((name, configs))) => (named(kind, name)?, configs),
            (_, None) => return Err("whose configs?".to_owned()),
        };
        match configs {
            [] => Err(format!("which configs of {resource}?")),
            configs => Ok((resource, configs)),
        }
    }
}

fn named(kind: Kind, name: &str) -> Result<Resource, String> {
    match kind {
        Kind::Topic => TopicName::new(name)
            .map(Resource::Topic)
            .map_err(|rule| format!("{name:?} is not the name of a topic: {rule}")),
        Kind::Broker => match name.parse() {
            Ok(id @ 0..) => Ok(Resource::Broker(id)),
            _ => Err(format!("{name:?} is not the id of a broker, such as 1")),
        },
        Kind::Cluster => Ok(Resource::AllBrokers),
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::AllBrokers => f.write_str("all brokers"),
        }
    }
}
