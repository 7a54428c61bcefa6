//! R1: refusals in their order, divergence, and what is remembered.

use thalweg_invariants::{Mutant, Plant};
use thalweg_log_core::EpochEnd;
use thalweg_replication_core::{Handshake, HandshakeRefusal, ReportRefusal, Verdict};
use thalweg_types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, Offset};

use super::bench::*;

fn refusal(verdict: Verdict) -> HandshakeRefusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// R1.1, R1.2. Each handshake has every later flaw too, so that the order is seen.
#[test]
fn a_handshake_is_refused_for_its_first_flaw() {
    let mut bench = Bench::leading();
    let good = bench.handshake(2, 10);
    let behind = Handshake { last_epoch: LeaderEpoch(1), flushed_end: Offset(11), ..good };
    assert!(matches!(refusal(bench.ask(&behind)), HandshakeRefusal::InvalidPosition { .. }));
    let stale = Handshake { broker_epoch: BrokerEpoch(3), ..behind };
    assert_eq!(refusal(bench.ask(&stale)).code(), ErrorCode::StaleBrokerEpoch);
    let log = thalweg_replication_core::LogView { ends: bench.ends, epochs: &bench.epochs };
    let foreign = bench.replica.handle_handshake(NodeId(3), &stale, log, bench.now).verdict;
    assert!(matches!(refusal(foreign), HandshakeRefusal::ForeignIdentity { .. }));
    let stranger = Handshake { node: NodeId(9), ..stale };
    assert_eq!(refusal(bench.ask(&stranger)), HandshakeRefusal::NotAssigned { node: NodeId(9) });
    let ahead = Handshake { leader_epoch: LeaderEpoch(6), ..stranger };
    assert_eq!(refusal(bench.ask(&ahead)).code(), ErrorCode::UnknownLeaderEpoch);
    let fenced = Handshake { leader_epoch: LeaderEpoch(4), ..stranger };
    assert_eq!(refusal(bench.ask(&fenced)).code(), ErrorCode::FencedLeaderEpoch);

    assert!(bench.replica.next_push(NodeId(2)).is_none(), "nothing of it is remembered");
    assert!(matches!(bench.ask(&good), Verdict::Accepted { .. }));
}

#[test]
fn a_broker_that_does_not_lead_says_so_after_comparing_epochs() {
    let mut bench = Bench::following();
    bench.metadata();
    let good = bench.handshake(3, 10);
    assert_eq!(refusal(bench.ask(&good)), HandshakeRefusal::NotLeader);
    let fenced = Handshake { leader_epoch: LeaderEpoch(4), ..good };
    assert_eq!(refusal(bench.ask(&fenced)).code(), ErrorCode::FencedLeaderEpoch);
}

/// R1.3: progress of a follower whose history diverges does not count.
#[test]
fn a_diverging_follower_is_told_where_and_nothing_is_recorded() {
    let mut bench = Bench::leading();
    bench.append_and_flush(5);
    bench.connect(3, 15);
    let longer =
        Handshake { log_end: Offset(12), last_epoch: LeaderEpoch(2), ..bench.handshake(2, 10) };
    let end = EpochEnd { epoch: LeaderEpoch(2), end_offset: Offset(10) };
    assert_eq!(bench.ask(&longer), Verdict::Diverging { end, log_start: Offset(0) });
    let unknown_epoch = Handshake { last_epoch: LeaderEpoch(4), ..bench.handshake(2, 8) };
    assert_eq!(bench.ask(&unknown_epoch), Verdict::Diverging { end, log_start: Offset(0) });
    assert_eq!(bench.high_watermark(), 0);
    bench.connect(2, 10);
    assert_eq!(bench.high_watermark(), 10);
}

/// A follower below the leader's log start, or with another history there, begins anew; an empty log agrees with whatever reaches as far.
#[test]
fn a_follower_that_nothing_can_be_compared_with_begins_at_the_log_start() {
    let mut bench = Bench::new();
    bench.ends.log_start = Offset(6);
    bench.ends.high_watermark = Offset(6);
    bench.epochs.truncate_from_start(Offset(6));
    bench.metadata();
    let anew = Verdict::OutOfRange { log_start: Offset(6) };
    let old = Handshake { last_epoch: LeaderEpoch(1), ..bench.handshake(2, 4) };
    assert_eq!(bench.ask(&old), anew);
    let empty = |end| Handshake {
        last_epoch: LeaderEpoch::NONE,
        log_end: Offset(end),
        flushed_end: Offset(end),
        ..old
    };
    assert_eq!(bench.ask(&empty(0)), anew);
    assert_eq!(bench.ask(&empty(11)), anew, "the leader does not reach as far");
    let other_history = Handshake { log_end: Offset(8), flushed_end: Offset(8), ..old };
    assert_eq!(bench.ask(&other_history), anew);
    assert!(matches!(bench.ask(&empty(6)), Verdict::Accepted { .. }));
    assert!(matches!(bench.ask(&empty(8)), Verdict::Accepted { .. }), "what is below was deleted");
}

/// B52: a follower that lies about its ends, B35: about its epoch.
#[test]
fn a_report_that_cannot_be_true_is_not_believed() {
    let mut bench = Bench::leading();
    bench.append_and_flush(5);
    let two = bench.connect(2, 10);
    let three = bench.connect(3, 10);
    bench.flushed(3, three, 15);
    for (log_end, flushed_end) in [(16, 15), (12, 13), (12, -1)] {
        let refused = bench.report(2, &report(two, log_end, flushed_end)).unwrap_err();
        assert!(matches!(refused, ReportRefusal::InvalidPosition { .. }), "{refused:?}");
    }
    let other_epoch = |epoch| thalweg_replication_core::Report {
        leader_epoch: LeaderEpoch(epoch),
        ..report(two, 15, 15)
    };
    for epoch in [4, 6, -1] {
        let refused = bench.report(2, &other_epoch(epoch)).unwrap_err();
        assert!(matches!(refused, ReportRefusal::OtherEpoch { .. }));
    }
    let refused = bench.report(3, &report(two, 15, 15)).unwrap_err();
    assert_eq!(refused, ReportRefusal::UnknownSession(two), "another follower's session");
    assert_eq!(bench.high_watermark(), 10);

    let _plant = Plant::new(Mutant::M3);
    bench.report(2, &other_epoch(4)).unwrap();
    assert_eq!(bench.high_watermark(), 15);
}

#[test]
fn a_late_report_takes_nothing_back_and_one_of_an_older_session_is_not_believed() {
    let mut bench = Bench::leading();
    bench.append_and_flush(5);
    let three = bench.connect(3, 10);
    bench.flushed(3, three, 15);
    let first = bench.connect(2, 10);
    bench.flushed(2, first, 14);
    bench.flushed(2, first, 12);
    assert_eq!(bench.high_watermark(), 14);
    let second = bench.connect(2, 14);
    let refused = bench.report(2, &report(first, 15, 15)).unwrap_err();
    assert_eq!(refused, ReportRefusal::UnknownSession(first));
    bench.replica.handle_follower_gone(NodeId(2), first);
    assert!(bench.replica.next_push(NodeId(2)).is_some(), "the newer stream stays");
    bench.replica.handle_follower_gone(NodeId(2), second);
    assert!(bench.replica.next_push(NodeId(2)).is_none());
}

/// R1.2 and the mutant of it.
#[test]
fn a_session_that_is_over_is_refused_however_good_its_progress() {
    let mut bench = Bench::leading();
    bench.connect(2, 10);
    bench.peers[1].broker_epoch = BrokerEpoch(50);
    bench.metadata();
    let old = bench.handshake(2, 10);
    assert_eq!(refusal(bench.ask(&old)).code(), ErrorCode::StaleBrokerEpoch);
    let _plant = Plant::new(Mutant::M4);
    assert!(matches!(bench.ask(&old), Verdict::Accepted { .. }));
}

#[test]
fn pushes_go_on_where_the_last_one_ended_and_say_what_is_new() {
    let mut bench = Bench::leading();
    let session = bench.connect(2, 7);
    let cursor = bench.replica.next_push(NodeId(2)).unwrap();
    assert_eq!((cursor.session, cursor.from, cursor.log_end), (session, Offset(7), Offset(10)));
    bench.replica.pushed(NodeId(2), &cursor, Offset(9));
    assert_eq!(bench.replica.next_push(NodeId(2)).unwrap().from, Offset(9));
    bench.replica.pushed(NodeId(2), &cursor, Offset(10));
    assert!(bench.replica.next_push(NodeId(2)).is_none());

    bench.connect(3, 10);
    bench.flushed(2, session, 10);
    let told = bench.replica.next_push(NodeId(2)).unwrap();
    assert_eq!((told.from, told.high_watermark), (Offset(10), Offset(10)));
    bench.replica.pushed(NodeId(2), &told, Offset(10));
    assert!(bench.replica.next_push(NodeId(2)).is_none());
}
