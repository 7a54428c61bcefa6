//! Judges a [`History`]: what was promised to producers and consumers held, or did not.
//!
//! Values are unique and offsets are known, so the order of a log is the order of its offsets, and nothing has to be searched for:
//! every check is a walk over sorted lists.
//!
//! | check | is broken by |
//! |---|---|
//! | [`InconsistentOffset`](Kind::InconsistentOffset) | two values at one offset, to whomever they were told or shown |
//! | [`Duplicate`](Kind::Duplicate) | one value at two offsets |
//! | [`FailedRead`](Kind::FailedRead) | a value that was definitely not written and is there |
//! | [`Phantom`](Kind::Phantom) | a value that nobody sent |
//! | [`Lost`](Kind::Lost) | an acknowledged value that is not there in the end, or that was read and is gone |
//! | [`SendOrder`](Kind::SendOrder) | a later record of one producer before an earlier one |
//! | [`RealTimeOrder`](Kind::RealTimeOrder) | a record sent after another one was acknowledged, and written before it |
//! | [`StaleEnd`](Kind::StaleEnd) | an end of the log, asked for after an acknowledgement, that is not behind it |
//! | [`PollBack`](Kind::PollBack), [`PollSkip`](Kind::PollSkip) | a consumer goes back, or jumps over offsets |
//! | [`CrossTopic`](Kind::CrossTopic) | a value in another place than it was sent to |
//! | [`Damaged`](Kind::Damaged) | a value that is not as anybody sent it |

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use crate::history::{End, History, Outcome, Place, Reading, Seen, Send, Value};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    InconsistentOffset,
    Duplicate,
    FailedRead,
    Phantom,
    Lost,
    SendOrder,
    RealTimeOrder,
    StaleEnd,
    PollBack,
    PollSkip,
    CrossTopic,
    Damaged,
}

/// One break, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub what: String,
}

/// The judgement.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    pub acknowledged: usize,
    pub failed: usize,
    pub unknown: usize,
    /// Of the unknown ones, how many are in the log.
    pub unknown_applied: usize,
    /// Records that fresh consumers read in the end, each place once.
    pub drained: usize,
    pub violations: Vec<Violation>,
}

impl Verdict {
    pub fn count(&self, kinds: &[Kind]) -> usize {
        self.violations.iter().filter(|violation| kinds.contains(&violation.kind)).count()
    }

    /// # Panics
    /// When anything is broken; shows the first of it.
    pub fn expect_sound(&self) {
        let shown: Vec<_> = self.violations.iter().take(20).map(ToString::to_string).collect();
        assert!(
            self.violations.is_empty(),
            "{} broken:\n{}",
            self.violations.len(),
            shown.join("\n")
        );
    }

    fn add(&mut self, kind: Kind, what: impl Into<String>) {
        self.violations.push(Violation { kind, what: what.into() });
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |kinds: &[Kind]| self.count(kinds);
        let reordered = [Kind::SendOrder, Kind::RealTimeOrder, Kind::PollBack, Kind::PollSkip];
        let others = [
            Kind::InconsistentOffset,
            Kind::FailedRead,
            Kind::Phantom,
            Kind::StaleEnd,
            Kind::CrossTopic,
            Kind::Damaged,
        ];
        writeln!(f, "acknowledged  {}", self.acknowledged)?;
        writeln!(f, "unknown       {} ({} applied)", self.unknown, self.unknown_applied)?;
        writeln!(f, "failed        {}", self.failed)?;
        writeln!(f, "drained       {} (the same over Kafka and gRPC)", self.drained)?;
        writeln!(f, "lost          {}", count(&[Kind::Lost]))?;
        writeln!(f, "duplicated    {}", count(&[Kind::Duplicate]))?;
        writeln!(f, "reordered     {}", count(&reordered))?;
        writeln!(f, "otherwise     {}", count(&others))?;
        self.violations.iter().take(20).try_for_each(|violation| writeln!(f, "{violation}"))
    }
}

/// Checks everything.
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let places = Places::of(history, &mut verdict);
    count_outcomes(history, &places, &mut verdict);
    for reading in history.readings.iter().chain(&history.drains) {
        check_reading(reading, &mut verdict);
    }
    check_values(history, &places, &mut verdict);
    check_lost(history, &places, &mut verdict);
    check_order(history, &mut verdict);
    for (place, sends) in acknowledged_by_place(history) {
        check_real_time(place, &sends, &mut verdict);
        let ends = history.ends.iter().filter(|end| end.place == *place);
        check_ends(&sends, ends.collect(), &mut verdict);
    }
    verdict
}

/// Where every value was told or shown to be, and what every offset holds.
#[derive(Default)]
struct Places<'a> {
    offsets: HashMap<&'a Value, Vec<i64>>,
    /// Values that some consumer was given.
    seen: HashSet<&'a Value>,
    /// Values that fresh consumers were given in the end.
    drained: HashSet<&'a Value>,
}

impl<'a> Places<'a> {
    /// Takes acknowledgements and readings together; what does not fit is broken.
    fn of(history: &'a History, verdict: &mut Verdict) -> Self {
        let mut places = Self::default();
        let mut values: HashMap<(&Place, i64), &Value> = HashMap::new();
        let mut put = |places: &mut Self, place: &'a Place, offset, value: &'a Value| {
            let offsets = places.offsets.entry(value).or_default();
            if !offsets.contains(&offset) {
                offsets.push(offset);
            }
            let known = values.entry((place, offset)).or_insert(value);
            (*known != value).then(|| format!("{place} at {offset}: {value}, and {known}"))
        };
        for send in &history.sends {
            if let Outcome::Acknowledged(offset) = send.outcome
                && let Some(what) = put(&mut places, &send.value.place, offset, &send.value)
            {
                verdict.add(Kind::InconsistentOffset, what);
            }
        }
        let readings = history.readings.iter().map(|reading| (reading, false));
        for (reading, is_drain) in readings.chain(history.drains.iter().map(|drain| (drain, true)))
        {
            for seen in &reading.seen {
                let Some(value) = &seen.value else {
                    let what = format!("{}: {} at {}", reading.consumer, seen.place, seen.offset);
                    verdict.add(Kind::Damaged, what);
                    continue;
                };
                if let Some(what) = put(&mut places, &seen.place, seen.offset, value) {
                    verdict.add(Kind::InconsistentOffset, format!("{}: {what}", reading.consumer));
                }
                if value.place != seen.place {
                    verdict.add(Kind::CrossTopic, format!("{value} is in {}", seen.place));
                }
                places.seen.insert(value);
                if is_drain {
                    places.drained.insert(value);
                }
            }
        }
        places
    }
}

fn count_outcomes(history: &History, places: &Places<'_>, verdict: &mut Verdict) {
    verdict.drained = places.drained.len();
    for send in &history.sends {
        match send.outcome {
            Outcome::Acknowledged(_) => verdict.acknowledged += 1,
            Outcome::Failed => verdict.failed += 1,
            Outcome::Unknown => {
                verdict.unknown += 1;
                verdict.unknown_applied += usize::from(places.seen.contains(&send.value));
            }
        }
    }
}

/// One consumer goes on by one offset at a time.
fn check_reading(reading: &Reading, verdict: &mut Verdict) {
    for pair in reading.seen.windows(2) {
        let [Seen { offset: before, .. }, Seen { offset: after, place, .. }] = pair else {
            continue;
        };
        let what = format!("{}: {place} at {before}, then {after}", reading.consumer);
        if after <= before {
            verdict.add(Kind::PollBack, what);
        } else if *after > before + 1 {
            verdict.add(Kind::PollSkip, what);
        }
    }
}

/// Each value at one offset at most; none that failed, none that nobody sent.
fn check_values(history: &History, places: &Places<'_>, verdict: &mut Verdict) {
    let sent: HashMap<&Value, Outcome> =
        history.sends.iter().map(|send| (&send.value, send.outcome)).collect();
    let mut values: Vec<_> = places.offsets.iter().collect();
    values.sort_unstable();
    for (value, offsets) in values {
        if offsets.len() > 1 {
            verdict.add(Kind::Duplicate, format!("{value} at {offsets:?}"));
        }
        match sent.get(value) {
            None => verdict.add(Kind::Phantom, format!("{value} at {offsets:?}")),
            Some(Outcome::Failed) => {
                verdict.add(Kind::FailedRead, format!("{value} at {offsets:?}"));
            }
            Some(Outcome::Acknowledged(_) | Outcome::Unknown) => {}
        }
    }
}

/// In the end everything is there that was acknowledged, or that anybody has read.
fn check_lost(history: &History, places: &Places<'_>, verdict: &mut Verdict) {
    for send in &history.sends {
        let Outcome::Acknowledged(offset) = send.outcome else { continue };
        if !places.drained.contains(&send.value) {
            verdict.add(Kind::Lost, format!("{} acknowledged at {offset}", send.value));
        }
    }
    let acknowledged: HashSet<&Value> = history
        .sends
        .iter()
        .filter(|send| matches!(send.outcome, Outcome::Acknowledged(_)))
        .map(|send| &send.value)
        .collect();
    let mut read: Vec<_> = places
        .seen
        .iter()
        .filter(|value| !places.drained.contains(*value) && !acknowledged.contains(*value))
        .collect();
    read.sort_unstable();
    for value in read {
        verdict.add(Kind::Lost, format!("{value} was read"));
    }
}

/// What one producer had acknowledged lies in the order it was sent.
fn check_order(history: &History, verdict: &mut Verdict) {
    let mut by_producer: BTreeMap<(u32, &Place), Vec<(u64, i64)>> = BTreeMap::new();
    for send in &history.sends {
        if let Outcome::Acknowledged(offset) = send.outcome {
            let key = (send.value.producer, &send.value.place);
            by_producer.entry(key).or_default().push((send.value.number, offset));
        }
    }
    for ((producer, place), mut sends) in by_producer {
        sends.sort_unstable();
        for pair in sends.windows(2) {
            let [(earlier, before), (later, after)] = pair else { continue };
            if after <= before {
                let what = format!(
                    "{place}: producer {producer}'s {later} at {after}, its {earlier} at {before}"
                );
                verdict.add(Kind::SendOrder, what);
            }
        }
    }
}

/// Acknowledged sends with their offsets, by place.
fn acknowledged_by_place(history: &History) -> BTreeMap<&Place, Vec<(&Send, i64)>> {
    let mut places: BTreeMap<&Place, Vec<(&Send, i64)>> = BTreeMap::new();
    for send in &history.sends {
        if let Outcome::Acknowledged(offset) = send.outcome {
            places.entry(&send.value.place).or_default().push((send, offset));
        }
    }
    places
}

/// The largest acknowledged offset at any time, asked for in the order of time.
struct Acknowledged<'a> {
    by_end: Vec<(&'a Send, i64)>,
    next: usize,
    largest: Option<(i64, &'a Send)>,
}

impl<'a> Acknowledged<'a> {
    fn new(sends: &[(&'a Send, i64)]) -> Self {
        let mut by_end = sends.to_vec();
        by_end.sort_by_key(|(send, _)| send.ended);
        Self { by_end, next: 0, largest: None }
    }

    /// Of what was acknowledged before `time`.
    fn before(&mut self, time: Duration) -> Option<(i64, &'a Send)> {
        while let Some((send, offset)) = self.by_end.get(self.next).filter(|(s, _)| s.ended < time)
        {
            if self.largest.is_none_or(|(largest, _)| largest < *offset) {
                self.largest = Some((*offset, send));
            }
            self.next += 1;
        }
        self.largest
    }
}

/// Whoever began after another one's acknowledgement is behind it.
fn check_real_time(place: &Place, sends: &[(&Send, i64)], verdict: &mut Verdict) {
    let mut acknowledged = Acknowledged::new(sends);
    let mut by_begin = sends.to_vec();
    by_begin.sort_by_key(|(send, _)| send.begun);
    for (send, offset) in by_begin {
        if let Some((largest, other)) = acknowledged.before(send.begun)
            && largest > offset
        {
            let what = format!(
                "{place}: {} at {offset} was begun after {} was acknowledged at {largest}",
                send.value, other.value
            );
            verdict.add(Kind::RealTimeOrder, what);
        }
    }
}

/// Whoever asks for the end after an acknowledgement is told one behind it.
fn check_ends(sends: &[(&Send, i64)], mut ends: Vec<&End>, verdict: &mut Verdict) {
    let mut acknowledged = Acknowledged::new(sends);
    ends.sort_by_key(|end| end.begun);
    for end in ends {
        if let Some((largest, other)) = acknowledged.before(end.begun)
            && end.offset <= largest
        {
            let what = format!(
                "{} ends at {}, after {} was acknowledged at {largest}",
                end.place, end.offset, other.value
            );
            verdict.add(Kind::StaleEnd, what);
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

#[cfg(test)]
mod tests;
