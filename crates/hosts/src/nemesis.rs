//! What goes wrong: hosts end or lose their power and come back, links break, hold up what is on them, and heal.

use std::time::Duration;

use thalweg_env::fs::SimFs;
use thalweg_env::{Random, SeededRandom};
use turmoil::Sim;

use crate::client::NODE;
use crate::controllers::{CONTROLLERS, name};
use crate::trace::Trace;

pub(crate) struct Nemesis {
    random: SeededRandom,
    disks: Vec<SimFs>,
    trace: Trace,
    next: Duration,
    /// Hosts that are down, and until when.
    down: Vec<(u64, Duration)>,
    /// Pairs that are cut off from each other, and until when.
    cut: Vec<(String, String, bool, Duration)>,
    pub(crate) faults: usize,
}

impl Nemesis {
    pub(crate) fn new(seed: u64, disks: Vec<SimFs>, trace: Trace) -> Self {
        let next = Duration::from_secs(4);
        let (down, cut) = (Vec::new(), Vec::new());
        Self { random: SeededRandom::new(seed), disks, trace, next, down, cut, faults: 0 }
    }

    /// Does what is due by now.
    pub(crate) fn act(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        self.end_faults(sim, now);
        if now < self.next {
            return;
        }
        self.next = now + self.between(500, 6_000);
        self.faults += 1;
        match self.random.below(6) {
            0 | 1 => self.crash(sim, now),
            2 => {
                // All at once, now and then.
                for _ in 0..self.random.below(3) + 1 {
                    self.crash(sim, now);
                }
            }
            3 => self.isolate(sim, now),
            _ => self.cut_one(sim, now),
        }
    }

    /// Everything heals.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>) {
        self.end_faults(sim, Duration::MAX);
    }

    fn end_faults(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let at = sim.elapsed();
        let ended = |until: &Duration| *until <= now;
        for (id, _) in self.down.extract_if(.., |(_, until)| ended(until)) {
            self.trace.note_at(at, format_args!("{} starts", name(id)));
            sim.bounce(name(id));
        }
        for (a, b, held, _) in self.cut.extract_if(.., |(_, _, _, until)| ended(until)) {
            self.trace.note_at(at, format_args!("{a} and {b} find each other"));
            match held {
                true => sim.release(a, b),
                false => sim.repair(a, b),
            }
        }
    }

    fn between(&self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(least_ms + self.random.below(most_ms - least_ms))
    }

    fn crash(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let id = self.random.below(CONTROLLERS) + 1;
        if self.down.iter().any(|(down, _)| *down == id) {
            return;
        }
        sim.crash(name(id));
        let power_is_lost = self.random.below(2) == 0;
        if let Some(disk) = usize::try_from(id - 1).ok().and_then(|at| self.disks.get(at)) {
            match power_is_lost {
                true => disk.restart_after_power_cut(),
                false => disk.restart_after_kill(),
            }
        }
        self.trace.note_at(now, format_args!("{} ends, power lost: {power_is_lost}", name(id)));
        self.down.push((id, now + self.between(200, 5_000)));
    }

    /// One controller from all others and from the clients.
    fn isolate(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let id = self.random.below(CONTROLLERS) + 1;
        let until = now + self.between(1_000, 8_000);
        let held = self.random.below(2) == 0;
        let others = (1..=CONTROLLERS).filter(|other| *other != id).map(name);
        for other in others.chain([NODE.to_owned(), CLIENT.to_owned()]) {
            self.cut(sim, (name(id), other), held, (now, until));
        }
    }

    fn cut_one(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let one = self.random.below(CONTROLLERS) + 1;
        let other = (one + self.random.below(CONTROLLERS - 1)) % CONTROLLERS + 1;
        let until = now + self.between(1_000, 8_000);
        let held = self.random.below(2) == 0;
        self.cut(sim, (name(one), name(other)), held, (now, until));
    }

    fn cut(
        &mut self,
        sim: &mut Sim<'_>,
        (a, b): (String, String),
        held: bool,
        (now, until): (Duration, Duration),
    ) {
        let is_known = |(c, d): (&String, &String)| (c, d) == (&a, &b) || (d, c) == (&a, &b);
        if self.cut.iter().any(|(c, d, _, _)| is_known((c, d))) {
            return;
        }
        self.trace.note_at(now, format_args!("{a} and {b} lose each other, held: {held}"));
        match held {
            true => sim.hold(a.clone(), b.clone()),
            false => sim.partition(a.clone(), b.clone()),
        }
        self.cut.push((a, b, held, until));
    }
}

/// The host that creates topics.
pub(crate) const CLIENT: &str = "client";
