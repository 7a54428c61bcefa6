//! Scripts: networks that part, lose, repeat and turn back.

use super::{Step, at};
use crate::message::{CLIENTS, CONTROLLERS, FIRST_CONTROLLER};
use crate::sim::Sim;

pub(super) fn leader_in_minority() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.cut_from_all(sim.actors().leader)),
        at(18_000, Sim::heal_network),
        at(26_000, |sim| sim.cut_from_all(sim.leader_now().unwrap_or(0))),
        at(27_000, |sim| sim.power_off(sim.actors().follower)),
        at(27_500, Sim::power_on_all),
        at(34_000, Sim::heal_network),
    ]
}

pub(super) fn one_way() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.cut_link(sim.actors().leader, sim.actors().follower)),
        at(13_000, Sim::heal_network),
        at(15_000, |sim| sim.cut_link(sim.actors().follower, sim.actors().leader)),
        at(20_000, Sim::heal_network),
        at(22_000, |sim| {
            let leader = sim.leader_now().unwrap_or(0);
            (0..CONTROLLERS).for_each(|at| sim.cut_link(leader, FIRST_CONTROLLER + at));
        }),
        at(27_000, Sim::heal_network),
        at(29_000, |sim| {
            let leader = sim.leader_now().unwrap_or(0);
            (0..CONTROLLERS).for_each(|at| sim.cut_link(FIRST_CONTROLLER + at, leader));
        }),
        at(34_000, Sim::heal_network),
        at(36_000, |sim| sim.cut_clients(sim.leader_now().unwrap_or(0))),
        at(40_000, Sim::heal_network),
        at(41_000, |sim| sim.cut_link(sim.leader_now().unwrap_or(0), CLIENTS)),
        at(45_000, Sim::heal_network),
    ]
}

pub(super) fn odd_networks() -> Vec<Step> {
    let mut steps = vec![
        // A bridge: two halves that only one broker and one controller can reach both of.
        at(8_000, |sim| {
            sim.env.fault(|| "two halves and a bridge".to_owned());
            sim.env.network.split(&[0, FIRST_CONTROLLER], &[2, 3, FIRST_CONTROLLER + 2]);
        }),
        at(15_000, Sim::heal_network),
        // A ring: everybody reaches their neighbours only.
        at(18_000, |sim| {
            sim.env.fault(|| "a ring".to_owned());
            for host in 0..4 {
                sim.env.network.split(&[host], &[(host + 2) % 4]);
            }
        }),
        at(25_000, Sim::heal_network),
    ];
    for round in 0..12 {
        steps.push(at(28_000 + round * 600, |sim| {
            sim.cut_from_all(sim.leader_now().unwrap_or(0));
        }));
        steps.push(at(28_300 + round * 600, Sim::heal_network));
    }
    steps
}

pub(super) fn loss_and_repeats() -> Vec<Step> {
    vec![
        at(8_000, |sim| {
            sim.env.fault(|| "messages are lost, late and repeated".to_owned());
            let network = &mut sim.env.network;
            (network.loss, network.spikes, network.repeats) = (40, 60, 300);
        }),
        at(14_000, |sim| sim.kill_for_long(sim.actors().leader)),
        at(15_000, Sim::power_on_all),
        at(20_000, |sim| sim.stop(sim.leader_now().unwrap_or(0))),
        at(32_000, Sim::heal_network),
    ]
}
