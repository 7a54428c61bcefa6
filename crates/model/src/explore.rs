//! Goes through a scope, breadth first, so that what it finds is found by the fewest steps.

use std::collections::BTreeMap;
use std::fmt;

use stateright::{Checker, HasDiscoveries, Model};
use thalweg_invariants::Mutant;

use crate::protocol::{Protocol, Step};
use crate::scope::Scope;

/// What there is in a scope.
#[derive(Debug)]
pub struct Explored {
    /// Different ones.
    pub states: usize,
    /// Steps that lead to them.
    pub steps: usize,
    /// Of the longest shortest way to a state.
    pub depth: usize,
    /// Everything within the scope was seen, unless an invariant was found broken.
    pub is_complete: bool,
    /// Each invariant that was found broken, and how.
    pub broken: BTreeMap<&'static str, Vec<Step>>,
    /// Each property that must hold somewhere and was found to.
    pub reached: Vec<&'static str>,
}

/// Goes through a scope until everything is seen, an invariant is broken, or so many steps were taken.
pub fn explore(scope: Scope, bug: Option<Mutant>, steps_max: usize) -> Explored {
    let protocol = Protocol { scope, bug };
    let checker = protocol
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(steps_max)
        .spawn_bfs()
        .join();
    let mut broken = BTreeMap::new();
    let mut reached = Vec::new();
    for (name, path) in checker.discoveries() {
        if checker.model().property(name).expectation.discovery_is_failure() {
            broken.insert(name, path.into_actions());
        } else {
            reached.push(name);
        }
    }
    reached.sort_unstable();
    Explored {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        is_complete: checker.state_count() < steps_max,
        broken,
        reached,
    }
}

impl Explored {
    /// All of the scope was seen, no invariant was broken, and what must come about did.
    pub fn is_sound(&self, scope: &Scope) -> bool {
        self.is_complete && self.broken.is_empty() && self.missed(scope).is_empty()
    }

    /// What must come about in the scope, and did not.
    pub fn missed(&self, scope: &Scope) -> Vec<&'static str> {
        scope.reaches.iter().copied().filter(|name| !self.reached.contains(name)).collect()
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, .. } = self;
        write!(f, "{states} states by {steps} steps, {depth} deep")?;
        if !self.is_complete {
            write!(f, ", not all")?;
        }
        for (invariant, steps) in &self.broken {
            write!(f, ", {invariant} broken by {} steps: {steps:?}", steps.len())?;
        }
        Ok(())
    }
}
