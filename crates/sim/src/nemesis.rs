//! Faults at random, and the operator who works on regardless.
//!
//! What must be survived has limits, and the nemesis keeps them: what destroys data (damage, an empty disk, loss of power where nothing is
//! flushed) hits a replica only while another one that may be elected has everything. Everything else comes as it likes.

mod destruction;
mod operator;

use std::collections::BTreeSet;

use thalweg_types::{Durability, TopicIdPartition};

use crate::env::Event;
use crate::message::{CONTROLLERS, FIRST_CONTROLLER, Host};
use crate::network::{MS, SECOND};
use crate::rng::Rng;
use crate::sim::Sim;

pub(crate) struct Nemesis {
    pub(crate) rng: Rng,
    later_rng: Rng,
    /// Hosts whose data was destroyed and has not been restored yet.
    damaged: BTreeSet<Host>,
    /// No destruction before this: the operator changed what it depends on.
    careful_until: u64,
    /// One broker at most has a full disk or fails to flush.
    deleted: u32,
    overdone: bool,
}

impl Nemesis {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = Rng::new(seed, "nemesis");
        let later_rng = Rng::new(seed, "later nemesis");
        Self {
            rng,
            later_rng,
            damaged: BTreeSet::new(),
            careful_until: 0,
            deleted: 0,
            overdone: false,
        }
    }

    pub(crate) fn is_damaged(&self, host: Host) -> bool {
        self.damaged.contains(&host)
    }

    pub(crate) fn damage(&mut self, host: Host) {
        self.damaged.insert(host);
    }

    /// A script destroyed the only complete replica on purpose.
    pub(crate) fn has_overdone(&self) -> bool {
        self.overdone
    }

    pub(crate) fn overdo(&mut self) {
        self.overdone = true;
    }

    /// The operator deletes a topic, which is made again.
    pub(crate) fn note_deletion(&mut self) {
        self.deleted += 1;
    }

    /// How fast a broker's clock runs, in thousandths.
    pub(crate) fn clock_rate(&mut self) -> u64 {
        if self.rng.chance(200) { self.rng.between(970, 1_030) } else { 1_000 }
    }

    /// The end of a run begins with a restart of everything.
    pub(crate) fn wants_full_restart(&mut self) -> bool {
        self.rng.chance(250)
    }
}

impl Sim {
    /// One fault, or one wish of the operator, and the time of the next.
    pub(crate) fn disturb(&mut self) {
        if self.is_healed {
            return;
        }
        if !self.create_topics() || self.plan.script.is_some() {
            self.env.after(500 * MS, Event::Nemesis);
            return;
        }
        self.forget_restored();
        let count = if self.plan.kinds.storms { self.nemesis.rng.between(1, 3) } else { 1 };
        for _ in 0..count {
            self.one_fault();
        }
        self.later_fault();
        self.check_metadata();
        let pause = self.nemesis.rng.between(50 * MS, self.plan.pause);
        self.env.after(pause, Event::Nemesis);
    }

    fn one_fault(&mut self) {
        let kinds = self.plan.kinds;
        let host = self.nemesis.rng.index(self.brokers.len());
        match self.nemesis.rng.below(30) {
            0..=4 => self.kill(host),
            5..=6 => self.stop_cleanly(host),
            7..=9 if kinds.power => self.cut_power(&[host]),
            10 if kinds.power => self.cut_power_of_many(),
            11..=12 if kinds.pauses => self.pause(host),
            13..=17 if kinds.network => self.disturb_network(),
            18 => self.disturb_disk(host),
            19..=20 if kinds.damage => self.destroy(host),
            21..=23 if kinds.controllers => self.disturb_controllers(),
            24..=28 if kinds.administration => self.operate(),
            _ => {}
        }
    }

    /// Drawn from randomness of its own: see [`crate::plan::Later`].
    fn later_fault(&mut self) {
        let mut rng = self.nemesis.later_rng.clone();
        if self.plan.later.holds {
            let all = FIRST_CONTROLLER + CONTROLLERS;
            match rng.below(4) {
                0 => {
                    let (from, to) = (rng.index(all), rng.index(all));
                    let is_broker = to < self.brokers.len();
                    // Either one link, or all that a broker hears from the controllers.
                    if is_broker && rng.chance(500) {
                        (FIRST_CONTROLLER..all).for_each(|from| self.env.hold(from, to));
                    } else if from != to {
                        self.env.hold(from, to);
                    }
                }
                1 => {}
                _ => self.env.release_all(),
            }
        }
        if self.plan.later.wishes && rng.chance(250) {
            self.later_wish(&mut rng);
        }
        if self.plan.later.repeats && rng.chance(200) {
            self.env.network.repeats = rng.below(200);
        }
        if self.plan.later.session_holds && rng.chance(300) {
            let host = rng.index(self.brokers.len());
            self.env.fault(|| format!("what holds the session of broker {host} breaks"));
            self.brokers[host].holds.break_off(&mut self.env, host);
        }
        self.nemesis.later_rng = rng;
    }

    // ---- Processes and machines ----

    fn kill(&mut self, host: Host) {
        if !self.may_end(&[host]) {
            return;
        }
        self.env.fault(|| format!("kill -9 of broker {host}"));
        self.brokers[host].crash(&mut self.env);
        self.start_later(host);
    }

    pub(crate) fn start_later(&mut self, broker: Host) {
        let quick = self.nemesis.rng.chance(500);
        let delay = self.nemesis.rng.between(20 * MS, if quick { 400 * MS } else { 8 * SECOND });
        self.env.after(delay, Event::StartBroker { broker });
    }

    fn stop_cleanly(&mut self, host: Host) {
        self.env.fault(|| format!("controlled shutdown of broker {host}"));
        self.brokers[host].shut_down();
    }

    /// A partition whose replicas lose data when their processes end without proof.
    fn is_lossy(&self, id: TopicIdPartition) -> bool {
        let state = self.quorum.image.partition_by_id(id);
        state.is_some_and(|state| {
            state.durability == Durability::Replicated || !state.unproven.is_empty()
        })
    }

    pub(crate) fn has_lossy(&self) -> bool {
        self.partitions().into_iter().any(|id| self.is_lossy(id))
    }

    /// Whether these processes may end without proof; notes that their data is not to be counted on.
    fn may_end(&mut self, hosts: &[Host]) -> bool {
        let lossy: Vec<_> = self.partitions().into_iter().filter(|id| self.is_lossy(*id)).collect();
        let may = lossy.iter().all(|id| self.may_destroy(*id, hosts));
        if may && !lossy.is_empty() {
            self.nemesis.damaged.extend(hosts);
        }
        may
    }

    pub(crate) fn cut_power(&mut self, hosts: &[Host]) {
        if !self.may_end(hosts) {
            return;
        }
        for host in hosts {
            self.env.fault(|| format!("power loss of broker {host}"));
            self.brokers[*host].lose_power(&mut self.env);
            self.start_later(*host);
        }
    }

    fn cut_power_of_many(&mut self) {
        let all = self.nemesis.rng.chance(500);
        let hosts: Vec<_> =
            (0..self.brokers.len()).filter(|_| all || self.nemesis.rng.chance(600)).collect();
        self.cut_power(&hosts);
    }

    fn pause(&mut self, host: Host) {
        let host = match self.nemesis.rng.chance(300) {
            true => FIRST_CONTROLLER + self.nemesis.rng.index(CONTROLLERS),
            false => host,
        };
        let time = self.nemesis.rng.between(100 * MS, 6 * SECOND);
        self.env.fault(|| format!("host {host} stands still for {} ms", time / MS));
        self.env.paused[host] = self.env.paused[host].max(self.env.now + time);
    }

    fn disturb_network(&mut self) {
        let all = FIRST_CONTROLLER + CONTROLLERS;
        let mut rng = self.nemesis.rng.clone();
        let network = &mut self.env.network;
        let what = match rng.below(9) {
            0 => {
                let host = rng.index(self.brokers.len());
                network.isolate(host);
                format!("broker {host} is cut off")
            }
            1 => {
                let host = FIRST_CONTROLLER + rng.index(CONTROLLERS);
                network.isolate(host);
                format!("host {host} is cut off")
            }
            2 | 3 => {
                let (from, to) = (rng.index(all), rng.index(all));
                network.cut(from, to);
                format!("nothing gets from {from} to {to}")
            }
            4 => {
                let side = rng.next();
                let (a, b): (Vec<_>, Vec<_>) = (0..all).partition(|host| side >> host & 1 == 0);
                network.split(&a, &b);
                format!("{a:?} and {b:?} are parted")
            }
            5 => {
                let host = rng.index(self.brokers.len());
                network.slow_down(host);
                format!("links of broker {host} are slow")
            }
            6 => {
                network.loss = rng.between(1, 60);
                network.spikes = rng.between(5, 80);
                format!("{} of 1,000 messages are lost", network.loss)
            }
            _ => {
                network.heal();
                "the network is healed".to_owned()
            }
        };
        self.nemesis.rng = rng;
        self.env.fault(|| what);
    }

    fn disturb_disk(&mut self, host: Host) {
        let may_fail = !self.has_lossy();
        let mut rng = self.nemesis.rng.clone();
        let faults = &mut self.brokers[host].faults;
        let what = match rng.below(6) {
            0 | 1 if may_fail => {
                faults.fail_flush = true;
                "fails to flush"
            }
            2 => {
                faults.disk_full = true;
                "has a full disk"
            }
            3 => {
                faults.slow_disk = true;
                "has a slow disk"
            }
            4 => {
                faults.skew_ms = i64::try_from(rng.below(7_200_000)).unwrap_or(0) - 3_600_000;
                "has its clock set"
            }
            _ => {
                faults.slow_disk = false;
                faults.disk_full = false;
                "has a good disk"
            }
        };
        self.nemesis.rng = rng;
        self.env.fault(|| format!("broker {host} {what}"));
    }

    fn disturb_controllers(&mut self) {
        let at = self.nemesis.rng.index(CONTROLLERS);
        let at = match self.nemesis.rng.chance(600) {
            true => self.quorum.newest_active().unwrap_or(at),
            false => at,
        };
        if self.quorum.is_up(at) {
            self.quorum.crash(&mut self.env, at);
        }
        for at in 0..CONTROLLERS {
            if self.nemesis.rng.chance(500) {
                self.quorum.restart(&mut self.env, at);
            }
        }
    }
}
