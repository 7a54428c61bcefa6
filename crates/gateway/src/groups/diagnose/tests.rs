//! Staged situations, and the cause that must be named first.

use super::*;
use proto::DiagnosisKind as Kind;

/// A partition at the first and the last look: committed, end of the log.
struct Row {
    partition: i32,
    member: &'static str,
    first: (i64, i64),
    last: (i64, i64),
    age_ms: i64,
}

fn row(partition: i32, member: &'static str, first: (i64, i64), last: (i64, i64)) -> Row {
    Row { partition, member, first, last, age_ms: 60_000 }
}

fn lag(rows: &[Row], members: &[&str], at: impl Fn(&Row) -> (i64, i64)) -> proto::GroupLag {
    let partitions: Vec<_> = rows
        .iter()
        .map(|row| {
            let (committed, end) = at(row);
            proto::PartitionLag {
                topic: "orders".to_owned(),
                partition: row.partition,
                committed_offset: Some(committed),
                log_start_offset: Some(0),
                log_end_offset: Some(end),
                lag_records: Some(end - committed),
                lag_ms: Some(if end == committed { 0 } else { row.age_ms }),
                member_id: row.member.to_owned(),
                ..Default::default()
            }
        })
        .collect();
    let members = members.iter().map(|id| {
        let mine = || partitions.iter().filter(|row| row.member_id == *id);
        proto::MemberLag {
            member_id: (*id).to_owned(),
            client_id: "app".to_owned(),
            client_host: "10.0.0.1".to_owned(),
            partition_count: mine().count() as u32,
            lag_records: mine().filter_map(|row| row.lag_records).sum(),
            lag_ms: mine().filter_map(|row| row.lag_ms).max(),
            ..Default::default()
        }
    });
    proto::GroupLag {
        group_id: "g".to_owned(),
        state: proto::GroupState::Stable.into(),
        members: members.collect(),
        lag_records: partitions.iter().filter_map(|row| row.lag_records).sum(),
        lag_ms: partitions.iter().filter_map(|row| row.lag_ms).max(),
        partitions,
        ..Default::default()
    }
}

fn watched(rows: &[Row], members: &[&str]) -> Watched {
    Watched {
        first: lag(rows, members, |row| row.first),
        last: lag(rows, members, |row| row.last),
        looks: 12,
        unsettled_looks: 0,
        changes: 0,
        time: Duration::from_secs(12),
    }
}

fn kinds(watched: &Watched) -> Vec<Kind> {
    rules::judge(watched).iter().map(proto::Diagnosis::kind).collect()
}

#[test]
fn two_members_for_four_partitions_that_fall_behind_are_too_few() {
    let rows = [
        row(0, "a", (100, 1_100), (200, 1_300)),
        row(1, "a", (100, 1_000), (190, 1_300)),
        row(2, "b", (100, 1_000), (200, 1_250)),
        row(3, "b", (100, 1_000), (180, 1_200)),
    ];
    assert_eq!(kinds(&watched(&rows, &["a", "b"])), [Kind::TooFewMembers]);
}

#[test]
fn as_many_members_as_partitions_do_not_need_more_members() {
    let rows = [row(0, "a", (100, 1_100), (200, 1_300)), row(1, "b", (100, 1_000), (190, 1_300))];
    let found = rules::judge(&watched(&rows, &["a", "b"]));
    assert_eq!(found[0].kind(), Kind::AsManyMembersAsPartitions);
    assert!(found[0].advice.contains("add partitions"), "{found:?}");
}

#[test]
fn a_member_that_commits_nothing_while_others_do_is_stuck() {
    let rows = [row(0, "a", (100, 500), (100, 900)), row(1, "b", (100, 120), (480, 490))];
    let found = rules::judge(&watched(&rows, &["a", "b"]));
    assert_eq!(found[0].kind(), Kind::StuckMember);
    assert_eq!(found[0].member_id, "a");
    assert!(found[0].finding.contains("others committed 380"), "{found:?}");
}

#[test]
fn a_short_watch_does_not_call_a_member_stuck_unless_its_records_are_old() {
    let mut rows = [row(0, "a", (100, 500), (100, 900)), row(1, "b", (100, 500), (100, 900))];
    rows.iter_mut().for_each(|row| row.age_ms = 3_000);
    let short = Watched { time: Duration::from_secs(2), ..watched(&rows, &["a", "b"]) };
    assert!(!kinds(&short).contains(&Kind::StuckMember), "{:?}", kinds(&short));
    rows.iter_mut().for_each(|row| row.age_ms = 40_000);
    let old = Watched { time: Duration::from_secs(2), ..watched(&rows, &["a", "b"]) };
    assert_eq!(kinds(&old)[0], Kind::StuckMember);
}

#[test]
fn one_partition_with_nearly_everything_is_hot() {
    let rows = [
        row(0, "a", (100, 110), (200, 210)),
        row(1, "a", (100, 9_000), (150, 12_000)),
        row(2, "b", (100, 110), (200, 210)),
        row(3, "b", (100, 110), (200, 210)),
    ];
    let found = rules::judge(&watched(&rows, &["a", "b"]));
    assert_eq!(found[0].kind(), Kind::HotPartition);
    assert_eq!((found[0].topic.as_str(), found[0].partition), ("orders", 1));
}

#[test]
fn a_group_that_changes_all_the_time_is_a_storm_and_nothing_else_is_asked_of_it() {
    let rows = [row(0, "a", (100, 500), (110, 900)), row(1, "b", (100, 500), (110, 900))];
    let changing = Watched { changes: 5, ..watched(&rows, &["a", "b"]) };
    assert_eq!(kinds(&changing), [Kind::RebalanceStorm]);
    let unsettled = Watched { unsettled_looks: 10, ..watched(&rows, &["a", "b"]) };
    assert_eq!(kinds(&unsettled), [Kind::RebalanceStorm]);
}

#[test]
fn without_members_records_wait_for_nobody() {
    let rows = [row(0, "", (100, 500), (100, 500))];
    assert_eq!(kinds(&watched(&rows, &[])), [Kind::NoMembers]);
    let rows = [row(0, "", (500, 500), (500, 500))];
    assert_eq!(kinds(&watched(&rows, &[])), [Kind::KeepsUp]);
}

#[test]
fn a_group_that_catches_up_keeps_up() {
    let rows = [row(0, "a", (100, 5_000), (3_000, 5_200)), row(1, "b", (10, 10), (90, 90))];
    assert_eq!(kinds(&watched(&rows, &["a", "b"])), [Kind::KeepsUp]);
}

#[test]
fn records_that_have_just_come_are_not_a_lag() {
    let mut rows = [row(0, "a", (100, 100), (900, 1_000))];
    rows[0].age_ms = 800;
    assert_eq!(kinds(&watched(&rows, &["a"])), [Kind::KeepsUp]);
}

#[test]
fn a_member_without_partitions_is_idle() {
    let rows = [row(0, "a", (100, 100), (900, 900))];
    let found = rules::judge(&watched(&rows, &["a", "b"]));
    assert_eq!(found[0].kind(), Kind::IdleMember);
    assert_eq!(found[0].member_id, "b");
}

#[test]
fn partitions_nobody_reads_and_records_removed_unread_are_told() {
    let rows = [row(0, "a", (9, 9), (9, 9)), row(1, "", (100, 500), (100, 500))];
    let found = rules::judge(&watched(&rows, &["a"]));
    assert_eq!((found[0].kind(), found[0].partition), (Kind::UnreadPartition, 1));
    let mut lost = watched(&[row(0, "a", (9, 500), (9, 500))], &["a"]);
    lost.last.partitions[0].log_start_offset = Some(100);
    assert!(kinds(&lost).contains(&Kind::UnreadPartition));
}

#[test]
fn what_was_committed_is_counted_from_the_first_to_the_last_look() {
    let rows = [row(0, "a", (100, 500), (150, 900)), row(1, "b", (7, 9), (9, 9))];
    assert_eq!(rules::committed(&watched(&rows, &["a", "b"])), 52);
}
