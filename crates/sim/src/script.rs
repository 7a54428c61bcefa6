//! Named faults in a fixed order: the ones that other systems lost data to.

use thalweg_types::Durability;

use crate::disk::DiskLog;
use crate::env::Event;
use crate::message::Host;
use crate::network::{SECOND, Time};
use crate::sim::Sim;

/// What is done, and when: in seconds where a script is written down.
type Step = (Time, fn(&mut Sim));

/// Steps at their times, and the end of it.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) durability: Durability,
    pub(crate) steps: Vec<Step>,
    pub(crate) until: Time,
}

/// A script that can be run by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// F5: a minority is cut off while the others write; one of those loses its power; the minority and it are all that is left.
    PartKill,
    /// F6: the last replica in sync loses its power, and an older one is there before it.
    LastReplicaStanding,
    /// F27: a disk with everything as it was some time ago, in a leader. What the others know to be committed must stay.
    LyingLeader,
    /// F3 for the marker: loss of power after a start that followed a clean stop.
    StoppedThenPowerLoss,
}

impl Named {
    pub const ALL: &[Self] =
        &[Self::PartKill, Self::LastReplicaStanding, Self::LyingLeader, Self::StoppedThenPowerLoss];

    pub(crate) fn script(self) -> Script {
        let steps: Vec<Step> = match self {
            Self::PartKill => vec![
                (8, |sim| sim.cut_off(sim.actors().follower)),
                (30, |sim| sim.power_off(sim.actors().other)),
                (31, |sim| sim.env.network.heal()),
                (31, |sim| sim.cut_off(sim.actors().leader)),
                (32, |sim| sim.power_on_all()),
            ],
            Self::LastReplicaStanding => vec![
                (8, |sim| sim.kill_for_long(sim.actors().follower)),
                (14, |sim| sim.kill_for_long(sim.actors().other)),
                (20, |sim| sim.power_off(sim.actors().leader)),
                (21, |sim| sim.power_on(sim.actors().follower)),
                (28, |sim| sim.power_on(sim.actors().leader)),
                (32, |sim| sim.power_on_all()),
            ],
            Self::LyingLeader => vec![
                (8, Sim::keep_copy),
                (20, |sim| sim.kill_for_long(sim.actors().follower)),
                (20, |sim| sim.kill_for_long(sim.actors().other)),
                (25, Sim::restore_copy),
                (32, |sim| sim.power_on_all()),
                (39, Sim::judge_liar),
            ],
            Self::StoppedThenPowerLoss => vec![
                (8, |sim| sim.stop(sim.actors().follower)),
                (16, |sim| sim.power_off(sim.actors().follower)),
                (20, |sim| sim.power_on_all()),
            ],
        };
        let steps = steps.into_iter().map(|(at, step)| (at * SECOND, step)).collect();
        Script { durability: Durability::Fsync, steps, until: 40 * SECOND }
    }
}

/// Who is who in a script: settled when it begins, so that an election does not change it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actors {
    pub(crate) leader: Host,
    pub(crate) follower: Host,
    pub(crate) other: Host,
}

impl Sim {
    pub(crate) fn script_step(&mut self, step: usize) {
        if self.cast.is_none() {
            self.cast = self.find_actors();
        }
        let found = self.plan.script.as_ref().and_then(|script| script.steps.get(step)).copied();
        if let Some((_, act)) = found.filter(|_| self.cast.is_some()) {
            act(self);
        }
    }

    fn find_actors(&self) -> Option<Actors> {
        let id = *self.partitions().first()?;
        let leader = self.quorum.image.partition_by_id(id)?.leader?;
        let leader = self.host_with_disk(leader)?;
        let mut others = (0..self.brokers.len()).filter(|host| *host != leader);
        Some(Actors { leader, follower: others.next()?, other: others.next()? })
    }

    fn actors(&self) -> Actors {
        self.cast.unwrap_or(Actors { leader: 0, follower: 1, other: 2 })
    }

    fn cut_off(&mut self, host: Host) {
        self.env.fault(|| format!("broker {host} is cut off"));
        self.env.network.isolate(host);
    }

    fn kill_for_long(&mut self, host: Host) {
        self.env.fault(|| format!("kill -9 of broker {host}"));
        self.brokers[host].crash(&mut self.env);
    }

    fn stop(&mut self, host: Host) {
        self.env.fault(|| format!("controlled shutdown of broker {host}"));
        self.brokers[host].shut_down();
    }

    fn power_off(&mut self, host: Host) {
        self.env.fault(|| format!("power loss of broker {host}"));
        self.brokers[host].lose_power(&mut self.env);
    }

    fn power_on(&mut self, broker: Host) {
        self.env.after(0, Event::StartBroker { broker });
    }

    fn power_on_all(&mut self) {
        for host in 0..self.brokers.len() {
            self.power_on(host);
        }
    }

    fn keep_copy(&mut self) {
        let Some(id) = self.partitions().first().copied() else { return };
        self.copy = self.disk_log(self.actors().leader, id).cloned().map(|log| (id, log));
    }

    /// The leader's disk shows again what it showed when the copy was made, and says that all of that is flushed.
    fn restore_copy(&mut self) {
        let host = self.actors().leader;
        let Some((id, log)) = self.copy.take() else { return };
        self.env.fault(|| format!("broker {host} has an old disk again"));
        self.env.oracle.has_liar = true;
        self.nemesis.damage(host);
        self.brokers[host].crash(&mut self.env);
        let mut log: DiskLog = log;
        log.rewrite_and_flush();
        if let Some(files) = self.brokers[host].log_mut(id) {
            *files = log;
        }
        self.power_on(host);
    }

    /// Somebody noticed, and nobody followed the liar.
    fn judge_liar(&mut self) {
        if self.env.stats.halts == 0 {
            self.env.oracle.violated("G-HW", || "nobody noticed the lying leader".to_owned());
        }
        self.is_over = true;
    }
}
