//! Assignors of the consumer protocol: who shall own which partition.
//!
//! Pure functions from subscriptions, partition counts and the assignment so far to the next one. What every assignor promises: each
//! partition of a subscribed topic has exactly one owner, who is subscribed to it; the same input gives the same result.
//!
//! | name | promise |
//! |---|---|
//! | `uniform` | Members that subscribe to the same own as many partitions as each other, or one more. With different subscriptions no chain of moves could make it more even. No partition moves that need not. |
//! | `range` | Of each topic, consecutive partitions in the order of the members; the same partition numbers of topics of the same size. Not sticky but for the order, in which static members come first, by instance id. |

mod balance;
mod range;
mod spread;
mod uniform;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::str::FromStr;

use thalweg_types::TopicId;

use super::partitions::PartitionSet;

/// An assignor that runs in the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Assignor {
    #[default]
    Uniform,
    Range,
}

/// The name is of no assignor of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no assignor of the coordinator")]
pub struct UnknownAssignor(pub String);

/// One member, as an assignor sees it.
#[derive(Debug, Clone)]
pub struct Subscriber<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    /// Ascending, without duplicates; shared by members that subscribe to the same.
    pub topics: Rc<[TopicId]>,
    /// What it was to own by the last assignment.
    pub target: &'a PartitionSet,
}

impl Assignor {
    /// All of them, the default first.
    pub const ALL: &'static [Self] = &[Self::Uniform, Self::Range];

    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// What each of `members` shall own, in their order. Topics without an entry in `partition_counts` do not exist.
    pub fn assign(
        self,
        members: &[Subscriber<'_>],
        partition_counts: &BTreeMap<TopicId, i32>,
    ) -> Vec<PartitionSet> {
        match self {
            Self::Uniform if is_homogeneous(members) => uniform::assign(members, partition_counts),
            Self::Uniform => balance::assign(members, partition_counts),
            Self::Range => range::assign(members, partition_counts),
        }
    }
}

impl FromStr for Assignor {
    type Err = UnknownAssignor;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|assignor| assignor.name() == name);
        known.copied().ok_or_else(|| UnknownAssignor(name.chars().take(64).collect()))
    }
}

/// Whether all members subscribe to the same topics.
fn is_homogeneous(members: &[Subscriber<'_>]) -> bool {
    members.windows(2).all(|pair| match pair {
        [one, next] => Rc::ptr_eq(&one.topics, &next.topics) || one.topics == next.topics,
        _ => true,
    })
}

#[cfg(test)]
mod tests;
