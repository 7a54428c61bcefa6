//! Why a group is behind, by what was seen of it: pure rules, the most important cause first.
//!
//! | cause | seen |
//! |---|---|
//! | nobody is there | records wait, no members |
//! | rebalance storm | the group changes again and again, or is hardly ever settled |
//! | stuck member | records wait in its partitions, and it commits nothing for longer than consumers let pass between commits |
//! | hot partition | one partition has most of what waits |
//! | unread partition | records wait where nobody reads, or were removed before they were read |
//! | too few members, or as many as partitions | what is left is not worked off as fast as it comes |
//! | idle member | has no partition |

use std::time::Duration;

use thalweg_proto::admin::v1 as proto;

use super::Watched;
use proto::DiagnosisKind as Kind;

/// Changes within one watch that are a storm. One is a rebalance, two are a member that comes back.
const STORM_CHANGES_MIN: u32 = 3;

/// Kafka's consumers commit every 5 s unless told otherwise: who has committed nothing in twice that time is not just about to.
const SILENT_MIN: Duration = Duration::from_secs(10);
/// A watch too short for that judges by how long the first unread record has waited.
const SILENT_LAG_MS_MIN: i64 = 30_000;

/// A partition is hot with this share of what waits, in percent, and this many times what the others have on average.
const HOT_PERCENT_MIN: i64 = 50;
const HOT_TIMES_MIN: i64 = 4;

/// What came in so recently is on its way, not behind.
const FRESH_MS_MAX: i64 = 1_000;

pub(super) fn judge(watched: &Watched) -> Vec<proto::Diagnosis> {
    let last = &watched.last;
    if last.members.is_empty() {
        return vec![nobody(last)];
    }
    let mut found = Vec::new();
    found.extend(storm(watched));
    let stuck = stuck_members(watched);
    found.extend(stuck.iter().map(|member| stuck_member(member, watched)));
    let hot = hot_partition(last).filter(|hot| is_behind(hot, watched));
    found.extend(hot.map(|hot| hot_diagnosis(hot, last)));
    found.extend(unread_partitions(last));
    // What is explained already does not also ask for more members.
    let is_explained = |row: &proto::PartitionLag| {
        stuck.iter().any(|member| member.member_id == row.member_id)
            || hot.is_some_and(|hot| hot == row)
            || row.member_id.is_empty()
    };
    let behind: Vec<_> = last
        .partitions
        .iter()
        .filter(|row| !is_explained(row) && is_behind(row, watched))
        .collect();
    if !behind.is_empty() && found.iter().all(|one| one.kind() != Kind::RebalanceStorm) {
        found.push(capacity(watched, &behind));
    }
    found.extend(idle_members(last));
    if found.is_empty() {
        found.push(keeps_up(watched));
    }
    found
}

/// Records that the group has committed between the two looks.
pub(super) fn committed(watched: &Watched) -> i64 {
    watched.last.partitions.iter().map(|row| progress(row, watched).max(0)).sum()
}

/// How far a partition's committed offset has moved.
fn progress(row: &proto::PartitionLag, watched: &Watched) -> i64 {
    let before = before(row, watched).and_then(|before| before.committed_offset);
    match (before, row.committed_offset) {
        (Some(before), Some(now)) => now - before,
        _ => 0,
    }
}

fn before<'a>(row: &proto::PartitionLag, watched: &'a Watched) -> Option<&'a proto::PartitionLag> {
    let is_same =
        |other: &&proto::PartitionLag| other.topic == row.topic && other.partition == row.partition;
    watched.first.partitions.iter().find(is_same)
}

/// Records wait that did not just come, and they are not becoming fewer.
fn is_behind(row: &proto::PartitionLag, watched: &Watched) -> bool {
    let waiting = row.lag_records.unwrap_or(0);
    if waiting == 0 {
        return false;
    }
    let fresh_ms = FRESH_MS_MAX.max(i64::try_from(watched.time.as_millis()).unwrap_or(i64::MAX));
    let is_old = row.lag_ms.is_none_or(|age_ms| age_ms > fresh_ms);
    let waited = before(row, watched).and_then(|before| before.lag_records).unwrap_or(0);
    is_old && waiting >= waited
}

// ------------------------------------------------------------------- Causes

fn nobody(lag: &proto::GroupLag) -> proto::Diagnosis {
    match lag.lag_records {
        0 => told(
            Kind::KeepsUp,
            "The group has no members, and nothing is unread.".to_owned(),
            "Nothing to do.",
        ),
        records => told(
            Kind::NoMembers,
            format!("The group has no members, and {records} records wait{}.", age(lag.lag_ms)),
            "Start the consumers, or look why they stopped. If the group is not needed any more, delete it.",
        ),
    }
}

fn storm(watched: &Watched) -> Option<proto::Diagnosis> {
    let is_hardly_settled = watched.looks >= 3 && watched.unsettled_looks * 2 > watched.looks;
    if watched.changes < STORM_CHANGES_MIN && !is_hardly_settled {
        return None;
    }
    let finding = format!(
        "Members or their partitions changed {} times in {}, and the group was being rebalanced in {} of {} looks.",
        watched.changes,
        seconds(watched.time),
        watched.unsettled_looks,
        watched.looks,
    );
    Some(told(
        Kind::RebalanceStorm,
        finding,
        "Look for consumers that are restarted over and over, or take longer between two polls than max.poll.interval.ms. Fewer records a \
         poll (max.poll.records), static members (group.instance.id), and the consumer protocol or the cooperative-sticky assignor all \
         make rebalances rarer and cheaper.",
    ))
}

/// Members with records to read that have committed nothing while they were watched.
fn stuck_members(watched: &Watched) -> Vec<&proto::MemberLag> {
    let is_stuck = |member: &&proto::MemberLag| {
        let mut mine =
            watched.last.partitions.iter().filter(|row| row.member_id == member.member_id);
        let waited_all_along = |row: &proto::PartitionLag| {
            let kept_its_reader = before(row, watched).is_some_and(|before| {
                before.member_id == row.member_id && before.lag_records.unwrap_or(0) > 0
            });
            kept_its_reader && row.lag_records.unwrap_or(0) > 0
        };
        let has_silent_time = watched.time >= SILENT_MIN
            || member.lag_ms.is_some_and(|age_ms| age_ms >= SILENT_LAG_MS_MIN);
        has_silent_time
            && mine.clone().any(waited_all_along)
            && mine.all(|row| progress(row, watched) <= 0)
    };
    watched.last.members.iter().filter(is_stuck).collect()
}

fn stuck_member(member: &proto::MemberLag, watched: &Watched) -> proto::Diagnosis {
    let others = match committed(watched) {
        0 => "; nor has anybody else".to_owned(),
        records => format!(", while the others committed {records}"),
    };
    let finding = format!(
        "{} has committed nothing in {}{others}. {} records wait in its {} partitions{}.",
        name(member),
        seconds(watched.time),
        member.lag_records,
        member.partition_count,
        age(member.lag_ms),
    );
    let told = told(
        Kind::StuckMember,
        finding,
        "Look at this process: it is alive enough to send heartbeats, and does not get on. A record that cannot be worked off, a call \
         without a time limit and a missing commit look the same from here. Restarting it hands its partitions to others.",
    );
    proto::Diagnosis { member_id: member.member_id.clone(), ..told }
}

fn hot_partition(lag: &proto::GroupLag) -> Option<&proto::PartitionLag> {
    let read: Vec<_> = lag.partitions.iter().filter(|row| !row.member_id.is_empty()).collect();
    let waiting = |row: &proto::PartitionLag| row.lag_records.unwrap_or(0);
    let all: i64 = read.iter().map(|row| waiting(row)).sum();
    let hottest = read.iter().max_by_key(|row| waiting(row))?;
    let others = i64::try_from(read.len()).ok()? - 1;
    let most = waiting(hottest);
    let is_hot = others > 0
        && most > 0
        && most.saturating_mul(100) >= all.saturating_mul(HOT_PERCENT_MIN)
        && most.saturating_mul(others) >= (all - most).saturating_mul(HOT_TIMES_MIN);
    is_hot.then_some(*hottest)
}

fn hot_diagnosis(hot: &proto::PartitionLag, lag: &proto::GroupLag) -> proto::Diagnosis {
    let finding = format!(
        "{} of the {} records that wait are in {}-{}{}.",
        hot.lag_records.unwrap_or(0),
        lag.lag_records,
        hot.topic,
        hot.partition,
        age(hot.lag_ms),
    );
    let told = told(
        Kind::HotPartition,
        finding,
        "More members do not help one partition. Look which keys go there: spread a key that has most of the records over several, or choose \
         another key.",
    );
    proto::Diagnosis {
        topic: hot.topic.clone(),
        partition: hot.partition,
        member_id: hot.member_id.clone(),
        ..told
    }
}

/// The worst of each kind: nobody reads it, or it was removed unread.
fn unread_partitions(lag: &proto::GroupLag) -> Option<proto::Diagnosis> {
    let is_lost = |row: &&proto::PartitionLag| match (row.committed_offset, row.log_start_offset) {
        (Some(committed), Some(start)) => committed < start,
        _ => false,
    };
    let at = |row: &proto::PartitionLag, told: proto::Diagnosis| proto::Diagnosis {
        topic: row.topic.clone(),
        partition: row.partition,
        ..told
    };
    if let Some(row) = lag.partitions.iter().find(is_lost) {
        let finding = format!(
            "Records of {}-{} were removed before they were read: the group has committed {}, and the log begins at {}.",
            row.topic,
            row.partition,
            row.committed_offset.unwrap_or(0),
            row.log_start_offset.unwrap_or(0),
        );
        let advice =
            "Keep records longer (retention.ms, retention.bytes) or let the group read faster.";
        return Some(at(row, told(Kind::UnreadPartition, finding, advice)));
    }
    let abandoned: Vec<_> = lag
        .partitions
        .iter()
        .filter(|row| row.member_id.is_empty() && row.lag_records.unwrap_or(0) > 0)
        .collect();
    let row = abandoned.first()?;
    let finding = format!(
        "{} partitions with unread records have no reader, {}-{} among them.",
        abandoned.len(),
        row.topic,
        row.partition
    );
    let advice = "If no member subscribes to the topic any more, delete its offsets from the group; otherwise the group is about to assign it.";
    Some(at(row, told(Kind::UnreadPartition, finding, advice)))
}

fn capacity(watched: &Watched, behind: &[&proto::PartitionLag]) -> proto::Diagnosis {
    let last = &watched.last;
    let readers = last.members.iter().filter(|member| member.partition_count > 0).count();
    let partitions = last.partitions.iter().filter(|row| !row.member_id.is_empty()).count();
    let waiting: i64 = behind.iter().filter_map(|row| row.lag_records).sum();
    let oldest = behind.iter().filter_map(|row| row.lag_ms).max();
    let change = last.lag_records - watched.first.lag_records;
    let finding = format!(
        "{readers} members read {partitions} partitions; {waiting} records wait{}, {change:+} in {}.",
        age(oldest),
        seconds(watched.time),
    );
    match readers < partitions {
        true => told(Kind::TooFewMembers, finding, "Add members: up to one for each partition."),
        false => told(
            Kind::AsManyMembersAsPartitions,
            finding,
            "More members would have nothing to read. Make the work on a record faster (in batches, in parallel within a member), or add \
             partitions: records with a key then go elsewhere.",
        ),
    }
}

fn idle_members(lag: &proto::GroupLag) -> Option<proto::Diagnosis> {
    let idle: Vec<_> = lag.members.iter().filter(|member| member.partition_count == 0).collect();
    let first = idle.first()?;
    let finding = format!(
        "{} of {} members have no partition, {} among them.",
        idle.len(),
        lag.members.len(),
        name(first)
    );
    let told = told(
        Kind::IdleMember,
        finding,
        "They are in reserve; if that is not wanted, stop them, or add partitions.",
    );
    Some(proto::Diagnosis { member_id: first.member_id.clone(), ..told })
}

fn keeps_up(watched: &Watched) -> proto::Diagnosis {
    let last = &watched.last;
    let change = last.lag_records - watched.first.lag_records;
    let finding = format!(
        "{} records wait{}, {change:+} in {}, while {} were committed.",
        last.lag_records,
        age(last.lag_ms),
        seconds(watched.time),
        committed(watched),
    );
    told(Kind::KeepsUp, finding, "Nothing to do.")
}

// ------------------------------------------------------------------- Words

fn told(kind: Kind, finding: String, advice: &str) -> proto::Diagnosis {
    proto::Diagnosis { kind: kind.into(), finding, advice: advice.to_owned(), ..Default::default() }
}

fn name(member: &proto::MemberLag) -> String {
    let id = if member.instance_id.is_empty() { &member.member_id } else { &member.instance_id };
    format!("{} ({id} at {})", member.client_id, member.client_host)
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}

/// For how long the first record has waited.
fn age(age_ms: Option<i64>) -> String {
    match age_ms {
        Some(ms) if ms > 0 => format!(", the first for {:.1} s", ms as f64 / 1_000.0),
        _ => String::new(),
    }
}
