//! One run from one seed: coordinators, the network between them and the log, and the judge.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use thalweg_coordinator_runtime::{
    Action, Condition, Limits, LogEnds, Machine, Now, PortError, Refusal, Report, Ticket, Token,
};
use thalweg_types::{CoordinatorEpoch, Moment, NodeId, Offset, Timestamp};

use crate::ledger::{Ask, Ledger, Version};
use crate::log::Log;

type Coordinator = Machine<Ledger, fn() -> Ledger>;

const LEASE_MS: u64 = 40;

/// What is wrong with a run.
#[derive(Debug)]
pub(crate) struct Wrong(String);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) adds: usize,
    pub(crate) looks: usize,
    pub(crate) refused: usize,
    pub(crate) dropped: usize,
    pub(crate) leader_changes: usize,
    pub(crate) served_after_another: usize,
}

pub(crate) struct World {
    random: u64,
    now: u64,
    log: Log,
    coordinators: BTreeMap<i32, Coordinator>,
    /// The one that the controller means.
    current: i32,
    /// Not driven until then: stopped by their machine.
    paused_until: BTreeMap<i32, u64>,
    /// On their way, by when they arrive and a number.
    messages: BTreeMap<(u64, u64), Message>,
    sent: u64,
    /// No message arrives at the log before one sent earlier by the same coordinator, except for those that are let out of the line.
    lines: BTreeMap<i32, u64>,
    /// Appended or checked, and to be answered when the high watermark is there.
    uncommitted: Vec<(i32, Ticket, i64)>,
    calls: BTreeMap<u64, (Ask, u64)>,
    asked: u64,
    /// Versions told so far, with the largest; and who was told that he had counted.
    told: u64,
    owners: BTreeSet<u64>,
    pub(crate) counts: Counts,
}

enum Message {
    ToLog(i32, Question),
    ToCoordinator(i32, Answer),
}

#[derive(Clone)]
enum Question {
    Locate(Ticket),
    Read(Ticket, Offset),
    Append(Ticket, Condition, Bytes),
}

enum Answer {
    Located(Ticket, Result<LogEnds, PortError>),
    Read(Ticket, Result<Vec<Bytes>, PortError>),
    Appended(Ticket, Result<(), PortError>),
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            random: seed,
            now: 1,
            log: Log::new(true),
            coordinators: BTreeMap::new(),
            current: 0,
            paused_until: BTreeMap::new(),
            messages: BTreeMap::new(),
            sent: 0,
            lines: BTreeMap::new(),
            uncommitted: Vec::new(),
            calls: BTreeMap::new(),
            asked: 0,
            told: 0,
            owners: BTreeSet::new(),
            counts: Counts::default(),
        };
        world.assign();
        world
    }

    pub(crate) fn step(&mut self) -> Result<(), Wrong> {
        match self.below(100) {
            0..45 => self.ask(),
            45..62 => self.log.replicate(1 + self.random as usize % 3),
            62..63 if self.below(2) == 0 => {
                let (kept, forgotten) = (self.below(4) as usize, self.below(3) as usize);
                self.log.elect(kept, forgotten);
                self.counts.leader_changes += 1;
                for (who, ticket, _) in std::mem::take(&mut self.uncommitted) {
                    let lost = Err(PortError::Unknown("the leader is gone".into()));
                    self.send(who, Message::ToCoordinator(who, Answer::Appended(ticket, lost)));
                }
            }
            63..64 if self.below(3) == 0 => self.assign(),
            64..66 => {
                let pause_ms = self.below(60);
                let who = self.any_coordinator();
                self.paused_until.insert(who, self.now + pause_ms);
            }
            66..67 => {
                let who = self.any_coordinator();
                if who != self.current
                    && let Some(mut old) = self.coordinators.remove(&who)
                {
                    old.stop();
                    self.drain(who, &mut old)?;
                }
            }
            67..69 => self.log.hear_of(self.current),
            69..71 => {
                let (who, now) = (self.any_coordinator(), self.moment());
                if let Some(coordinator) = self.coordinators.get_mut(&who) {
                    coordinator.handle_event((), now);
                }
            }
            _ => self.now += self.random % 5,
        }
        self.run()
    }

    /// Nothing fails any more: the current coordinator serves, and what it says is what is stored.
    pub(crate) fn heal(&mut self) -> Result<(), Wrong> {
        self.paused_until.clear();
        self.log.hear_of(self.current);
        for _ in 0..2_000 {
            self.now += 3;
            self.log.replicate(10);
            self.run()?;
            if self.coordinators.get(&self.current).is_some_and(Machine::is_serving) {
                break;
            }
        }
        if !self.coordinators.get(&self.current).is_some_and(Machine::is_serving) {
            return Err(Wrong(NOBODY_SERVES.into()));
        }
        self.log.history().map_err(Wrong).map(|_| ())
    }

    // ---- What happens ----

    /// The controller gives the partition to a new coordinator; the old ones are not told yet.
    fn assign(&mut self) {
        self.current += 1;
        let (epoch, chain_base) = (self.current, self.below(u64::MAX));
        let limits = Limits { appends_max: 4, batch_bytes_max: 200, ..Limits::default() };
        let coordinator = Machine::new(
            Ledger::default as fn() -> Ledger,
            limits,
            NodeId(epoch),
            CoordinatorEpoch(epoch),
            chain_base,
            self.moment(),
        );
        self.coordinators.insert(epoch, coordinator);
    }

    fn ask(&mut self) {
        let who = self.any_coordinator();
        let request = match self.below(10) {
            0..6 => Ask::Add(self.asked),
            6..9 => Ask::Look,
            _ => Ask::Peek,
        };
        let token = Token(self.asked);
        self.asked += 1;
        let (now, lease) = (self.moment(), Moment(self.now + LEASE_MS));
        let is_current = who == self.current;
        let Some(coordinator) = self.coordinators.get_mut(&who) else { return };
        if is_current {
            coordinator.handle_lease(lease);
        }
        self.calls.insert(token.0, (request, self.told));
        coordinator.handle_call(token, request, now);
    }

    fn run(&mut self) -> Result<(), Wrong> {
        while let Some(entry) = self.messages.first_entry().filter(|e| e.key().0 <= self.now) {
            match entry.remove() {
                Message::ToLog(who, question) => self.at_log(who, question),
                Message::ToCoordinator(who, answer) => self.at_coordinator(who, answer),
            }
        }
        let log = &self.log;
        let committed: Vec<_> =
            self.uncommitted.extract_if(.., |(_, _, end)| log.has_committed(*end)).collect();
        for (who, ticket, _) in committed {
            self.send(who, Message::ToCoordinator(who, Answer::Appended(ticket, Ok(()))));
        }
        let all = self.coordinators.keys().copied();
        for who in all.filter(|who| self.is_awake(*who)).collect::<Vec<_>>() {
            let Some(mut coordinator) = self.coordinators.remove(&who) else { continue };
            let now = self.moment();
            if coordinator.next_deadline().is_some_and(|at| at <= now.moment) {
                coordinator.handle_deadline(now);
            }
            self.drain(who, &mut coordinator)?;
            self.coordinators.insert(who, coordinator);
        }
        Ok(())
    }

    fn drain(&mut self, who: i32, coordinator: &mut Coordinator) -> Result<(), Wrong> {
        while let Some(action) = coordinator.poll_action() {
            match action {
                Action::Locate { ticket } => self.question(who, Question::Locate(ticket)),
                Action::Read { ticket, from } => self.question(who, Question::Read(ticket, from)),
                Action::Append { ticket, condition, batch } => {
                    self.question(who, Question::Append(ticket, condition, batch));
                }
                Action::Answer { token, answer } => self.judge(token, answer)?,
                Action::Report(Report::Dropped(_)) => self.counts.dropped += 1,
                Action::Report(Report::Serving { records, .. }) => {
                    self.counts.served_after_another += usize::from(records > 0 && who > 1);
                }
                Action::Report(_) => {}
            }
        }
        Ok(())
    }

    // ---- The network ----

    /// Sends a question: it may be lost, which is noticed after a while, and it may arrive twice.
    fn question(&mut self, who: i32, question: Question) {
        // Rough times and calm ones take turns.
        let is_rough = (self.now / 200) % 2 == 1;
        let is_lost = is_rough && self.below(40) == 0;
        if !is_lost {
            self.send(who, Message::ToLog(who, question.clone()));
        }
        if is_rough && self.below(10) == 0 {
            let later = self.below(150);
            self.post(self.now + later, Message::ToLog(who, question.clone()));
        }
        if is_lost || is_rough && self.below(60) == 0 {
            let timeout = PortError::Unknown("no answer".into());
            let answer = match question {
                Question::Locate(ticket) => Answer::Located(ticket, Err(timeout)),
                Question::Read(ticket, _) => Answer::Read(ticket, Err(timeout)),
                Question::Append(ticket, ..) => Answer::Appended(ticket, Err(timeout)),
            };
            let later = self.below(30);
            self.post(self.now + later, Message::ToCoordinator(who, answer));
        }
    }

    fn send(&mut self, who: i32, message: Message) {
        let mut at = self.now + self.below(3);
        match self.below(40) {
            0 => at += self.below(40),
            _ => {
                let line = self.lines.entry(who).or_default();
                *line = at.max(*line);
                at = *line;
            }
        }
        self.post(at, message);
    }

    fn post(&mut self, at: u64, message: Message) {
        self.sent += 1;
        self.messages.insert((at, self.sent), message);
    }

    fn at_log(&mut self, who: i32, question: Question) {
        let answer = match question {
            Question::Locate(ticket) => Answer::Located(ticket, Ok(self.log.ends())),
            Question::Read(ticket, from) => {
                let count = 1 + self.below(5) as usize;
                Answer::Read(ticket, Ok(self.log.read(from.0, count)))
            }
            Question::Append(ticket, condition, batch) => {
                match self.log.append(condition, &batch) {
                    Ok(end) => return self.uncommitted.push((who, ticket, end)),
                    Err(error) => Answer::Appended(ticket, Err(error)),
                }
            }
        };
        self.send(who, Message::ToCoordinator(who, answer));
    }

    fn at_coordinator(&mut self, who: i32, answer: Answer) {
        if !self.is_awake(who) {
            let until = self.paused_until[&who];
            return self.post(until, Message::ToCoordinator(who, answer));
        }
        let now = self.moment();
        let Some(coordinator) = self.coordinators.get_mut(&who) else { return };
        match answer {
            Answer::Located(ticket, result) => coordinator.handle_located(ticket, result, now),
            Answer::Read(ticket, result) => coordinator.handle_read(ticket, result, now),
            Answer::Appended(ticket, result) => coordinator.handle_appended(ticket, result, now),
        }
    }

    // ---- The judge ----

    fn judge(&mut self, token: Token, answer: Result<Version, Refusal>) -> Result<(), Wrong> {
        let Some((request, told_before)) = self.calls.remove(&token.0) else {
            return Err(Wrong(format!("{token:?} is answered twice")));
        };
        let Ok(Version(version)) = answer else {
            self.counts.refused += 1;
            return Ok(());
        };
        let history = self.log.history().map_err(Wrong)?;
        if version > history.len() as u64 {
            let committed = history.len();
            return Err(Wrong(format!("told {version} while {committed} are committed")));
        }
        match request {
            Ask::Add(by) => {
                self.counts.adds += 1;
                let owner = history.get(version as usize - 1);
                if owner != Some(&by) || !self.owners.insert(by) {
                    return Err(Wrong(format!("{by} was told {version}, which is {owner:?}'s")));
                }
            }
            Ask::Look => {
                self.counts.looks += 1;
                if version < told_before {
                    return Err(Wrong(format!("saw {version} after {told_before} was told")));
                }
            }
            Ask::Peek => {}
        }
        self.told = self.told.max(version);
        Ok(())
    }

    // ---- Small things ----

    fn moment(&self) -> Now {
        Now { moment: Moment(self.now), wall: Timestamp(self.now as i64) }
    }

    fn is_awake(&self, who: i32) -> bool {
        self.paused_until.get(&who).is_none_or(|until| *until <= self.now)
    }

    /// The current one more often than the others.
    fn any_coordinator(&mut self) -> i32 {
        let all: Vec<_> = self.coordinators.keys().copied().collect();
        match self.below(3) {
            0 => all[self.below(all.len() as u64) as usize],
            _ => self.current,
        }
    }

    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

const NOBODY_SERVES: &str = "nobody serves though nothing fails any more";

impl Wrong {
    /// Whether what was said, or stored, is not one history.
    pub(crate) fn is_contradiction(&self) -> bool {
        self.0 != NOBODY_SERVES
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.adds += other.adds;
        self.looks += other.looks;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.leader_changes += other.leader_changes;
        self.served_after_another += other.served_after_another;
    }
}
