//! The scripts by name. Times are milliseconds; the cluster is up, with its topic, a few seconds after the beginning.

use thalweg_types::Durability;

use super::{Script, Stage, disks, elections, networks, processes};
use crate::network::SECOND;

macro_rules! catalogue {
    ($($(#[doc = $meaning:literal])+ $name:ident => $steps:path,)+) => {
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
    KillEach => processes::kill_each,
    /// F2: all processes at once.
    KillAll => processes::kill_all,
    /// F3: power loss of the leader, then of a follower.
    PowerLossOfOne => processes::power_loss_of_one,
    /// F3 for the marker: loss of power after a start that followed a clean stop.
    StoppedThenPowerLoss => processes::stopped_then_power_loss,
    /// F4: power loss of all machines at once, twice; nobody does anything, and nothing is lost.
    PowerLossOfAll => processes::power_loss_of_all,
    /// F5: a minority is cut off while the others write; one of those loses its power; the minority and it are all that is left.
    PartKill => processes::part_kill,
    /// F6: the last replica in sync loses its power, and an older one is there before it.
    LastReplicaStanding => processes::last_replica_standing,
    /// F7: as many as the minimum allows lose their power while the others are fenced; nothing is flushed.
    FencedThenLossy => processes::fenced_then_lossy,
    /// F8: all lose their power, and nothing is flushed: what is lost is lost by command, never silently.
    LossInMemory => processes::loss_in_memory,
    /// F9: the leader stands still for two sessions and goes on as if nothing had been.
    LeaderPaused => processes::leader_paused,
    /// F10: the leader is in the minority, and its clients with it.
    LeaderInMinority => networks::leader_in_minority,
    /// F11: links that work in one direction only.
    OneWay => networks::one_way,
    /// F12: bridges, rings, and links that flap.
    OddNetworks => networks::odd_networks,
    /// F13: loss, delay, overtaking and repeated calls, all at once.
    LossAndRepeats => networks::loss_and_repeats,
    /// F14, KIP-279, KIP-320: a leader that heard nothing of it is elected again, and is told late how far a follower once was.
    TwoQuickElections => elections::two_quick_elections,
    /// F15, KIP-903: a follower loses data and begins anew while its leader still asks to add the life before.
    RebootedJoiner => elections::rebooted_joiner,
    /// F16: a replica is taken away and added again before its leader hears of either.
    RemovedAndAdded => elections::removed_and_added,
    /// F13, F17, KIP-497: the leader never hears that its proposal was committed, and the new member falls behind.
    JoinUnheard => elections::join_unheard,
    /// F17: the controller that committed a proposal is gone before it could say so.
    ControllerGone => elections::controller_gone,
    /// F18: a controller that has heard of nothing for long serves its metadata to brokers that start.
    StaleSnapshot => elections::stale_snapshot,
    /// F19: the minimum is lowered while fewer are in sync, and raised again.
    MinimumChanged => elections::minimum_changed,
    /// F20: moves with kills in them: all replaced, cancelled, grown and shrunk.
    Moves => elections::moves,
    /// F21: a topic is deleted and made again while a replica of the first one is away.
    MadeAgain => elections::made_again,
    /// F23: flushes fail, on the leader and on a follower.
    FailedFlushes => disks::failed_flushes,
    /// F26: bits flip in what is flushed, of a follower and then of the leader.
    BitFlips => disks::bit_flips,
    /// F29: an empty disk where a replica was.
    EmptyDisk => disks::empty_disk,
    /// F31: wall clocks jump, and machines freeze.
    ClockJumps => disks::clock_jumps,
    /// F40: retention takes what readers and slow followers are at.
    Retention => disks::retention,
    /// F45, smaller: a broker with all of two dozen partitions is gone.
    ManyPartitions => disks::many_partitions,
    /// F46: the only complete replica is gone for good, and the operator elects another one.
    UncleanByCommand => disks::unclean_by_command,
    /// TLA+ of KIP-320: a leader whose high watermark is behind may not let anybody in who is behind the start of its epoch.
    NewLeaderBehind => disks::new_leader_behind,
    /// R13: a replica that was in memory only restarts while hardly anybody else is in sync.
    PageCacheRestart => disks::page_cache_restart,
    /// F27: a disk with everything as it was some time ago, in a leader. What the others know to be committed must stay.
    LyingLeader => disks::lying_leader,
    /// The same where an unclean election once marked the partition, and all that followed is of that epoch.
    LyingAfterUnclean => disks::lying_after_unclean,
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
