//! Epoch ends by example, against a log that is scanned record by record, and the convergence of two histories.

use proptest::prelude::*;

use super::*;

fn index(entries: &[(i32, i64)]) -> EpochIndex {
    EpochIndex::restore(entries.iter().copied().map(entry).collect()).expect("in order")
}

fn entry((epoch, start_offset): (i32, i64)) -> EpochEntry {
    EpochEntry { epoch: LeaderEpoch(epoch), start_offset: Offset(start_offset) }
}

fn end((epoch, end_offset): (i32, i64)) -> EpochEnd {
    EpochEnd { epoch: LeaderEpoch(epoch), end_offset: Offset(end_offset) }
}

#[test]
fn an_epoch_ends_where_the_next_begins_and_the_newest_at_the_log_end() {
    let index = index(&[(2, 10), (4, 25), (7, 40)]);
    let ask = |epoch| index.end_offset_for(LeaderEpoch(epoch), Offset(55));
    assert_eq!(ask(2), Some(end((2, 25))));
    assert_eq!(
        ask(3),
        Some(end((2, 25))),
        "an epoch without records is answered by the one before"
    );
    assert_eq!(ask(7), Some(end((7, 55))));
    assert_eq!(ask(1), Some(end((1, 10))), "older than all ends where the oldest begins");
    assert_eq!(ask(8), None, "newer than all is unknown here");
    assert_eq!(ask(-1), None);
    assert_eq!(EpochIndex::default().end_offset_for(LeaderEpoch(0), Offset(5)), None);
}

#[test]
fn an_epoch_that_wrote_nothing_leaves_no_entry() {
    let mut index = EpochIndex::default();
    assert!(index.assign(LeaderEpoch(1), Offset(0)));
    assert!(index.assign(LeaderEpoch(2), Offset(8)));
    assert!(index.assign(LeaderEpoch(3), Offset(8)));
    assert!(!index.assign(LeaderEpoch(3), Offset(9)), "the newest epoch has begun already");
    assert_eq!(index.entries(), [entry((1, 0)), entry((3, 8))]);
}

/// It led in epoch 3 and wrote nothing; now it follows a log that has records of epoch 2, or of epoch 1, from there on.
#[test]
fn an_epoch_that_wrote_nothing_gives_way_to_an_older_one() {
    let led = index(&[(1, 0), (3, 8)]);
    let mut follows = led.clone();
    assert!(follows.assign(LeaderEpoch(2), Offset(8)));
    assert_eq!(follows.entries(), [entry((1, 0)), entry((2, 8))]);
    let mut follows = led.clone();
    assert!(follows.assign(LeaderEpoch(1), Offset(8)));
    assert_eq!(follows.entries(), [entry((1, 0))]);
    assert_eq!(follows.floor_end(LeaderEpoch(3), Offset(9)), Some(end((1, 9))));
}

#[test]
#[should_panic(expected = "invariant I7")]
fn an_epoch_that_goes_back_is_a_broken_invariant() {
    index(&[(5, 0)]).assign(LeaderEpoch(4), Offset(3));
}

#[test]
fn a_checkpoint_out_of_order_is_refused_with_its_place() {
    for wrong in
        [&[(1, 0), (1, 5)][..], &[(1, 5), (2, 5)], &[(2, 0), (1, 5)], &[(-1, 0)], &[(0, -1)]]
    {
        let entries: Vec<_> = wrong.iter().copied().map(entry).collect();
        let error = EpochIndex::restore(entries).expect_err("out of order");
        assert_eq!(error.position, wrong.len() - 1);
    }
}

#[test]
fn the_log_start_moves_into_the_epoch_that_wrote_its_first_record() {
    let mut cut = index(&[(2, 10), (4, 25), (7, 40)]);
    assert!(cut.truncate_from_start(Offset(30)));
    assert_eq!(cut.entries(), [entry((4, 30)), entry((7, 40))]);
    assert!(!cut.truncate_from_start(Offset(30)));
    assert!(cut.truncate_from_start(Offset(40)));
    assert_eq!(cut.entries(), [entry((7, 40))]);
}

#[test]
fn a_follower_with_the_leaders_history_does_not_diverge() {
    let leader = index(&[(1, 0), (3, 20)]);
    assert_eq!(leader.divergence(LeaderEpoch(3), Offset(25), Offset(30)), None);
    assert_eq!(leader.divergence(LeaderEpoch(1), Offset(20), Offset(30)), None);
    assert_eq!(leader.divergence(LeaderEpoch::NONE, Offset(0), Offset(30)), None);
}

#[test]
fn a_follower_past_an_epochs_end_or_in_an_epoch_unknown_here_diverges() {
    let leader = index(&[(1, 0), (3, 20)]);
    let ask = |epoch, offset| leader.divergence(LeaderEpoch(epoch), Offset(offset), Offset(30));
    assert_eq!(ask(1, 22), Some(end((1, 20))));
    assert_eq!(ask(2, 18), Some(end((1, 20))));
    assert_eq!(ask(9, 18), Some(end((3, 30))));
    assert_eq!(ask(3, 31), Some(end((3, 30))));
}

/// A log as the model has it: for each offset, the epoch and a number that no other record has.
type Records = Vec<(i32, u32)>;

fn model_end(records: &Records, epoch: i32) -> Option<EpochEnd> {
    let floor = records.iter().map(|(e, _)| *e).filter(|e| *e <= epoch).max()?;
    let last = records.iter().rposition(|(e, _)| *e == floor)?;
    Some(end((floor, i64::try_from(last).ok()? + 1)))
}

fn index_of(records: &Records) -> EpochIndex {
    let mut index = EpochIndex::default();
    for (offset, (epoch, _)) in records.iter().enumerate() {
        index.assign(LeaderEpoch(*epoch), Offset(i64::try_from(offset).expect("small")));
    }
    index
}

fn length(records: &Records) -> Offset {
    Offset(i64::try_from(records.len()).expect("small"))
}

/// Cuts the follower until its leader finds no divergence, as R1 and R2 say. Returns how many rounds that took.
fn reconcile(leader: &Records, follower: &mut Records) -> usize {
    let leader_index = index_of(leader);
    for round in 0.. {
        let own = index_of(follower);
        let last_epoch =
            follower.last().map_or(LeaderEpoch::NONE, |(epoch, _)| LeaderEpoch(*epoch));
        let Some(diverging) = leader_index.divergence(last_epoch, length(follower), length(leader))
        else {
            return round;
        };
        let cut = own.truncation_point(diverging, Offset::ZERO, length(follower));
        assert!(cut < length(follower), "no progress: {diverging:?}");
        follower.truncate(usize::try_from(cut.0).expect("not negative"));
    }
    unreachable!("every round cuts something")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn epoch_ends_agree_with_a_scan_of_the_log(
        runs in prop::collection::vec((1..4_i32, 1..6_usize), 0..12),
        (from, to) in (0..40_usize, 0..40_usize),
        asked in 0..40_i32,
    ) {
        let mut records = Records::new();
        let mut epoch = -1;
        for (step, count) in runs {
            epoch += step;
            records.extend((0..count).map(|_| (epoch, 0)));
        }
        let mut index = index_of(&records);
        let to = to.min(records.len());
        records.truncate(to);
        index.truncate_from_end(Offset(i64::try_from(to).expect("small")));
        let from = from.min(records.len());
        index.truncate_from_start(Offset(i64::try_from(from).expect("small")));
        // The model forgets by changing what lies below the log start to an epoch that nobody asks for.
        let mut visible = records.clone();
        visible.iter_mut().take(from).for_each(|record| record.0 = i32::MAX);
        let expected = model_end(&visible, asked);
        if from < records.len() {
            prop_assert_eq!(index.floor_end(LeaderEpoch(asked), length(&records)), expected);
            prop_assert_eq!(index.epoch_at(Offset(from as i64)), Some(LeaderEpoch(records[from].0)));
        }
        prop_assert!(EpochIndex::restore(index.entries().to_vec()).is_ok());
    }

    /// Three replicas take turns as leader, with elections that lose unreplicated records (fast ones, too, that write nothing: KIP-279).
    /// Whenever a follower has reconciled with its leader, its log is a prefix of the leader's, and it lost nothing they shared.
    #[test]
    fn a_reconciled_follower_is_a_prefix_of_its_leader_and_lost_nothing_shared(
        steps in prop::collection::vec((0..3_usize, 0..3_usize, 0..4_u32, 0..6_usize), 1..40),
    ) {
        let mut logs = [Records::new(), Records::new(), Records::new()];
        let mut unique = 0;
        for (epoch, (leader, follower, writes, copies)) in (0..).zip(steps) {
            for _ in 0..writes {
                unique += 1;
                logs[leader].push((epoch, unique));
            }
            if leader == follower {
                continue;
            }
            let source = logs[leader].clone();
            let shared = source.iter().zip(&logs[follower]).take_while(|(a, b)| a == b).count();
            reconcile(&source, &mut logs[follower]);
            let kept = logs[follower].len();
            prop_assert_eq!(&source[..kept], &logs[follower][..]);
            prop_assert_eq!(kept, shared);
            logs[follower].extend(source[kept..].iter().take(copies));
        }
    }
}
