//! `thalweg cluster`: what can be asked and commanded of the nodes and of where replicas are.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use thalweg_types::TopicName;

use super::Output;
use super::values::Span;

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Show how the cluster is: nodes, and partitions that need attention.
    #[command(after_help = "Examples:
  thalweg cluster status
  thalweg cluster status --output json")]
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// List the nodes, what each leads and holds, and where it is reached.
    #[command(after_help = "Example:
  thalweg cluster nodes")]
    Nodes {
        #[command(flatten)]
        output: Output,
    },
    /// List the controllers that keep the metadata, and how far each of them is.
    #[command(after_help = "Example:
  thalweg cluster quorum")]
    Quorum {
        #[command(flatten)]
        output: Output,
    },
    /// Move partitions to other brokers.
    Reassign(Reassign),
    /// List the moves under way.
    #[command(after_help = "Example:
  thalweg cluster reassignments")]
    Reassignments {
        #[command(flatten)]
        output: Output,
    },
    /// Give leadership back to the preferred leaders, or to what is left where nobody leads.
    Elect(Elect),
    /// Take brokers out of the cluster for good: they are emptied, stopped and forgotten.
    Decommission(Decommission),
    /// Show or set the levels at which features of the whole cluster work.
    #[command(after_help = "Examples:
  thalweg cluster features
  thalweg cluster features group.version=1
  thalweg cluster features group.version=0 --downgrade

Level 0 is off. Raise a level when every node runs a version that supports it.")]
    Features {
        /// Levels to set; all of them are set, or none.
        #[arg(value_name = "NAME=LEVEL")]
        levels: Vec<FeatureLevel>,
        /// Lower the levels.
        #[arg(long, requires = "levels")]
        downgrade: bool,
        /// Check everything, change nothing.
        #[arg(long, requires = "levels")]
        dry_run: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Stop a broker in good order: what it leads is given to others first.
    #[command(after_help = "Examples:
  thalweg cluster shutdown-broker 3
  thalweg cluster shutdown-broker 3 --timeout 10m

Returns when the broker is gone. Its process ends; a supervisor may start it again.")]
    ShutdownBroker {
        #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
        node_id: i32,
        /// How long to wait. Units: ms, s, m, h.
        #[arg(long, value_name = "TIME", default_value = "2m")]
        timeout: Span,
        #[command(flatten)]
        output: Output,
    },
    /// Forget a broker that is gone for good.
    #[command(after_help = "Example:
  thalweg cluster reassign --empty-broker 3 --wait && thalweg cluster shutdown-broker 3 \\
    && thalweg cluster unregister-broker 3

A replica that is still assigned to it stays so, and counts as missing.")]
    UnregisterBroker {
        #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
        node_id: i32,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg cluster elect
  thalweg cluster elect orders:0 orders:1
  thalweg cluster elect --unclean orders:0
  thalweg cluster elect --unclean --accept-data-loss orders:0

Without partitions: all that their preferred leader does not lead, though it is in sync.

With --unclean, the longest log that can be reached leads a partition that nobody leads. What only others have is LOST FOR GOOD,
even if they come back. First wait for the replicas that are gone, if they may return. Without --accept-data-loss nothing is
changed: what every replica has is shown, and who would lead.")]
pub(crate) struct Elect {
    #[arg(value_name = "TOPIC:PARTITION", required_if_eq("unclean", "true"))]
    pub(crate) partitions: Vec<Partition>,
    /// Let replicas lead that may lack records, where no other is left.
    #[arg(long)]
    pub(crate) unclean: bool,
    /// Do it, and give up what the new leaders lack.
    #[arg(long, requires = "unclean")]
    pub(crate) accept_data_loss: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg cluster reassign orders:0=1,2,3 orders:1=2,3,1 --wait
  thalweg cluster reassign --empty-broker 3 --dry-run
  thalweg cluster reassign --even-out --wait
  thalweg cluster reassign --file moves.json
  thalweg cluster reassign --cancel orders:0

The first broker of a partition is its preferred leader. A file is JSON as Kafka's kafka-reassign-partitions takes it:
{\"partitions\": [{\"topic\": \"orders\", \"partition\": 0, \"replicas\": [1, 2, 3]}]}. Data is copied first; a replica that
is to go serves until every new one is in sync.")]
pub(crate) struct Reassign {
    /// Partitions and their brokers to be.
    #[arg(value_name = "TOPIC:PARTITION=ID,ID", group = "choice")]
    pub(crate) targets: Vec<Target>,
    /// A broker that shall hold nothing; may be repeated.
    #[arg(long = "empty-broker", value_name = "ID", group = "choice", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) leaving: Vec<i32>,
    /// Spread replicas evenly over the brokers, such as after new ones came.
    #[arg(long, group = "choice")]
    pub(crate) even_out: bool,
    /// Most moves of an evening-out.
    #[arg(long, value_name = "COUNT", requires = "even_out", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) moves: Option<u32>,
    /// File with the moves.
    #[arg(long, value_name = "FILE", group = "choice")]
    pub(crate) file: Option<PathBuf>,
    /// A partition whose move is taken back; may be repeated.
    #[arg(long = "cancel", value_name = "TOPIC:PARTITION", group = "choice")]
    pub(crate) cancelled: Vec<Partition>,
    /// Show the moves, begin none.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return when the moves have ended.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
    /// How long to wait. Units: ms, s, m, h, d.
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "wait")]
    pub(crate) timeout: Span,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg cluster decommission 4 --wait
  thalweg cluster decommission 4 5 --wait --keep-running

Nothing is begun unless the others can hold every replica. From then on the brokers get nothing new (their config
cordoned.log.dirs is *; take it back with thalweg config unset), and what they have is copied before it goes. Can be
broken off and given again. Where something starts stopped processes again, use --keep-running, remove them, and then
thalweg cluster unregister-broker.")]
pub(crate) struct Decommission {
    #[arg(value_name = "ID", required = true, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) node_ids: Vec<i32>,
    /// Wait until they are empty, then stop and forget them. Without it: begin the moves and return.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Leave them running when they are empty.
    #[arg(long, requires = "wait")]
    pub(crate) keep_running: bool,
    /// How long to wait. Units: ms, s, m, h, d.
    #[arg(long, value_name = "TIME", default_value = "6h", requires = "wait")]
    pub(crate) timeout: Span,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A partition: `TOPIC:PARTITION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) topic: TopicName,
    pub(crate) index: i32,
}

/// A partition and its replicas to be: `TOPIC:PARTITION=ID,ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) partition: Partition,
    pub(crate) replicas: Vec<i32>,
}

/// A feature and its level to be: `NAME=LEVEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeatureLevel {
    pub(crate) name: String,
    pub(crate) level: i32,
}

impl FromStr for FeatureLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=').map(|(name, level)| (name, level.parse::<i16>())) {
            Some((name, Ok(level @ 0..))) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), level: level.into() })
            }
            _ => Err(format!("{text:?} is not NAME=LEVEL, such as group.version=1")),
        }
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (topic, index) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("{text:?} is not TOPIC:PARTITION, such as orders:0"))?;
        let topic = TopicName::new(topic)
            .map_err(|rule| format!("{topic:?} is not the name of a topic: {rule}"))?;
        match index.parse() {
            Ok(index @ 0..) => Ok(Self { topic, index }),
            _ => Err(format!("{index:?} is not the number of a partition, such as 0")),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, replicas) = text.split_once('=').ok_or_else(|| {
            format!("{text:?} is not TOPIC:PARTITION=ID,ID, such as orders:0=1,2,3")
        })?;
        let id = |id: &str| match id.trim().parse() {
            Ok(id @ 1..) => Ok(id),
            _ => Err(format!("{id:?} is not the id of a broker, such as 1")),
        };
        let replicas = replicas.split(',').map(id).collect::<Result<_, String>>()?;
        Ok(Self { partition: partition.parse()?, replicas })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_their_brokers_are_read() {
        let partition = |topic, index| Partition { topic: TopicName::new(topic).unwrap(), index };
        assert_eq!("orders:0".parse(), Ok(partition("orders", 0)));
        let target = Target { partition: partition("a.b-c_d", 12), replicas: vec![3, 1] };
        assert_eq!("a.b-c_d:12=3,1".parse(), Ok(target));
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for wrong in ["", "group.version", "=1", "group.version=", "group.version=-1", "x=40000"] {
            assert!(wrong.parse::<FeatureLevel>().is_err(), "{wrong}");
        }
        for wrong in
            ["", "orders", "orders:", "orders:-1", "orders:x", ":0", "a b:0", "orders:9999999999"]
        {
            assert!(wrong.parse::<Partition>().is_err(), "{wrong}");
        }
        for wrong in
            ["orders:0", "orders:0=", "orders:0=0", "orders:0=1,", "orders:0=1;2", "orders=1"]
        {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
