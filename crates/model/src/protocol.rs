//! What can happen next, and what must always hold: the model as the checker sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use stateright::{Model, Property};
use thalweg_invariants::{Mutant, Plant};
use thalweg_types::NodeId;

use crate::broker::Broker;
use crate::log::Entry;
use crate::oracle::Broken;
use crate::scope::{Begin, Scope};
use crate::state::{Loss, State};

/// The partition protocol within a scope, with a planted bug or without.
#[derive(Debug, Clone)]
pub struct Protocol {
    pub scope: Scope,
    pub bug: Option<Mutant>,
}

/// One thing that happens. Brokers are named by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Append(usize),
    Flush(usize),
    /// The next message on a stream arrives.
    Deliver(NodeId, NodeId),
    /// A copy of it is kept back.
    Keep(NodeId, NodeId),
    /// A copy that was kept back arrives.
    DeliverLate(usize),
    Break(NodeId, NodeId),
    Crash(usize, Loss),
    Start(usize),
    /// The next entry of the metadata log arrives.
    Learn(usize),
    /// A fenced broker says that it is alive.
    Heartbeat(usize),
    Fence(usize),
    /// A proposal reaches the controller.
    Decide(usize),
    /// Its answer reaches the leader.
    Tell(usize),
    /// The leader waits for it no longer.
    GiveUp(usize),
    Tick,
    ElectPreferred,
    ChangeMinimum,
}

/// Every invariant that is looked at, as the reliability chapter names it; and the assumption that the model left nothing out.
const INVARIANTS: &[Broken] =
    &["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I12", "I13", "I15", "unexpected"];

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let _plant = self.bug.map(Plant::new);
        vec![State::new(&self.scope)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        for at in 0..state.brokers.len() {
            self.steps_of_broker(state, at, steps);
        }
        self.steps_of_network(state, steps);
        let (spent, scope) = (&state.spent, &self.scope);
        steps.extend((spent.ticks < scope.ticks).then_some(Step::Tick));
        steps.extend((spent.preferred < scope.preferred).then_some(Step::ElectPreferred));
        let may_change = spent.minimum_changes < scope.minimum_changes;
        steps.extend(may_change.then_some(Step::ChangeMinimum));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let _plant = self.bug.map(Plant::new);
        let mut next = state.clone();
        let taken = catch_unwind(AssertUnwindSafe(|| {
            next.take(step, &self.scope);
            next.drop_stale();
            next.oracle.check(&next.controller, &next.brokers())
        }));
        let checked = taken.unwrap_or_else(|panic| Err(invariant_of(&*panic)));
        next.broken = next.broken.or_else(|| checked.err());
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = [
            always::<0>(),
            always::<1>(),
            always::<2>(),
            always::<3>(),
            always::<4>(),
            always::<5>(),
            always::<6>(),
            always::<7>(),
            always::<8>(),
            always::<9>(),
            always::<10>(),
            always::<11>(),
        ];
        always.into_iter().chain(sometimes()).collect()
    }
}

/// The invariant with this place in the list holds.
fn always<const AT: usize>() -> Property<Protocol> {
    Property::always(INVARIANTS[AT], |_, state: &State| state.broken != Some(INVARIANTS[AT]))
}

/// What must come about somewhere, for the rest to mean something. Which of it a scope can reach, the scope says.
fn sometimes() -> [Property<Protocol>; 9] {
    [
        Property::sometimes("a record is committed", |_, state: &State| {
            !state.oracle.committed.is_empty()
        }),
        Property::sometimes("a later leader commits", |_, state: &State| {
            let last = state.oracle.committed.last();
            last.is_some_and(|(epoch, _)| epoch.0 > 0)
        }),
        Property::sometimes("nobody leads", |_, state: &State| {
            state.controller.partition().leader.is_none()
        }),
        Property::sometimes("somebody is eligible", |_, state: &State| {
            !state.controller.partition().elr.is_empty()
        }),
        Property::sometimes("all are in sync again", |_, state: &State| {
            let partition = state.controller.partition();
            partition.isr.len() == 3 && partition.partition_epoch.0 > 0
        }),
        Property::sometimes("a lost answer leaves a proposal open", |_, state: &State| {
            let leads = |broker: &Broker| {
                broker
                    .as_leader()
                    .is_some_and(thalweg_replication_core::Leader::has_pending_proposal)
            };
            state.network.asks.iter().any(|ask| ask.given_up)
                && state.brokers.iter().any(|broker| leads(broker))
        }),
        Property::sometimes("two replicas disagree", |_, state: &State| {
            let logs = state.brokers().map(|broker| &broker.log.entries);
            let differ =
                |one: &[Entry], other: &[Entry]| one.iter().zip(other).any(|(a, b)| a != b);
            logs.iter().any(|one| logs.iter().any(|other| differ(one, other)))
        }),
        Property::sometimes("two lead", |_, state: &State| {
            state.brokers.iter().filter(|broker| broker.as_leader().is_some()).count() == 2
        }),
        Property::sometimes("a replica halts", |_, state: &State| {
            state.brokers.iter().any(|broker| broker.is_halted())
        }),
    ]
}

/// A core has found an invariant broken by itself.
fn invariant_of(panic: &(dyn std::any::Any + Send)) -> Broken {
    let text = panic.downcast_ref::<String>().map_or("", String::as_str);
    let named = |name: &&&str| text.contains(&format!("invariant {name} broken"));
    INVARIANTS.iter().find(named).copied().unwrap_or("unexpected")
}

impl Protocol {
    fn steps_of_broker(&self, state: &State, at: usize, steps: &mut Vec<Step>) {
        let (spent, scope, broker) = (&state.spent, &self.scope, &state.brokers[at]);
        let node = state.controller.image.node(broker.node);
        let is_live = node.is_some_and(|node| node.is_live());
        steps.extend((is_live && spent.fences < scope.fences).then_some(Step::Fence(at)));
        let Some(process) = &broker.process else {
            let is_gone = scope.begin[at] == Begin::Gone;
            steps.extend((!is_gone).then_some(Step::Start(at)));
            return;
        };
        let may_append = spent.records < scope.records && broker.as_leader().is_some();
        steps.extend(may_append.then_some(Step::Append(at)));
        steps.extend((broker.log.flushed < broker.log.end()).then_some(Step::Flush(at)));
        steps.extend(state.has_to_learn(at).then_some(Step::Learn(at)));
        let is_session = node.is_some_and(|node| node.broker_epoch == process.broker_epoch);
        let knows_itself =
            i64::try_from(process.applied).is_ok_and(|at| at >= process.broker_epoch.0);
        let may_return = is_session && !is_live && knows_itself;
        steps.extend(may_return.then_some(Step::Heartbeat(at)));
        if spent.crashes < scope.crashes {
            steps.push(Step::Crash(at, Loss::Nothing));
            let may_lose = broker.log.flushed < broker.log.end();
            steps.extend(may_lose.then_some(Step::Crash(at, Loss::Unflushed)));
        }
        let may_lie = spent.lies < scope.lies && broker.log.flushed > 0;
        steps.extend(may_lie.then_some(Step::Crash(at, Loss::Flushed)));
    }

    fn steps_of_network(&self, state: &State, steps: &mut Vec<Step>) {
        let (spent, scope) = (&state.spent, &self.scope);
        for (from, to) in state.network.directions() {
            steps.push(Step::Deliver(from, to));
            steps.extend((spent.late < scope.late).then_some(Step::Keep(from, to)));
        }
        steps.extend((0..state.network.late.len()).map(Step::DeliverLate));
        if spent.breaks < scope.breaks {
            for broker in &state.brokers {
                let leader = broker.leader();
                steps.extend(leader.map(|leader| Step::Break(broker.node, leader)));
            }
        }
        for (which, ask) in state.network.asks.iter().enumerate() {
            match ask.outcome {
                None => steps.push(Step::Decide(which)),
                Some(_) => steps.push(Step::Tell(which)),
            }
            let may_give_up = !ask.given_up && spent.give_ups < scope.give_ups;
            steps.extend(may_give_up.then_some(Step::GiveUp(which)));
        }
    }
}

impl State {
    fn take(&mut self, step: Step, scope: &Scope) {
        match step {
            Step::Append(at) => {
                self.spent.records += 1;
                self.append(at, scope);
            }
            Step::Flush(at) => self.flush(at, scope),
            Step::Deliver(from, to) => self.deliver(from, to, scope),
            Step::Keep(from, to) => {
                self.spent.late += 1;
                self.network.edit(|network| network.keep(from, to));
            }
            Step::DeliverLate(which) => self.deliver_late(which, scope),
            Step::Break(a, b) => {
                self.spent.breaks += 1;
                self.break_stream(a, b, scope);
            }
            Step::Crash(at, loss) => {
                let is_lie = loss == Loss::Flushed;
                self.spent.lies += u8::from(is_lie);
                self.spent.crashes += u8::from(!is_lie);
                self.crash(at, loss, scope);
            }
            Step::Start(at) => self.start(at),
            Step::Learn(at) => self.learn(at, scope),
            Step::Heartbeat(at) => self.heartbeat(at),
            Step::Fence(at) => {
                self.spent.fences += 1;
                let node = self.brokers[at].node;
                self.controller.edit(|controller| controller.fence(node));
            }
            Step::Decide(which) => self.decide(which),
            Step::Tell(which) => self.tell(which, scope),
            Step::GiveUp(which) => {
                self.spent.give_ups += 1;
                self.give_up(which, scope);
            }
            Step::Tick => {
                self.spent.ticks += 1;
                self.tick(scope);
            }
            Step::ElectPreferred => {
                self.spent.preferred += 1;
                self.controller.edit(crate::controller::Controller::elect_preferred);
            }
            Step::ChangeMinimum => {
                self.spent.minimum_changes += 1;
                let min_isr = if self.spent.minimum_changes % 2 == 1 { 1 } else { 2 };
                self.controller.edit(|controller| controller.set_min_isr(min_isr));
            }
        }
    }
}
