//! Scripts: disks, clocks, and what only one rule stands against.

use thalweg_types::Offset;

use super::{Step, at, when};
use crate::message::{CONTROLLERS, FIRST_CONTROLLER};
use crate::network::SECOND;
use crate::sim::Sim;

fn minimum_of_data(sim: &Sim) -> bool {
    sim.in_sync() == 3 && sim.end_of(sim.actors().leader) > Offset(40)
}

pub(super) fn failed_flushes() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.fail_flush(sim.actors().leader)),
        at(14_000, |sim| sim.fail_flush(sim.actors().follower)),
        at(14_000, |sim| sim.slow_disk(sim.actors().other)),
        at(20_000, |sim| sim.fail_flush(sim.leader_now().unwrap_or(0))),
        at(20_300, Sim::power_off_all),
        at(22_000, Sim::power_on_all),
        at(24_000, Sim::good_disks),
    ]
}

pub(super) fn bit_flips() -> Vec<Step> {
    vec![
        when(8_000, minimum_of_data, |sim| sim.flip_bit(sim.actors().follower)),
        at(8_500, |sim| sim.kill_for_long(sim.actors().follower)),
        at(9_000, Sim::power_on_all),
        when(18_000, minimum_of_data, |sim| sim.flip_bit(sim.leader_now().unwrap_or(0))),
        at(22_000, |sim| sim.power_off(sim.leader_now().unwrap_or(0))),
        at(23_000, Sim::power_on_all),
    ]
}

pub(super) fn empty_disk() -> Vec<Step> {
    vec![
        when(8_000, minimum_of_data, |sim| sim.wipe(sim.actors().follower)),
        at(8_200, Sim::power_on_all),
        at(12_000, |sim| {
            let live = [sim.actors().leader, sim.actors().other, sim.actors().follower];
            sim.reassign(Some(&live));
        }),
        when(15_000, minimum_of_data, |sim| sim.wipe(sim.leader_now().unwrap_or(0))),
        at(20_000, Sim::power_on_all),
    ]
}

pub(super) fn clock_jumps() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.set_clock(sim.actors().leader, 3_600_000)),
        at(10_000, |sim| sim.set_clock(sim.actors().follower, -3_600_000)),
        at(12_000, |sim| sim.kill_for_long(sim.actors().leader)),
        at(14_000, Sim::power_on_all),
        at(16_000, |sim| sim.set_clock(sim.actors().other, 300_000)),
        at(17_000, |sim| sim.stand_still(sim.leader_now().unwrap_or(0), 3 * SECOND)),
        at(22_000, |sim| sim.set_clock(sim.actors().leader, -3_600_000)),
        at(24_000, |sim| {
            (0..CONTROLLERS).for_each(|at| sim.stand_still(FIRST_CONTROLLER + at, SECOND));
        }),
        at(28_000, |_| {}),
    ]
}

pub(super) fn retention() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(40_000, |sim| sim.kill_for_long(sim.actors().leader)),
        at(41_000, |sim| sim.power_on(sim.actors().follower)),
        at(44_000, Sim::power_on_all),
        at(70_000, Sim::power_off_all),
        at(71_000, Sim::power_on_all),
    ]
}

pub(super) fn many_partitions() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(0)),
        at(12_000, Sim::power_on_all),
        at(16_000, Sim::power_off_all),
        at(17_000, Sim::power_on_all),
        at(24_000, |sim| sim.stop(1)),
        at(30_000, |_| {}),
    ]
}

pub(super) fn unclean_by_command() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(8_000, |sim| sim.kill_for_long(sim.actors().other)),
        when(
            12_000,
            |sim| sim.in_sync() == 1,
            |sim| {
                sim.nemesis.overdo();
                sim.wipe(sim.actors().leader);
            },
        ),
        at(15_000, Sim::power_on_all),
        at(20_000, Sim::command_unclean_election),
    ]
}

pub(super) fn new_leader_behind() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        when(9_000, |sim| sim.in_sync() == 2, |_| {}),
        at(12_500, |sim| {
            sim.power_off(sim.actors().leader);
            sim.power_off(sim.actors().other);
        }),
        when(
            14_000,
            |sim| sim.in_sync() == 0,
            |sim| {
                sim.power_on(sim.actors().leader);
                sim.power_on(sim.actors().follower);
            },
        ),
        at(24_000, Sim::power_on_all),
    ]
}

pub(super) fn page_cache_restart() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().other)),
        when(9_000, |sim| sim.in_sync() == 2, |sim| sim.slow_disk(sim.actors().follower)),
        at(14_000, |sim| {
            let (leader, follower) = (sim.actors().leader, sim.actors().follower);
            sim.power_off(follower);
            sim.env.hold(follower, leader);
            sim.power_on(follower);
        }),
        when(
            14_000,
            |sim| sim.is_live(sim.actors().follower),
            |sim| {
                sim.stand_still(sim.actors().leader, 6 * SECOND);
            },
        ),
        at(21_000, |sim| {
            sim.good_disks();
            sim.env.release_all();
            sim.power_on_all();
        }),
        at(26_000, |_| {}),
    ]
}

pub(super) fn lying_leader() -> Vec<Step> {
    vec![
        at(8_000, Sim::keep_copy),
        at(20_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(20_000, |sim| sim.kill_for_long(sim.actors().other)),
        at(25_000, Sim::restore_copy),
        at(32_000, Sim::power_on_all),
        at(39_000, Sim::judge_liar),
    ]
}

pub(super) fn lying_after_unclean() -> Vec<Step> {
    let mut steps = unclean_by_command();
    steps.extend([
        when(
            21_000,
            |sim| sim.in_sync() == 2,
            |sim| {
                let leader = sim.leader_now().unwrap_or_default();
                let follower = (0..3).find(|host| *host != leader && sim.is_in_sync(*host));
                sim.recast(leader, follower.unwrap_or_default(), sim.actors().leader);
            },
        ),
        at(26_000, Sim::keep_copy),
        at(32_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(35_000, Sim::restore_copy),
        when(
            36_000,
            |sim| sim.leads(sim.actors().leader),
            |sim| {
                sim.power_on(sim.actors().follower);
            },
        ),
        at(46_000, Sim::judge_liar),
    ]);
    steps
}
