//! Consumers of one group as processes of their own, what they say they do, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::client::Client;

/// A session has to end, and a rebalance with it, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Own,
    Lost,
    Got(i64),
    Committed(i64),
}

/// What a member says: when, in microseconds since 1970, about which partition.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub time: u64,
    pub partition: i32,
    pub what: What,
}

#[derive(Debug, Clone, Default)]
struct Events(Arc<Mutex<Vec<Event>>>);

/// A member of a group that reads one topic; killed when it is dropped.
#[derive(Debug)]
pub struct Member {
    process: Child,
    events: Events,
    /// Since when it is surely gone.
    gone_at: Option<u64>,
}

impl Member {
    /// Has a client join, by the `group` verb of `clients/README.md`.
    ///
    /// # Panics
    /// When the program does not start.
    pub fn join(
        client: &Client,
        kafka: impl ToString,
        topic: &str,
        group: &str,
        strategy: &str,
    ) -> Self {
        let mut command = client.command(kafka, "group", &[topic, group, strategy]);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the client starts");
        let lines = BufReader::new(process.stdout.take().expect("its output is piped"));
        let events = Events::default();
        let collected = events.clone();
        thread::spawn(move || {
            for event in lines.lines().map_while(Result::ok).filter_map(|line| parse(&line)) {
                collected.0.lock().expect("no reader panics").push(event);
            }
        });
        Self { process, events, gone_at: None }
    }

    /// Everything so far, in its order.
    ///
    /// # Panics
    /// When the thread that reads them has.
    pub fn events(&self) -> Vec<Event> {
        self.events.0.lock().expect("no reader panics").clone()
    }

    pub fn kill(&mut self) {
        // It may have ended by itself, which the assertions on what was read then show.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.gone_at = Some(now());
    }

    /// Has it leave the group.
    ///
    /// # Panics
    /// When it does not.
    pub fn leave(&mut self) {
        let id = self.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        assert!(asked.is_ok_and(|status| status.success()));
        let end = Instant::now() + PATIENCE;
        while self.process.try_wait().expect("it is our child").is_none() {
            assert!(Instant::now() < end, "a member does not leave");
            thread::sleep(Duration::from_millis(50));
        }
        self.gone_at = Some(now());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn parse(line: &str) -> Option<Event> {
    let words: Vec<_> = line.split(' ').collect();
    let number = |at: usize| words.get(at)?.parse::<i64>().ok();
    let what = match *words.get(1)? {
        "own" => What::Own,
        "lost" => What::Lost,
        "got" => What::Got(number(3)?),
        "committed" => What::Committed(number(3)?),
        _ => return None,
    };
    let time = u64::try_from(number(0)?).ok()?;
    Some(Event { time, partition: i32::try_from(number(2)?).ok()?, what })
}

/// Microseconds on the clock that the members use as well.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_micros()).expect("it is before the year 500,000")
}

/// Waits until the members have read everything up to `end` in each of so many partitions.
///
/// # Panics
/// When that takes too long.
pub fn wait_until_read(members: &[Member], partition_count: i32, end: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut read = BTreeMap::<i32, BTreeSet<i64>>::new();
        for event in members.iter().flat_map(Member::events) {
            if let What::Got(offset) = event.what {
                read.entry(event.partition).or_default().insert(offset);
            }
        }
        let missing = |partition: i32| {
            let read = read.get(&partition);
            (0..end).find(|offset| !read.is_some_and(|read| read.contains(offset)))
        };
        let missing: Vec<_> = (0..partition_count).filter_map(|p| Some((p, missing(p)?))).collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "not read in time, by partition: {missing:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// No two members own a partition at the same time.
///
/// # Panics
/// When two do.
pub fn assert_owned_by_one(members: &[Member]) {
    let mut periods = BTreeMap::<i32, Vec<(u64, u64, usize)>>::new();
    for (number, member) in members.iter().enumerate() {
        let mut begun = BTreeMap::new();
        for event in member.events() {
            match event.what {
                What::Own => drop(begun.insert(event.partition, event.time)),
                What::Lost => {
                    let since = begun.remove(&event.partition).expect("what is lost was owned");
                    periods.entry(event.partition).or_default().push((since, event.time, number));
                }
                What::Got(_) | What::Committed(_) => {}
            }
        }
        let end = member.gone_at.unwrap_or(u64::MAX);
        for (partition, since) in begun {
            periods.entry(partition).or_default().push((since, end, number));
        }
    }
    assert!(!periods.is_empty(), "nobody ever owned anything");
    for (partition, mut periods) in periods {
        periods.sort_unstable();
        for pair in periods.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "partition {partition} is owned twice: {pair:?}");
        }
    }
}

/// What is committed of a partition never goes back, whoever commits.
///
/// # Panics
/// When it does.
pub fn assert_commits_never_go_back(members: &[Member]) {
    let mut commits: Vec<_> = members.iter().flat_map(Member::events).collect();
    commits.sort_by_key(|event| event.time);
    let mut committed = BTreeMap::new();
    for event in commits {
        if let What::Committed(offset) = event.what {
            let before = committed.insert(event.partition, offset).unwrap_or(0);
            assert!(before <= offset, "partition {}: {offset} after {before}", event.partition);
        }
    }
    assert!(!committed.is_empty(), "nothing was ever committed");
}
