//! Within which bounds everything is tried.
//!
//! A scope says how often each thing may happen. Within it every order of them is explored; so scopes are small, and each is made for
//! some of the ways in which replication has failed elsewhere.

use thalweg_types::Durability;

/// How often each kind of thing may happen, on three brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    pub name: &'static str,
    pub durability: Durability,
    pub min_isr: u32,
    /// Records appended.
    pub records: u8,
    /// Brokers that the controller gives up, dead or not.
    pub fences: u8,
    /// Processes that end, with or without what is not flushed.
    pub crashes: u8,
    /// Crashes that lose flushed records, without a trace: no rule survives that, but nobody may follow such a leader into the loss.
    pub lies: u8,
    /// Streams that break.
    pub breaks: u8,
    /// Messages of which a copy comes late.
    pub late: u8,
    /// Proposals whose answers never come.
    pub give_ups: u8,
    /// Passings of time: what failed is tried again at the next, and who is behind for more than [`Self::lag_ticks`] leaves.
    pub ticks: u8,
    pub lag_ticks: u64,
    /// Elections of the preferred leader.
    pub preferred: u8,
    /// Changes of the minimum, to 1 and to 2 in turn.
    pub minimum_changes: u8,
    /// Answers and reports take their time. Otherwise they are there at once, and only handshakes and pushes are late.
    pub slow_reports: bool,
    /// So do flushes. Otherwise what is appended is flushed.
    pub slow_flushes: bool,
    /// How each broker begins.
    pub begin: [Begin; 3],
    /// What must come about somewhere in it, so that the rest means something.
    pub reaches: &'static [&'static str],
}

impl Scope {
    /// Nothing but one record.
    pub const NONE: Self = Self {
        name: "none",
        durability: Durability::Fsync,
        min_isr: 2,
        records: 1,
        fences: 0,
        crashes: 0,
        lies: 0,
        breaks: 0,
        late: 0,
        give_ups: 0,
        ticks: 0,
        lag_ticks: 1_000,
        preferred: 0,
        minimum_changes: 0,
        slow_reports: false,
        slow_flushes: false,
        begin: ALL_IN_SYNC,
        reaches: &[],
    };
}

/// Where a broker is at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    InSync,
    /// Fenced, and alive.
    Out,
    /// Fenced, and never seen again.
    Gone,
}

const ALL_IN_SYNC: [Begin; 3] = [Begin::InSync; 3];
const TWO_AND_ONE_OUT: [Begin; 3] = [Begin::InSync, Begin::InSync, Begin::Out];
const TWO: [Begin; 3] = [Begin::InSync, Begin::InSync, Begin::Gone];
const ONE_AND_ONE_OUT: [Begin; 3] = [Begin::InSync, Begin::Out, Begin::Gone];

const COMMITTED: &str = "a record is committed";
const COMMITTED_LATER: &str = "a later leader commits";
const NOBODY_LEADS: &str = "nobody leads";
const ELIGIBLE: &str = "somebody is eligible";
const IN_SYNC_AGAIN: &str = "all are in sync again";
const LEFT_OPEN: &str = "a lost answer leaves a proposal open";
const DISAGREE: &str = "two replicas disagree";
const TWO_LEAD: &str = "two lead";
const HALTS: &str = "a replica halts";

/// Small enough for every test run.
pub const QUICK: &[Scope] = &[
    // No faults: records, flushes and reports in every order.
    Scope {
        name: "records",
        records: 3,
        slow_flushes: true,
        slow_reports: true,
        reaches: &[COMMITTED],
        ..Scope::NONE
    },
    // One election, with the same in every order.
    Scope {
        name: "slow-failover",
        fences: 1,
        slow_flushes: true,
        slow_reports: true,
        reaches: &[COMMITTED_LATER, TWO_LEAD, IN_SYNC_AGAIN],
        ..Scope::NONE
    },
    // Records of two leaders at the same offset: one has to go.
    Scope {
        name: "failover",
        records: 2,
        fences: 1,
        reaches: &[COMMITTED_LATER, TWO_LEAD, DISAGREE],
        ..Scope::NONE
    },
    // A replica joins while the leader changes: the new one's high watermark lags behind the true one.
    Scope {
        name: "rejoin",
        fences: 1,
        begin: TWO_AND_ONE_OUT,
        reaches: &[COMMITTED_LATER, ELIGIBLE, IN_SYNC_AGAIN],
        ..Scope::NONE
    },
    // Who is behind leaves, and who is proposed may be behind.
    Scope {
        name: "lag",
        ticks: 2,
        lag_ticks: 1,
        begin: TWO_AND_ONE_OUT,
        reaches: &[COMMITTED, ELIGIBLE, IN_SYNC_AGAIN],
        ..Scope::NONE
    },
    // Streams break and come again.
    Scope {
        name: "reconnect",
        records: 2,
        breaks: 2,
        ticks: 2,
        slow_flushes: true,
        slow_reports: true,
        begin: TWO,
        reaches: &[COMMITTED],
        ..Scope::NONE
    },
    // The minimum goes down and up again while too few are in sync (KIP-966).
    Scope {
        name: "minimum",
        records: 2,
        fences: 1,
        minimum_changes: 2,
        begin: TWO,
        reaches: &[COMMITTED_LATER, ELIGIBLE, DISAGREE],
        ..Scope::NONE
    },
    // The same until nobody is left.
    Scope {
        name: "minimum-nobody",
        fences: 2,
        minimum_changes: 1,
        begin: TWO,
        reaches: &[COMMITTED_LATER, NOBODY_LEADS],
        ..Scope::NONE
    },
    // Records that are in memory only are lost by a follower that is about to join (KIP-903).
    Scope {
        name: "loss",
        durability: Durability::Replicated,
        min_isr: 1,
        crashes: 1,
        slow_flushes: true,
        begin: ONE_AND_ONE_OUT,
        reaches: &[COMMITTED_LATER, NOBODY_LEADS],
        ..Scope::NONE
    },
    // The same of one of two that are in sync: what it has may not count as complete any more.
    Scope {
        name: "loss-of-two",
        durability: Durability::Replicated,
        records: 2,
        crashes: 1,
        slow_flushes: true,
        begin: TWO,
        reaches: &[COMMITTED_LATER],
        ..Scope::NONE
    },
    Scope {
        name: "loss-of-three",
        durability: Durability::Replicated,
        crashes: 1,
        slow_flushes: true,
        reaches: &[COMMITTED_LATER, IN_SYNC_AGAIN],
        ..Scope::NONE
    },
    // The power goes, of both: what is committed is on both disks.
    Scope {
        name: "power",
        records: 2,
        crashes: 2,
        slow_flushes: true,
        begin: TWO,
        reaches: &[COMMITTED_LATER, NOBODY_LEADS, DISAGREE],
        ..Scope::NONE
    },
    Scope {
        name: "power-of-three",
        crashes: 1,
        slow_flushes: true,
        reaches: &[COMMITTED_LATER, IN_SYNC_AGAIN],
        ..Scope::NONE
    },
    // The last replica standing has lost what it had flushed, and leads: the others stop rather than follow it.
    Scope {
        name: "lie",
        records: 2,
        fences: 1,
        lies: 1,
        begin: TWO,
        reaches: &[COMMITTED, NOBODY_LEADS, HALTS],
        ..Scope::NONE
    },
    // The controller's answer is lost (KIP-497).
    Scope {
        name: "answer",
        give_ups: 1,
        ticks: 1,
        begin: TWO_AND_ONE_OUT,
        reaches: &[COMMITTED, LEFT_OPEN, IN_SYNC_AGAIN],
        ..Scope::NONE
    },
    // A message comes twice, the second time when somebody else leads.
    Scope {
        name: "late",
        fences: 1,
        late: 1,
        reaches: &[COMMITTED_LATER, TWO_LEAD],
        ..Scope::NONE
    },
    // Leadership goes away and comes back.
    Scope {
        name: "preferred",
        records: 2,
        fences: 1,
        preferred: 1,
        reaches: &[COMMITTED_LATER, IN_SYNC_AGAIN, DISAGREE],
        ..Scope::NONE
    },
];

/// Those that take minutes.
pub const THOROUGH: &[Scope] = &[
    // Two elections in a row (KIP-279).
    Scope {
        name: "two-failovers",
        fences: 2,
        reaches: &[COMMITTED_LATER, TWO_LEAD, ELIGIBLE],
        ..Scope::NONE
    },
    Scope {
        name: "two-answers",
        give_ups: 2,
        ticks: 2,
        begin: TWO_AND_ONE_OUT,
        reaches: &[COMMITTED, LEFT_OPEN, IN_SYNC_AGAIN],
        ..Scope::NONE
    },
    // A report of an earlier epoch comes in a later one of the same leader, when what it reports is lost (KIP-320).
    Scope {
        name: "late-report",
        durability: Durability::Replicated,
        min_isr: 1,
        fences: 1,
        crashes: 1,
        late: 1,
        slow_flushes: true,
        slow_reports: true,
        begin: ONE_AND_ONE_OUT,
        reaches: &[COMMITTED_LATER, NOBODY_LEADS],
        ..Scope::NONE
    },
];

/// The scope of this name.
pub fn named(name: &str) -> Option<&'static Scope> {
    QUICK.iter().chain(THOROUGH).find(|scope| scope.name == name)
}
