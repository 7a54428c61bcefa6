//! The states of a group, each with what exists in it alone.

use std::collections::BTreeSet;

use thalweg_types::{MemberId, Moment};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Without members.
    Empty,
    /// Members are called back, and join.
    PreparingRebalance(Joins),
    /// A generation has begun; its leader assigns.
    CompletingRebalance(Syncs),
    /// Everybody's share is stored.
    Stable(Syncs),
    /// Deleted. Held by no group that can be asked.
    Dead,
}

/// What ends the collection of members.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joins {
    pub(super) deadline: Moment,
    /// Set when the group was empty before: it waits for more members than those it knows.
    pub(super) initial: Option<InitialDelay>,
}

/// The wait for first members: a delay, again after each in which somebody came, within the rebalance timeout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    pub(super) newcomers: bool,
    pub(super) delay_ms: u64,
    /// What may be waited after this delay.
    pub(super) remaining_ms: u64,
}

/// Who has been told of the generation and has not fetched its share.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Syncs {
    pub(super) missing: BTreeSet<MemberId>,
    /// Until when they may; `None` when nobody is awaited.
    pub(super) deadline: Option<Moment>,
}

impl State {
    /// As Kafka's tools spell it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance(_) => "PreparingRebalance",
            Self::CompletingRebalance(_) => "CompletingRebalance",
            Self::Stable(_) => "Stable",
            Self::Dead => "Dead",
        }
    }

    /// Whether a group may come from `previous` into this state.
    pub(super) fn may_follow(&self, previous: &Self) -> bool {
        match self {
            Self::Empty => matches!(previous, Self::PreparingRebalance(_)),
            Self::PreparingRebalance(_) => {
                matches!(previous, Self::Empty | Self::CompletingRebalance(_) | Self::Stable(_))
            }
            Self::CompletingRebalance(_) => matches!(previous, Self::PreparingRebalance(_)),
            Self::Stable(_) => matches!(previous, Self::CompletingRebalance(_)),
            Self::Dead => matches!(previous, Self::Empty),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_prepared_completed_and_stable_in_this_order_only() {
        let preparing = || State::PreparingRebalance(Joins { deadline: Moment(0), initial: None });
        let completing = || State::CompletingRebalance(Syncs::default());
        let stable = || State::Stable(Syncs::default());
        let states = [State::Empty, preparing(), completing(), stable(), State::Dead];
        let mut allowed = Vec::new();
        for from in &states {
            let to = states.iter().filter(|to| to.may_follow(from)).map(State::name);
            allowed.push((from.name(), to.collect::<Vec<_>>()));
        }
        assert_eq!(
            allowed,
            [
                ("Empty", vec!["PreparingRebalance", "Dead"]),
                ("PreparingRebalance", vec!["Empty", "CompletingRebalance"]),
                ("CompletingRebalance", vec!["PreparingRebalance", "Stable"]),
                ("Stable", vec!["PreparingRebalance"]),
                ("Dead", vec![]),
            ]
        );
    }
}
