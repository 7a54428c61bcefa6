//! Named faults in a fixed order: the ones that other systems lost data to.
//!
//! A script is a list of steps ([`named`]), played one after the other: each when its time has come, and, where it waits for something,
//! when that is so. A script that is not played to its end says so, and that is a failure of its own kind: it has tested nothing.

mod acts;
mod disks;
mod elections;
mod named;
mod networks;
mod processes;

use thalweg_types::Durability;

use crate::env::Event;
use crate::message::Host;
use crate::network::{MS, Time};
use crate::sim::Sim;

pub use named::Named;

/// How the failure of a script begins that was not played to its end.
pub(crate) const NOT_PLAYED: &str = "script";

/// How often a step that waits looks again, in microseconds.
const LOOK_AGAIN: Time = 100;

/// The cluster of a script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) brokers: usize,
    pub(crate) topics: usize,
    pub(crate) min_isr: u32,
    pub(crate) durability: Durability,
    /// Retention takes old records during the run.
    pub(crate) is_small: bool,
    /// High watermarks that a log notes down are old.
    pub(crate) old_positions: bool,
}

/// Steps, and the end of it.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) stage: Stage,
    pub(crate) steps: Vec<Step>,
    pub(crate) until: Time,
}

/// What is done, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// Not before this, nor before the step before it.
    pub(crate) at: Time,
    /// Nor before this is so.
    when: Option<fn(&Sim) -> bool>,
    act: fn(&mut Sim),
}

/// Who is who in a script: settled when it begins, so that an election does not change it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actors {
    pub(crate) leader: Host,
    pub(crate) follower: Host,
    pub(crate) other: Host,
}

impl Sim {
    pub(crate) fn script_step(&mut self, at: usize) {
        if self.cast.is_none() {
            self.cast = self.find_actors();
        }
        let steps = self.plan.script.as_ref().map(|script| &script.steps[..]).unwrap_or_default();
        let Some(step) = steps.get(at).copied() else { return };
        let next = steps.get(at + 1).map(|next| next.at);
        if self.is_healed {
            return;
        }
        if step.when.is_some_and(|when| !when(self)) {
            self.env.after(LOOK_AGAIN, Event::Script(at));
            return;
        }
        (step.act)(self);
        self.steps_played += 1;
        if let Some(next) = next {
            self.env.at(next.max(self.env.now + LOOK_AGAIN), Event::Script(at + 1));
        }
    }

    /// At the end of the faults: whether the script was played.
    pub(crate) fn judge_script(&mut self) {
        let steps = self.plan.script.as_ref().map_or(0, |script| script.steps.len());
        let played = self.steps_played;
        if played < steps {
            self.env
                .oracle
                .violated(NOT_PLAYED, || format!("step {played} of {steps} was not played"));
        }
    }

    pub(crate) fn find_actors(&self) -> Option<Actors> {
        let leader = self.leader_now()?;
        let mut others = (0..self.brokers.len()).filter(|host| *host != leader);
        Some(Actors { leader, follower: others.next()?, other: others.next()? })
    }

    fn actors(&self) -> Actors {
        self.cast.unwrap_or(Actors { leader: 0, follower: 1, other: 2 })
    }
}

/// At this time.
fn at(ms: Time, act: fn(&mut Sim)) -> Step {
    Step { at: ms * MS, when: None, act }
}

/// As soon as this is so, but not before this time.
fn when(ms: Time, when: fn(&Sim) -> bool, act: fn(&mut Sim)) -> Step {
    Step { at: ms * MS, when: Some(when), act }
}
