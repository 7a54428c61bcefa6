//! Coordinators that believe the same partition to be theirs, over one log, with messages late, lost and repeated and leaders that change:
//! their answers never contradict one history.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod ledger;
mod log;
mod world;

use proptest::prelude::*;
use thalweg_coordinator_runtime::{Action, Limits, Machine, Now, PortError, Token};
use thalweg_invariants::{Mutant, Plant};
use thalweg_types::{CoordinatorEpoch, Moment, NodeId, Timestamp};

use ledger::{Ask, Ledger};
use log::Log;
use world::{World, Wrong};

const STEPS: usize = 3_000;

fn run(seed: u64) -> Result<World, Wrong> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal()?;
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_of_rival_coordinators_are_one_history(seed: u64) {
        if let Err(wrong) = run(seed) {
            prop_assert!(false, "{wrong:?}");
        }
    }
}

#[test]
fn much_happens_in_these_histories() {
    let mut total = world::Counts::default();
    for seed in 0..40 {
        total.add(&run(seed).unwrap().counts);
    }
    println!("{total:?}");
    assert!(total.adds > 1_000 && total.looks > 500, "{total:?}");
    assert!(total.dropped > 100 && total.refused > 100 && total.leader_changes > 100, "{total:?}");
    assert!(total.served_after_another > 40, "{total:?}");
}

#[test]
fn serving_without_a_fence_is_found_out() {
    let _planted = Plant::new(Mutant::M14);
    let found = (0..200).find_map(|seed| run(seed).err().filter(Wrong::is_contradiction));
    println!("{found:?}");
    assert!(found.is_some());
}

/// Two counts are on their way. The first one is lost, and its outcome unknown; the second one is so late that the partition has been loaded
/// and fenced anew, and finds the very end that it names. Returns whether the log takes it.
fn takes_an_append_of_a_load_given_up(log_knows_chains: bool) -> bool {
    let now = |ms| Now { moment: Moment(ms), wall: Timestamp(0) };
    let mut log = Log::new(log_knows_chains);
    let (node, epoch) = (NodeId(1), CoordinatorEpoch(1));
    let limits = Limits::default();
    let mut machine = Machine::new(Ledger::default, limits, node, epoch, 77, now(0));
    let mut late = Vec::new();
    for ms in 0..1_000 {
        machine.handle_deadline(now(ms));
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Locate { ticket } => {
                    machine.handle_located(ticket, Ok(log.ends()), now(ms))
                }
                Action::Read { ticket, from } => {
                    machine.handle_read(ticket, Ok(log.read(from.0, 9)), now(ms));
                }
                Action::Append { ticket, condition, batch } if condition.opens_chain => {
                    log.append(condition, &batch).unwrap();
                    log.replicate(1);
                    machine.handle_appended(ticket, Ok(()), now(ms));
                    if let [_, (_, condition, batch)] = &late[..] {
                        return log.append(*condition, batch).is_ok();
                    }
                }
                // The first one after the fence is what the core does by itself.
                Action::Append { ticket, condition, batch } if log.end() == 1 => {
                    log.append(condition, &batch).unwrap();
                    log.replicate(1);
                    machine.handle_appended(ticket, Ok(()), now(ms));
                    machine.handle_call(Token(1), Ask::Add(1), now(ms));
                }
                Action::Append { ticket, condition, batch } => {
                    late.push((ticket, condition, batch));
                    if let [(first, ..), _] = &late[..] {
                        machine.handle_appended(
                            *first,
                            Err(PortError::Unknown("".into())),
                            now(ms),
                        );
                    } else {
                        machine.handle_call(Token(2), Ask::Add(2), now(ms));
                    }
                }
                Action::Answer { .. } | Action::Report(_) => {}
            }
        }
    }
    panic!("the partition was not loaded anew");
}

#[test]
fn an_append_of_a_load_given_up_is_refused_though_it_finds_its_end() {
    assert!(!takes_an_append_of_a_load_given_up(true));
    assert!(takes_an_append_of_a_load_given_up(false), "the chain is what refuses it");
}
