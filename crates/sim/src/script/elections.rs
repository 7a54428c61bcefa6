//! Scripts: who leads, who is in sync, and who hears of it late.

use thalweg_types::Offset;

use super::{Step, at, when};
use crate::sim::Sim;

/// The first leader is killed, so that another one leads that is not the preferred one; the one with the leadership is `leader` from
/// then on, the preferred one is `other`.
fn let_another_lead(steps: Vec<Step>) -> Vec<Step> {
    let prelude = [
        at(8_000, |sim: &mut Sim| sim.kill_for_long(sim.actors().leader)),
        when(
            8_100,
            |sim| sim.leader_now().is_some_and(|leader| leader != sim.actors().leader),
            |sim| {
                let (preferred, leader) =
                    (sim.actors().leader, sim.leader_now().unwrap_or_default());
                let follower = (0..3).find(|host| *host != preferred && *host != leader);
                sim.recast(leader, follower.unwrap_or_default(), preferred);
                sim.power_on(preferred);
            },
        ),
    ];
    prelude.into_iter().chain(steps).collect()
}

pub(super) fn two_quick_elections() -> Vec<Step> {
    let_another_lead(vec![
        // The preferred one lacks what comes now, and the follower's handshake that says how much of it it has is late.
        when(
            9_000,
            |sim| sim.in_sync() == 3 && sim.leads(sim.actors().leader),
            |sim| sim.env.hold(sim.actors().leader, sim.actors().other),
        ),
        when(
            9_000,
            |sim| {
                let missing = sim.end_of(sim.actors().other);
                sim.end_of(sim.actors().follower) >= Offset(missing.0 + 4)
            },
            |sim| {
                let (leader, follower) = (sim.actors().leader, sim.actors().follower);
                sim.env.reset_streams(follower, leader);
                sim.env.hold(follower, leader);
            },
        ),
        // The handshake is on its way.
        when(
            9_000,
            |sim| sim.env.has_held(sim.actors().follower, sim.actors().leader),
            |sim| {
                sim.hold_controllers_to(sim.actors().leader);
                sim.administer(crate::message::Admin::Preferred);
            },
        ),
        // The preferred one leads, writes, and the follower has cut off what it does not know.
        when(
            9_000,
            |sim| {
                let other = sim.actors().other;
                let leader = sim.part(other).and_then(|part| part.replica.as_leader());
                let has_written =
                    leader.is_some_and(|l| sim.end_of(other) > l.epoch_start_offset());
                sim.leads(other)
                    && has_written
                    && sim.is_following(sim.actors().follower)
                    && sim.epoch_at(sim.actors().follower) == sim.epoch_at(other)
            },
            |sim| sim.stop(sim.actors().other),
        ),
        when(
            9_000,
            |sim| sim.leader_now() == Some(sim.actors().leader),
            |sim| sim.release_controllers_to(sim.actors().leader),
        ),
        when(
            9_000,
            |sim| sim.leads(sim.actors().leader),
            |sim| sim.env.release(sim.actors().follower, sim.actors().leader),
        ),
        at(12_500, |sim| sim.env.release(sim.actors().leader, sim.actors().other)),
        at(20_000, |_| {}),
    ])
}

pub(super) fn rebooted_joiner() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(8_050, |sim| sim.slow_disk(sim.actors().follower)),
        at(10_500, |sim| {
            sim.power_on(sim.actors().follower);
            sim.env.hold_proposals();
        }),
        when(
            10_500,
            |sim| sim.proposes(sim.actors().leader, sim.actors().follower),
            |sim| {
                let (leader, follower) = (sim.actors().leader, sim.actors().follower);
                sim.power_off(follower);
                sim.cut_link(follower, leader);
                sim.power_on(follower);
            },
        ),
        when(10_600, |sim| sim.is_live(sim.actors().follower), |sim| sim.env.release_proposals()),
        at(16_000, |sim| {
            sim.heal_network();
            sim.good_disks();
        }),
        at(22_000, |_| {}),
    ]
}

pub(super) fn removed_and_added() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.hold_controllers_to(sim.actors().leader)),
        at(8_100, |sim| {
            let replicas = sim.replica_hosts();
            let spare = sim.spare_hosts();
            let without = [replicas[0], replicas[1], spare[0]];
            sim.reassign(Some(&without));
        }),
        at(8_600, |sim| {
            let replicas = sim.replica_hosts();
            sim.reassign(None);
            sim.reassign(Some(&replicas[..2]));
        }),
        when(
            8_700,
            |sim| sim.replica_hosts().len() == 2,
            |sim| {
                let mut replicas = sim.replica_hosts();
                let back = (0..4).find(|host| !replicas.contains(host)).unwrap_or(0);
                replicas.push(back);
                sim.reassign(Some(&replicas));
            },
        ),
        at(9_300, |sim| sim.release_controllers_to(sim.actors().leader)),
        at(15_000, |sim| sim.kill_for_long(sim.actors().leader)),
        at(18_000, Sim::power_on_all),
    ]
}

/// A follower begins anew, so that it has to join the others again, and the leader hears nothing from the controllers when it has asked
/// for that.
fn rejoin_unheard(steps: Vec<Step>) -> Vec<Step> {
    let prelude = [
        at(8_000, |sim: &mut Sim| sim.kill_for_long(sim.actors().follower)),
        at(8_100, |sim| sim.power_on(sim.actors().follower)),
        when(
            8_100,
            |sim| sim.proposes(sim.actors().leader, sim.actors().follower),
            |sim| sim.hold_controllers_to(sim.actors().leader),
        ),
    ];
    prelude.into_iter().chain(steps).collect()
}

pub(super) fn join_unheard() -> Vec<Step> {
    rejoin_unheard(vec![
        when(
            8_100,
            |sim| sim.is_in_sync(sim.actors().follower),
            |sim| {
                let (leader, follower) = (sim.actors().leader, sim.actors().follower);
                sim.env.hold(leader, follower);
                sim.env.hold(follower, leader);
            },
        ),
        at(15_000, |sim| sim.env.release_all()),
        at(20_000, |_| {}),
    ])
}

pub(super) fn controller_gone() -> Vec<Step> {
    rejoin_unheard(vec![
        when(8_100, |sim| sim.is_in_sync(sim.actors().follower), Sim::kill_active_controller),
        at(9_500, |sim| sim.release_controllers_to(sim.actors().leader)),
        at(11_000, |sim| sim.kill_for_long(sim.actors().leader)),
        at(14_000, Sim::start_controllers),
        at(15_000, Sim::power_on_all),
    ])
}

pub(super) fn stale_snapshot() -> Vec<Step> {
    let mut steps = vec![when(500, |sim| sim.quorum.bystander().is_some(), Sim::part_bystander)];
    for round in 0..8 {
        steps.push(at(8_000 + round * 4_000, Sim::power_off_all));
        steps.push(at(8_100 + round * 4_000, Sim::power_on_all));
    }
    steps
}

pub(super) fn minimum_changed() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(11_000, |sim| sim.kill_for_long(sim.actors().other)),
        when(13_000, |sim| sim.in_sync() == 1, |sim| sim.set_minimum(1)),
        at(17_000, |sim| sim.set_minimum(2)),
        at(17_500, |sim| sim.kill_for_long(sim.actors().leader)),
        at(21_000, |sim| sim.power_on(sim.actors().follower)),
        at(22_000, |sim| sim.power_on(sim.actors().other)),
        at(28_000, Sim::power_on_all),
    ]
}

pub(super) fn moves() -> Vec<Step> {
    vec![
        at(8_000, |sim| {
            let target: Vec<_> =
                sim.spare_hosts().into_iter().chain(sim.replica_hosts()).take(3).collect();
            sim.reassign(Some(&target));
        }),
        at(8_300, |sim| sim.kill_for_long(sim.actors().leader)),
        at(9_000, Sim::power_on_all),
        at(20_000, |sim| sim.reassign(Some(&[0, 1, 2, 3, 4]))),
        at(20_400, |sim| sim.kill_for_long(sim.spare_hosts().first().copied().unwrap_or(4))),
        at(22_000, Sim::power_on_all),
        at(30_000, |sim| sim.reassign(Some(&[4, 2, 0]))),
        at(30_200, |sim| sim.power_off(sim.leader_now().unwrap_or(0))),
        at(30_400, Sim::power_on_all),
        at(38_000, |sim| sim.reassign(Some(&[1, 3, 0]))),
        at(38_010, |sim| sim.reassign(None)),
        at(39_000, |sim| sim.reassign(Some(&[3, 1, 2]))),
    ]
}

pub(super) fn made_again() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(9_000, |sim| sim.hold_controllers_to(sim.actors().other)),
        at(9_100, Sim::delete_topic),
        when(10_000, |sim| sim.state().is_some(), |_| {}),
        at(10_800, |sim| sim.release_controllers_to(sim.actors().other)),
        at(12_000, |sim| sim.power_on(sim.actors().follower)),
        at(16_000, Sim::power_off_all),
        at(16_500, Sim::power_on_all),
    ]
}
