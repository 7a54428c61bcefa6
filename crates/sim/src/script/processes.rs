//! Scripts: processes that end and machines that lose their power.

use super::{Step, at, when};
use crate::network::SECOND;
use crate::sim::Sim;

pub(super) fn kill_each() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().leader)),
        at(12_000, Sim::power_on_all),
        at(18_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(18_100, Sim::power_on_all),
        at(24_000, Sim::kill_active_controller),
        at(24_500, |sim| sim.kill_for_long(sim.actors().other)),
        at(27_000, Sim::start_controllers),
        at(28_000, Sim::power_on_all),
    ]
}

pub(super) fn kill_all() -> Vec<Step> {
    vec![
        at(8_000, Sim::kill_all),
        at(8_200, Sim::power_on_all),
        at(15_000, Sim::kill_all),
        at(15_000, Sim::kill_active_controller),
        at(20_000, Sim::power_on_all),
        at(21_000, Sim::start_controllers),
    ]
}

pub(super) fn power_loss_of_one() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.power_off(sim.actors().leader)),
        at(8_100, Sim::power_on_all),
        at(16_000, |sim| sim.power_off(sim.actors().follower)),
        at(21_000, Sim::power_on_all),
    ]
}

pub(super) fn stopped_then_power_loss() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.stop(sim.actors().follower)),
        at(16_000, |sim| sim.power_off(sim.actors().follower)),
        at(20_000, Sim::power_on_all),
        at(32_000, |_| {}),
    ]
}

pub(super) fn power_loss_of_all() -> Vec<Step> {
    vec![
        at(8_000, Sim::power_off_all),
        at(8_100, Sim::power_on_all),
        at(15_000, Sim::power_off_all),
        at(15_000, Sim::kill_active_controller),
        at(21_000, Sim::power_on_all),
        at(22_000, Sim::start_controllers),
    ]
}

pub(super) fn part_kill() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.cut_off(sim.actors().follower)),
        at(30_000, |sim| sim.power_off(sim.actors().other)),
        at(31_000, Sim::heal_network),
        at(31_000, |sim| sim.cut_off(sim.actors().leader)),
        at(32_000, Sim::power_on_all),
    ]
}

pub(super) fn last_replica_standing() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(14_000, |sim| sim.kill_for_long(sim.actors().other)),
        at(20_000, |sim| sim.power_off(sim.actors().leader)),
        at(21_000, |sim| sim.power_on(sim.actors().follower)),
        at(28_000, |sim| sim.power_on(sim.actors().leader)),
        at(32_000, Sim::power_on_all),
    ]
}

pub(super) fn fenced_then_lossy() -> Vec<Step> {
    vec![
        at(7_900, |sim| sim.slow_disk(sim.actors().leader)),
        at(8_000, |sim| sim.stand_still(sim.actors().follower, 12 * SECOND)),
        at(8_100, |sim| sim.stand_still(sim.actors().other, 12 * SECOND)),
        when(8_200, |sim| sim.in_sync() == 1, |sim| sim.power_off(sim.actors().leader)),
        at(15_000, Sim::power_on_all),
        at(24_000, Sim::good_disks),
    ]
}

pub(super) fn loss_in_memory() -> Vec<Step> {
    vec![
        at(8_000, |sim| (0..3).for_each(|host| sim.slow_disk(host))),
        at(11_000, Sim::power_off_all),
        at(12_000, Sim::power_on_all),
        at(13_000, Sim::good_disks),
    ]
}

pub(super) fn leader_paused() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.stand_still(sim.actors().leader, 4 * SECOND)),
        at(18_000, |sim| sim.stand_still(sim.actors().follower, 4 * SECOND)),
        at(24_000, |sim| sim.stand_still(sim.leader_now().unwrap_or(0), 6 * SECOND)),
        at(32_000, |_| {}),
    ]
}
