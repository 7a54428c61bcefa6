//! R2, G-HW and B52: what a follower does to its log, and what it refuses.

use thalweg_invariants::{Mutant, Plant};
use thalweg_log_core::EpochEnd;
use thalweg_replication_core::{
    Action, Fitness, Handshake, HandshakeRefusal, Push, PushRefusal, Report, Role, Verdict,
};
use thalweg_types::{LeaderEpoch, NodeId, Offset};

use super::bench::*;

const ACCEPTED: Verdict =
    Verdict::Accepted { session: 7, high_watermark: Offset(4), log_start: Offset(0) };

/// Follows node 2 in [`EPOCH`] with its log up to 10, of which 4 are committed.
fn following() -> Bench {
    let mut bench = Bench::following();
    let handshake = handshake_in(&bench.metadata());
    bench.answer(&handshake, ACCEPTED);
    assert_eq!(bench.ends.high_watermark, Offset(4));
    bench
}

/// A push from 10 on that the follower takes.
fn good(batches: &[thalweg_replication_core::BatchSpan]) -> Push<'_> {
    Push {
        session: 7,
        leader_epoch: EPOCH,
        batches,
        high_watermark: Offset(12),
        log_start: Offset(0),
        log_end: Offset(20),
    }
}

/// The follower's log has epoch 2 up to 6 and epoch 3 from there to 10; `committed` of it are.
fn two_epochs(committed: i64) -> (Bench, Handshake) {
    let mut bench = Bench::following();
    bench.epochs.assign(LeaderEpoch(3), Offset(6));
    bench.ends.high_watermark = Offset(committed);
    let handshake = handshake_in(&bench.metadata());
    (bench, handshake)
}

fn diverging(epoch: i32, end: i64) -> Verdict {
    let end = EpochEnd { epoch: LeaderEpoch(epoch), end_offset: Offset(end) };
    Verdict::Diverging { end, log_start: Offset(0) }
}

fn is_halted(bench: &Bench) -> bool {
    matches!(bench.replica.role(), Role::Follower(follower) if follower.halted().is_some())
}

#[test]
fn a_follower_asks_with_the_end_and_the_last_epoch_of_its_log() {
    let (_, handshake) = two_epochs(4);
    assert_eq!((handshake.log_end, handshake.flushed_end), (Offset(10), Offset(10)));
    assert_eq!((handshake.last_epoch, handshake.leader_epoch), (LeaderEpoch(3), EPOCH));
    assert_eq!((handshake.node, handshake.broker_epoch), (ME, session(1)));
}

#[test]
fn what_is_flushed_between_handshake_and_answer_is_reported() {
    let mut bench = Bench::following();
    bench.ends.flushed_end = Offset(6);
    let handshake = handshake_in(&bench.metadata());
    assert_eq!(handshake.flushed_end, Offset(6));
    bench.flush();
    bench.answer(&handshake, ACCEPTED);
    assert_eq!(bench.replica.take_report(), Some(report(7, 10, 10)));
    assert_eq!(bench.replica.take_report(), None);
}

#[test]
fn an_epoch_that_wrote_nothing_is_not_the_last_one_of_the_log() {
    let mut bench = Bench::following();
    bench.epochs.assign(LeaderEpoch(4), Offset(10));
    assert_eq!(handshake_in(&bench.metadata()).last_epoch, LeaderEpoch(2));
}

/// R2: the smaller of the leader's end of the epoch and the own one; and M7.
#[test]
fn a_diverging_log_is_cut_to_the_smaller_of_both_ends() {
    let (mut bench, handshake) = two_epochs(4);
    let told = bench.answer(&handshake, diverging(2, 9));
    assert_eq!(told, [Action::Truncate { to: Offset(6), unclean: false }]);
    let (mut bench, handshake) = two_epochs(4);
    let told = bench.answer(&handshake, diverging(2, 5));
    assert_eq!(told, [Action::Truncate { to: Offset(5), unclean: false }]);
    let (mut bench, handshake) = two_epochs(4);
    let _plant = Plant::new(Mutant::M7);
    let told = bench.answer(&handshake, diverging(2, 9));
    assert_eq!(told, [Action::Truncate { to: Offset(9), unclean: false }]);
}

/// R2: repeat until nothing diverges; and nothing is sent before the cut is durable.
#[test]
fn after_the_cut_the_follower_asks_again() {
    let (mut bench, handshake) = two_epochs(4);
    bench.answer(&handshake, diverging(2, 5));
    bench.flush();
    assert!(bench.wait(100 * RETRY_MS).is_empty(), "the cut is not done");
    let again = handshake_in(&bench.cut(5));
    assert_eq!((again.log_end, again.last_epoch), (Offset(5), LeaderEpoch(2)));
    assert_ne!(again.attempt, handshake.attempt);
    // The old question's answer comes a second time.
    assert!(bench.answer(&handshake, diverging(2, 1)).is_empty());
    bench.answer(&again, ACCEPTED);
    assert!(matches!(bench.replica.role(), Role::Follower(follower) if follower.is_following()));
    assert!(
        bench.answer(&again, diverging(2, 1)).is_empty(),
        "nor does any other repetition count"
    );
}

/// R2, G-HW; and M26.
#[test]
fn what_is_committed_is_not_cut_but_the_replica_halts() {
    let (mut bench, handshake) = two_epochs(8);
    let told = bench.answer(&handshake, diverging(2, 9));
    let [Action::Halt(halt)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((halt.cut, halt.high_watermark), (Offset(6), Offset(8)));
    assert!(is_halted(&bench));
    assert_eq!(bench.replica.fitness(), Fitness::HaltedDiverged);
    assert!(bench.wait(1_000_000).is_empty());
    assert_eq!(bench.view().log_end, Offset(10));
    // Another leader may not want that.
    bench.partition.leader_epoch.0 += 1;
    let told = bench.change(|partition| partition.leader = Some(NodeId(3)));
    assert_eq!(handshake_in(&told).log_end, Offset(10));

    let (mut bench, handshake) = two_epochs(8);
    let _plant = Plant::new(Mutant::M26);
    let told = bench.answer(&handshake, diverging(2, 9));
    assert_eq!(told, [Action::Truncate { to: Offset(6), unclean: true }]);
}

/// R2, G-HW, R14.
#[test]
fn an_unclean_election_that_is_newer_than_the_log_allows_the_cut() {
    for (mark, cuts) in [(2, false), (3, false), (4, true), (5, true)] {
        let mut bench = Bench::following();
        bench.epochs.assign(LeaderEpoch(3), Offset(6));
        bench.ends.high_watermark = Offset(8);
        bench.partition.unclean_epoch = Some(LeaderEpoch(mark));
        let handshake = handshake_in(&bench.metadata());
        let told = bench.answer(&handshake, diverging(2, 9));
        let cut = Action::Truncate { to: Offset(6), unclean: true };
        assert_eq!(told == [cut], cuts, "mark {mark}: {told:?}");
        assert_eq!(is_halted(&bench), !cuts);
    }
}

#[test]
fn a_log_that_retention_has_overtaken_begins_anew_and_committed_records_do_not_go_that_way() {
    let (mut bench, handshake) = two_epochs(4);
    let told = bench.answer(&handshake, Verdict::OutOfRange { log_start: Offset(50) });
    assert_eq!(told, [Action::Restart { at: Offset(50) }]);
    let (mut bench, handshake) = two_epochs(4);
    bench.answer(&handshake, Verdict::OutOfRange { log_start: Offset(3) });
    assert!(is_halted(&bench));
    // A leader that ends before this log begins.
    let mut bench = Bench::following();
    bench.ends.log_start = Offset(6);
    bench.ends.high_watermark = Offset(6);
    bench.epochs.truncate_from_start(Offset(6));
    let handshake = handshake_in(&bench.metadata());
    bench.answer(&handshake, diverging(2, 3));
    assert!(is_halted(&bench));
}

/// Never truncate by high watermark; and M6.
#[test]
fn nothing_is_cut_before_the_leader_has_answered() {
    let (mut bench, _) = two_epochs(4);
    assert!(bench.wait(100 * RETRY_MS).iter().all(|a| matches!(a, Action::Handshake { .. })));
    let _plant = Plant::new(Mutant::M6);
    let mut bench = Bench::following();
    assert_eq!(bench.metadata(), [Action::Truncate { to: Offset(0), unclean: false }]);
}

/// The high watermark follows the leader's as far as the log goes, the log start as far as the high watermark.
#[test]
fn positions_follow_the_leaders() {
    let mut bench = following();
    let batches = [batch(10, 12, LeaderEpoch(4)), batch(12, 15, EPOCH)];
    let push = Push { high_watermark: Offset(14), log_start: Offset(11), ..good(&batches) };
    let told = bench.push(&push).unwrap();
    let first = [Action::FollowHighWatermark(Offset(10)), Action::MoveLogStart(Offset(10))];
    assert_eq!(told, first);
    bench.ends.log_end = Offset(15);
    let told = bench.local();
    let then = [Action::FollowHighWatermark(Offset(14)), Action::MoveLogStart(Offset(11))];
    assert_eq!(told, then);
    assert!(bench.push(&Push { high_watermark: Offset(12), ..good(&[]) }).unwrap().is_empty());
    assert_eq!(bench.ends.high_watermark, Offset(14), "never back");
}

/// B52.
#[test]
fn a_push_that_cannot_be_right_is_refused_whole_and_the_stream_given_up() {
    type Check = fn(&PushRefusal) -> bool;
    let gap: Check = |refusal| matches!(refusal, PushRefusal::NotAtLogEnd { .. });
    let epoch: Check = |refusal| matches!(refusal, PushRefusal::EpochOutOfRange { .. });
    let empty: Check = |refusal| matches!(refusal, PushRefusal::EmptyBatch { .. });
    let positions: Check = |refusal| matches!(refusal, PushRefusal::InvalidPositions { .. });
    let oversized: Check = |refusal| matches!(refusal, PushRefusal::Oversized { .. });
    let fine = batch(10, 12, EPOCH);
    let big = thalweg_replication_core::BatchSpan { size_bytes: (1 << 20) + 1, ..fine };
    for (batches, expected) in [
        (vec![batch(11, 12, EPOCH)], gap),
        (vec![batch(9, 12, EPOCH)], gap),
        (vec![fine, batch(13, 14, EPOCH)], gap),
        (vec![fine, batch(11, 14, EPOCH)], gap),
        (vec![batch(10, 10, EPOCH)], empty),
        (vec![batch(10, 9, EPOCH)], empty),
        (vec![batch(10, 12, LeaderEpoch(1))], epoch),
        (vec![batch(10, 12, LeaderEpoch(6))], epoch),
        (vec![fine, batch(12, 14, LeaderEpoch(4))], epoch),
        (vec![big], oversized),
        (vec![batch(10, 21, EPOCH)], positions),
    ] {
        let mut bench = following();
        let refusal = bench.push(&good(&batches)).unwrap_err();
        assert!(expected(&refusal), "{batches:?}: {refusal:?}");
        assert_eq!(bench.push(&good(&[fine])), Err(PushRefusal::NotFollowing));
        assert!(handshake_in(&bench.wait(RETRY_MS)).attempt > 1, "it asks again");
    }
    for (high_watermark, log_start, log_end) in [(21, 0, 20), (5, 6, 20), (5, -1, 20), (5, 0, 4)] {
        let mut bench = following();
        let push = Push {
            high_watermark: Offset(high_watermark),
            log_start: Offset(log_start),
            log_end: Offset(log_end),
            ..good(&[])
        };
        assert!(positions(&bench.push(&push).unwrap_err()));
    }
}

/// B35, B52: of another leader, or of a stream that is gone.
#[test]
fn a_push_of_another_epoch_or_session_is_refused_and_changes_nothing() {
    let mut bench = following();
    let batches = [batch(10, 12, EPOCH)];
    for epoch in [4, 6] {
        let push = Push { leader_epoch: LeaderEpoch(epoch), ..good(&batches) };
        assert!(matches!(bench.push(&push), Err(PushRefusal::OtherEpoch { .. })));
    }
    let push = Push { session: 6, ..good(&batches) };
    assert_eq!(bench.push(&push), Err(PushRefusal::UnknownSession(6)));
    assert!(bench.push(&good(&batches)).is_ok(), "the good stream goes on");
}

/// What is left of an old stream must not undo the question that is under way: each answer would come too late.
#[test]
fn a_push_while_an_answer_is_awaited_changes_nothing() {
    let mut bench = Bench::following();
    let handshake = handshake_in(&bench.metadata());
    let batches = [batch(10, 12, EPOCH)];
    assert_eq!(bench.push(&good(&batches)), Err(PushRefusal::NotFollowing));
    bench.answer(&handshake, ACCEPTED);
    assert!(bench.push(&good(&batches)).is_ok());
}

#[test]
fn progress_is_reported_once() {
    let mut bench = following();
    assert_eq!(bench.replica.take_report(), None, "the handshake said it");
    bench.push(&good(&[batch(10, 12, EPOCH)])).unwrap();
    bench.ends.log_end = Offset(12);
    bench.local();
    assert_eq!(bench.replica.take_report(), Some(report(7, 12, 10)));
    assert_eq!(bench.replica.take_report(), None);
    bench.flush();
    assert_eq!(bench.replica.take_report(), Some(report(7, 12, 12)));
    bench.replica.handle_fitness(Fitness::Suspect);
    let suspect = Report { fitness: Fitness::Suspect, ..report(7, 12, 12) };
    assert_eq!(bench.replica.take_report(), Some(suspect));
}

#[test]
fn a_refused_or_unanswered_handshake_is_repeated_after_a_while() {
    let mut bench = Bench::following();
    let handshake = handshake_in(&bench.metadata());
    let refused = Verdict::Refused(HandshakeRefusal::NotLeader);
    assert!(bench.answer(&handshake, refused).is_empty());
    assert!(bench.wait(RETRY_MS - 1).is_empty());
    let second = handshake_in(&bench.wait(1));
    assert!(second.attempt > handshake.attempt);
    bench.replica.handle_leader_gone(bench.now);
    let third = handshake_in(&bench.wait(RETRY_MS));
    assert!(third.attempt > second.attempt);
    let deadline = bench.replica.next_deadline(bench.now).unwrap();
    let late = deadline.ms_since(bench.now);
    assert!(handshake_in(&bench.wait(late)).attempt > third.attempt);
}
