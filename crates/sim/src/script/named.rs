//! The scripts by name. Times are milliseconds; the cluster is up, with its topic, a few seconds after the beginning.

use thalweg_types::{Durability, Offset};

use super::{Script, Stage, Step};
use crate::message::{CLIENTS, CONTROLLERS, FIRST_CONTROLLER};
use crate::network::{MS, SECOND, Time};
use crate::sim::Sim;

macro_rules! catalogue {
    ($($(#[doc = $meaning:literal])+ $name:ident => $steps:ident,)+) => {
        /// A script that can be run by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Named {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl Named {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            pub(crate) fn script(self) -> Script {
                let steps = match self {
                    $(Self::$name => $steps(),)+
                };
                let last = steps.last().map_or(0, |step| step.at);
                Script { stage: self.stage(), steps, until: last + 8 * SECOND }
            }
        }
    };
}

catalogue! {
    /// F1: leader, follower and active controller are killed in turn.
    KillEach => kill_each,
    /// F2: all processes at once.
    KillAll => kill_all,
    /// F3: power loss of the leader, then of a follower.
    PowerLossOfOne => power_loss_of_one,
    /// F3 for the marker: loss of power after a start that followed a clean stop.
    StoppedThenPowerLoss => stopped_then_power_loss,
    /// F4: power loss of all machines at once, twice; nobody does anything, and nothing is lost.
    PowerLossOfAll => power_loss_of_all,
    /// F5: a minority is cut off while the others write; one of those loses its power; the minority and it are all that is left.
    PartKill => part_kill,
    /// F6: the last replica in sync loses its power, and an older one is there before it.
    LastReplicaStanding => last_replica_standing,
    /// F7: as many as the minimum allows lose their power while the others are fenced; nothing is flushed.
    FencedThenLossy => fenced_then_lossy,
    /// F8: all lose their power, and nothing is flushed: what is lost is lost by command, never silently.
    LossInMemory => loss_in_memory,
    /// F9: the leader stands still for two sessions and goes on as if nothing had been.
    LeaderPaused => leader_paused,
    /// F10: the leader is in the minority, and its clients with it.
    LeaderInMinority => leader_in_minority,
    /// F11: links that work in one direction only.
    OneWay => one_way,
    /// F12: bridges, rings, and links that flap.
    OddNetworks => odd_networks,
    /// F13: loss, delay, overtaking and repeated calls, all at once.
    LossAndRepeats => loss_and_repeats,
    /// F14, KIP-279, KIP-320: a leader that heard nothing of it is elected again, and is told late how far a follower once was.
    TwoQuickElections => two_quick_elections,
    /// F15, KIP-903: a follower loses data and begins anew while its leader still asks to add the life before.
    RebootedJoiner => rebooted_joiner,
    /// F16: a replica is taken away and added again before its leader hears of either.
    RemovedAndAdded => removed_and_added,
    /// F13, F17, KIP-497: the leader never hears that its proposal was committed, and the new member falls behind.
    JoinUnheard => join_unheard,
    /// F17: the controller that committed a proposal is gone before it could say so.
    ControllerGone => controller_gone,
    /// F18: a controller that has heard of nothing for long serves its metadata to brokers that start.
    StaleSnapshot => stale_snapshot,
    /// F19: the minimum is lowered while fewer are in sync, and raised again.
    MinimumChanged => minimum_changed,
    /// F20: moves with kills in them: all replaced, cancelled, grown and shrunk.
    Moves => moves,
    /// F21: a topic is deleted and made again while a replica of the first one is away.
    MadeAgain => made_again,
    /// F23: flushes fail, on the leader and on a follower.
    FailedFlushes => failed_flushes,
    /// F26: bits flip in what is flushed, of a follower and then of the leader.
    BitFlips => bit_flips,
    /// F29: an empty disk where a replica was.
    EmptyDisk => empty_disk,
    /// F31: wall clocks jump, and machines freeze.
    ClockJumps => clock_jumps,
    /// F40: retention takes what readers and slow followers are at.
    Retention => retention,
    /// F45, smaller: a broker with all of two dozen partitions is gone.
    ManyPartitions => many_partitions,
    /// F46: the only complete replica is gone for good, and the operator elects another one.
    UncleanByCommand => unclean_by_command,
    /// TLA+ of KIP-320: a leader whose high watermark is behind may not let anybody in who is behind the start of its epoch.
    NewLeaderBehind => new_leader_behind,
    /// R13: a replica that was in memory only restarts while hardly anybody else is in sync.
    PageCacheRestart => page_cache_restart,
    /// F27: a disk with everything as it was some time ago, in a leader. What the others know to be committed must stay.
    LyingLeader => lying_leader,
    /// The same where an unclean election once marked the partition, and all that followed is of that epoch.
    LyingAfterUnclean => lying_after_unclean,
}

impl Named {
    fn stage(self) -> Stage {
        let usual = Stage {
            brokers: 3,
            topics: 1,
            min_isr: 2,
            durability: Durability::Fsync,
            is_small: false,
            old_positions: false,
        };
        let in_memory = Stage { durability: Durability::Replicated, ..usual };
        match self {
            Self::FencedThenLossy
            | Self::LossInMemory
            | Self::RebootedJoiner
            | Self::PageCacheRestart => in_memory,
            Self::NewLeaderBehind => Stage { old_positions: true, ..usual },
            Self::Retention => Stage { is_small: true, ..usual },
            Self::ManyPartitions => Stage { topics: 24, ..usual },
            Self::UncleanByCommand | Self::LyingAfterUnclean => Stage { min_isr: 1, ..usual },
            Self::Moves => Stage { brokers: 5, ..usual },
            Self::RemovedAndAdded | Self::OddNetworks => Stage { brokers: 4, ..usual },
            _ => usual,
        }
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

// ---- Processes and power ----

fn kill_each() -> Vec<Step> {
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

fn kill_all() -> Vec<Step> {
    vec![
        at(8_000, Sim::kill_all),
        at(8_200, Sim::power_on_all),
        at(15_000, Sim::kill_all),
        at(15_000, Sim::kill_active_controller),
        at(20_000, Sim::power_on_all),
        at(21_000, Sim::start_controllers),
    ]
}

fn power_loss_of_one() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.power_off(sim.actors().leader)),
        at(8_100, Sim::power_on_all),
        at(16_000, |sim| sim.power_off(sim.actors().follower)),
        at(21_000, Sim::power_on_all),
    ]
}

fn stopped_then_power_loss() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.stop(sim.actors().follower)),
        at(16_000, |sim| sim.power_off(sim.actors().follower)),
        at(20_000, Sim::power_on_all),
        at(32_000, |_| {}),
    ]
}

fn power_loss_of_all() -> Vec<Step> {
    vec![
        at(8_000, Sim::power_off_all),
        at(8_100, Sim::power_on_all),
        at(15_000, Sim::power_off_all),
        at(15_000, Sim::kill_active_controller),
        at(21_000, Sim::power_on_all),
        at(22_000, Sim::start_controllers),
    ]
}

fn part_kill() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.cut_off(sim.actors().follower)),
        at(30_000, |sim| sim.power_off(sim.actors().other)),
        at(31_000, Sim::heal_network),
        at(31_000, |sim| sim.cut_off(sim.actors().leader)),
        at(32_000, Sim::power_on_all),
    ]
}

fn last_replica_standing() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(14_000, |sim| sim.kill_for_long(sim.actors().other)),
        at(20_000, |sim| sim.power_off(sim.actors().leader)),
        at(21_000, |sim| sim.power_on(sim.actors().follower)),
        at(28_000, |sim| sim.power_on(sim.actors().leader)),
        at(32_000, Sim::power_on_all),
    ]
}

fn fenced_then_lossy() -> Vec<Step> {
    vec![
        at(7_900, |sim| sim.slow_disk(sim.actors().leader)),
        at(8_000, |sim| sim.stand_still(sim.actors().follower, 12 * SECOND)),
        at(8_100, |sim| sim.stand_still(sim.actors().other, 12 * SECOND)),
        when(8_200, |sim| sim.in_sync() == 1, |sim| sim.power_off(sim.actors().leader)),
        at(15_000, Sim::power_on_all),
        at(24_000, Sim::good_disks),
    ]
}

fn loss_in_memory() -> Vec<Step> {
    vec![
        at(8_000, |sim| (0..3).for_each(|host| sim.slow_disk(host))),
        at(11_000, Sim::power_off_all),
        at(12_000, Sim::power_on_all),
        at(13_000, Sim::good_disks),
    ]
}

fn leader_paused() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.stand_still(sim.actors().leader, 4 * SECOND)),
        at(18_000, |sim| sim.stand_still(sim.actors().follower, 4 * SECOND)),
        at(24_000, |sim| sim.stand_still(sim.leader_now().unwrap_or(0), 6 * SECOND)),
        at(32_000, |_| {}),
    ]
}

// ---- Network ----

fn leader_in_minority() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.cut_from_all(sim.actors().leader)),
        at(18_000, Sim::heal_network),
        at(26_000, |sim| sim.cut_from_all(sim.leader_now().unwrap_or(0))),
        at(27_000, |sim| sim.power_off(sim.actors().follower)),
        at(27_500, Sim::power_on_all),
        at(34_000, Sim::heal_network),
    ]
}

fn one_way() -> Vec<Step> {
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

fn odd_networks() -> Vec<Step> {
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

fn loss_and_repeats() -> Vec<Step> {
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

// ---- Elections and in-sync replicas ----

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

fn two_quick_elections() -> Vec<Step> {
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

fn rebooted_joiner() -> Vec<Step> {
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

fn removed_and_added() -> Vec<Step> {
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

fn join_unheard() -> Vec<Step> {
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

fn controller_gone() -> Vec<Step> {
    rejoin_unheard(vec![
        when(8_100, |sim| sim.is_in_sync(sim.actors().follower), Sim::kill_active_controller),
        at(9_500, |sim| sim.release_controllers_to(sim.actors().leader)),
        at(11_000, |sim| sim.kill_for_long(sim.actors().leader)),
        at(14_000, Sim::start_controllers),
        at(15_000, Sim::power_on_all),
    ])
}

fn stale_snapshot() -> Vec<Step> {
    let mut steps = vec![when(500, |sim| sim.quorum.bystander().is_some(), Sim::part_bystander)];
    for round in 0..8 {
        steps.push(at(8_000 + round * 4_000, Sim::power_off_all));
        steps.push(at(8_100 + round * 4_000, Sim::power_on_all));
    }
    steps
}

fn minimum_changed() -> Vec<Step> {
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

fn moves() -> Vec<Step> {
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

fn made_again() -> Vec<Step> {
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

fn minimum_of_data(sim: &Sim) -> bool {
    sim.in_sync() == 3 && sim.end_of(sim.actors().leader) > Offset(40)
}

// ---- Disks and clocks ----

fn failed_flushes() -> Vec<Step> {
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

fn bit_flips() -> Vec<Step> {
    vec![
        when(8_000, minimum_of_data, |sim| sim.flip_bit(sim.actors().follower)),
        at(8_500, |sim| sim.kill_for_long(sim.actors().follower)),
        at(9_000, Sim::power_on_all),
        when(18_000, minimum_of_data, |sim| sim.flip_bit(sim.leader_now().unwrap_or(0))),
        at(22_000, |sim| sim.power_off(sim.leader_now().unwrap_or(0))),
        at(23_000, Sim::power_on_all),
    ]
}

fn empty_disk() -> Vec<Step> {
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

fn clock_jumps() -> Vec<Step> {
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

fn retention() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(40_000, |sim| sim.kill_for_long(sim.actors().leader)),
        at(41_000, |sim| sim.power_on(sim.actors().follower)),
        at(44_000, Sim::power_on_all),
        at(70_000, Sim::power_off_all),
        at(71_000, Sim::power_on_all),
    ]
}

fn many_partitions() -> Vec<Step> {
    vec![
        at(8_000, |sim| sim.kill_for_long(0)),
        at(12_000, Sim::power_on_all),
        at(16_000, Sim::power_off_all),
        at(17_000, Sim::power_on_all),
        at(24_000, |sim| sim.stop(1)),
        at(30_000, |_| {}),
    ]
}

fn unclean_by_command() -> Vec<Step> {
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

// ---- What only one rule stands against ----

fn new_leader_behind() -> Vec<Step> {
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

fn page_cache_restart() -> Vec<Step> {
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

fn lying_leader() -> Vec<Step> {
    vec![
        at(8_000, Sim::keep_copy),
        at(20_000, |sim| sim.kill_for_long(sim.actors().follower)),
        at(20_000, |sim| sim.kill_for_long(sim.actors().other)),
        at(25_000, Sim::restore_copy),
        at(32_000, Sim::power_on_all),
        at(39_000, Sim::judge_liar),
    ]
}

fn lying_after_unclean() -> Vec<Step> {
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
