//! The bookkeeping step by step: no clock, no sockets.

use thalweg_rpc::LeaderHint;
use thalweg_types::{Offset, PartitionIndex, TopicName};

use super::*;

const ONE: Leader = Leader { node: NodeId(1), epoch: LeaderEpoch(1) };
const TWO: Leader = Leader { node: NodeId(2), epoch: LeaderEpoch(2) };

/// Lanes, and a moment that passes only when the test says so.
struct Bench {
    lanes: Lanes,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { lanes: Lanes::new(1 << 20, Duration::from_secs(1)), now: Instant::now() }
    }

    fn link(&mut self, node: i32) -> LinkId {
        let start = |_| tokio::spawn(std::future::pending::<()>()).abort_handle();
        self.lanes.open_link(NodeId(node), format!("node-{node}:9190"), start)
    }

    fn add(&mut self, name: &'static str) -> (Ticket, oneshot::Receiver<Verdict>) {
        self.add_batch(name, false)
    }

    fn add_batch(
        &mut self,
        name: &'static str,
        is_idempotent: bool,
    ) -> (Ticket, oneshot::Receiver<Verdict>) {
        let batch = NewBatch {
            bytes: Bytes::from_static(name.as_bytes()),
            acks: Acks::All,
            deadline: self.now + Duration::from_secs(30),
            is_idempotent,
            expected_offset: None,
        };
        self.lanes.add(&at(), batch, ONE).unwrap()
    }

    /// Everything a link would send now.
    fn sent(&mut self, link: LinkId) -> Vec<String> {
        let mut sent = Vec::new();
        while let Taken::Batch { bytes, .. } = self.lanes.take(link, Waker::noop()) {
            sent.push(String::from_utf8(bytes.to_vec()).unwrap());
        }
        sent
    }

    fn plan(&mut self, lane: LaneId, known: Leader) -> Plan {
        self.lanes.plan(lane, known, self.now)
    }

    fn refuse(&mut self, link: LinkId, number: u64, leader: Option<Leader>) {
        let error = Error::new(ErrorCode::NotLeaderOrFollower, "not here").not_applied();
        let error = match leader {
            Some(Leader { node, epoch }) => error.with_leader(LeaderHint {
                partition: at(),
                node_id: node,
                leader_epoch: epoch,
                endpoint: None,
            }),
            None => error,
        };
        self.lanes.answered(link, number, Err(error), self.now);
    }

    fn perform(&mut self) {
        self.lanes.take_effects().perform();
    }
}

fn at() -> TopicPartition {
    TopicPartition { topic: TopicName::new("orders").unwrap(), partition: PartitionIndex(0) }
}

fn produced() -> Verdict {
    Ok(Produced { base_offset: Offset(5), log_append_time: None, log_start_offset: Offset::ZERO })
}

#[tokio::test]
async fn after_a_refusal_all_go_again_in_their_order_once_the_last_answer_is_there() {
    let mut bench = Bench::new();
    let one = bench.link(1);
    let (a, _a) = bench.add("a");
    let (_, _b) = bench.add("b");
    bench.lanes.dispatch(a.lane, one, ONE);
    assert_eq!(bench.sent(one), ["a", "b"]);
    let (_, _c) = bench.add("c");
    bench.lanes.dispatch(a.lane, one, ONE);

    bench.refuse(one, 0, None);
    assert!(bench.sent(one).is_empty(), "nothing is sent while an answer is missing");
    assert_eq!(bench.plan(a.lane, TWO), Plan::Wait(Some(bench.now + Duration::from_secs(1))));
    bench.refuse(one, 1, None);
    assert_eq!(bench.plan(a.lane, TWO), Plan::Send(TWO));
    let two = bench.link(2);
    bench.lanes.dispatch(a.lane, two, TWO);
    let (_, _d) = bench.add("d");
    bench.lanes.dispatch(a.lane, two, TWO);
    assert!(bench.sent(one).is_empty());
    assert_eq!(bench.sent(two), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn a_place_in_the_queue_of_an_older_round_counts_no_more() {
    let mut bench = Bench::new();
    let one = bench.link(1);
    let (a, _a) = bench.add("a");
    bench.lanes.dispatch(a.lane, one, ONE);
    assert!(matches!(bench.lanes.take(one, Waker::noop()), Taken::Batch { .. }));
    let (_, _b) = bench.add("b");
    bench.lanes.dispatch(a.lane, one, ONE);
    bench.refuse(one, 0, None);
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.plan(a.lane, ONE), Plan::Send(ONE));
    bench.lanes.dispatch(a.lane, one, ONE);
    // The queue still has b's place of the first round, in front.
    assert_eq!(bench.sent(one), ["a", "b"]);
}

#[tokio::test]
async fn what_is_queued_for_the_old_leader_goes_to_the_new_one() {
    let mut bench = Bench::new();
    let (one, two) = (bench.link(1), bench.link(2));
    let (a, _a) = bench.add("a");
    bench.lanes.dispatch(a.lane, one, ONE);
    assert_eq!(bench.plan(a.lane, TWO), Plan::Send(TWO));
    bench.lanes.dispatch(a.lane, two, TWO);
    assert!(bench.sent(one).is_empty());
    assert_eq!(bench.sent(two), ["a"]);
}

#[tokio::test]
async fn a_leader_that_refused_is_asked_again_after_a_pause_and_a_new_one_at_once() {
    let mut bench = Bench::new();
    let one = bench.link(1);
    let (a, _a) = bench.add("a");
    bench.lanes.dispatch(a.lane, one, ONE);
    bench.sent(one);
    bench.refuse(one, 0, None);
    assert_eq!(bench.plan(a.lane, ONE), Plan::Wait(Some(bench.now + RETRY_PAUSE_FIRST)));
    assert_eq!(bench.plan(a.lane, TWO), Plan::Send(TWO));
    let nobody = Leader { node: NodeId::NONE, epoch: LeaderEpoch(3) };
    assert_eq!(bench.plan(a.lane, nobody), Plan::Wait(None));
    bench.now += RETRY_PAUSE_FIRST;
    assert_eq!(bench.plan(a.lane, ONE), Plan::Send(ONE));
}

#[tokio::test]
async fn brokers_that_name_each_other_are_not_asked_in_a_circle_without_end() {
    let mut bench = Bench::new();
    let links = [bench.link(1), bench.link(2)];
    let (a, _a) = bench.add("a");
    bench.lanes.dispatch(a.lane, links[0], ONE);
    let mut asked = 0;
    let mut numbers = [0, 0];
    loop {
        let here = asked % 2;
        assert_eq!(bench.sent(links[here]), ["a"]);
        let epoch = LeaderEpoch(2 + i32::try_from(asked).unwrap());
        let other = Leader { node: NodeId(if here == 0 { 2 } else { 1 }), epoch };
        bench.refuse(links[here], numbers[here], Some(other));
        numbers[here] += 1;
        asked += 1;
        match bench.plan(a.lane, ONE) {
            Plan::Send(leader) => bench.lanes.dispatch(a.lane, links[asked % 2], leader),
            Plan::Wait(until) => {
                assert!(until.is_some());
                break;
            }
        }
        assert!(asked < 10);
    }
    assert_eq!(asked, 4);
}

#[tokio::test]
async fn a_lost_link_leaves_plain_batches_unknown_and_the_rest_goes_again() {
    let mut bench = Bench::new();
    let one = bench.link(1);
    let (_, mut plain) = bench.add("plain");
    let (a, mut again) = bench.add_batch("again", true);
    bench.lanes.dispatch(a.lane, one, ONE);
    bench.sent(one);
    let (_, mut queued) = bench.add("queued");
    bench.lanes.dispatch(a.lane, one, ONE);
    let broken = Error::new(ErrorCode::NetworkException, "gone");
    bench.lanes.lost(one, &broken, bench.now);
    bench.perform();
    let error = plain.try_recv().unwrap().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::NetworkException, Outcome::Unknown));
    assert!(again.try_recv().is_err() && queued.try_recv().is_err());

    assert_eq!(bench.plan(a.lane, TWO), Plan::Send(TWO));
    let two = bench.link(2);
    bench.lanes.dispatch(a.lane, two, TWO);
    assert_eq!(bench.sent(two), ["again", "queued"]);
    // It may be in the log since the first time: no refusal can say that it is not.
    let refused = Error::new(ErrorCode::MessageTooLarge, "too large").not_applied();
    bench.lanes.answered(two, 0, Err(refused.clone()), bench.now);
    bench.lanes.answered(two, 1, Err(refused), bench.now);
    bench.perform();
    assert_eq!(again.try_recv().unwrap().unwrap_err().outcome, Outcome::Unknown);
    assert_eq!(queued.try_recv().unwrap().unwrap_err().outcome, Outcome::NotApplied);
    assert!(bench.lanes.all().is_empty());
}

#[tokio::test]
async fn what_is_given_up_is_withdrawn_unless_it_was_sent() {
    let mut bench = Bench::new();
    let one = bench.link(1);
    let (a, _a) = bench.add("a");
    let (b, _b) = bench.add("b");
    bench.lanes.dispatch(a.lane, one, ONE);
    let error = bench.lanes.give_up(a, false).unwrap();
    assert_eq!(error.outcome, Outcome::NotApplied);
    assert_eq!(bench.sent(one), ["b"]);
    assert_eq!(bench.lanes.give_up(b, false), None);
    assert_eq!(bench.lanes.give_up(b, true).unwrap().outcome, Outcome::Unknown);
    assert_eq!(bench.lanes.all().len(), 1, "its answer is still to come");
    bench.lanes.answered(one, 0, produced(), bench.now);
    bench.perform();
    assert!(bench.lanes.all().is_empty());
    assert_eq!(bench.lanes.give_up(b, true), None);
}

#[tokio::test]
async fn answers_of_a_leader_of_the_past_are_not_waited_for_without_end() {
    let mut bench = Bench::new();
    let one = bench.link(1);
    let (a, mut first) = bench.add("a");
    bench.lanes.dispatch(a.lane, one, ONE);
    bench.sent(one);
    let (_, _second) = bench.add("b");
    let until = bench.now + Duration::from_secs(1);
    assert_eq!(bench.plan(a.lane, TWO), Plan::Wait(Some(until)));
    bench.now = until;
    assert_eq!(bench.plan(a.lane, TWO), Plan::Wait(None));
    bench.perform();
    assert_eq!(first.try_recv().unwrap().unwrap_err().outcome, Outcome::Unknown);
    assert_eq!(bench.plan(a.lane, TWO), Plan::Send(TWO));
    let two = bench.link(2);
    bench.lanes.dispatch(a.lane, two, TWO);
    // A late answer is to nothing.
    bench.lanes.answered(one, 0, produced(), bench.now);
    assert_eq!(bench.sent(two), ["b"]);
}

#[tokio::test]
async fn a_retired_link_ends_when_its_batches_are_sent_elsewhere() {
    let mut bench = Bench::new();
    let old = bench.link(1);
    let (a, _a) = bench.add("a");
    bench.lanes.dispatch(a.lane, old, ONE);
    let new = bench.link(1);
    assert!(matches!(bench.lanes.take(old, Waker::noop()), Taken::Finished));
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.plan(a.lane, ONE), Plan::Send(ONE));
    bench.lanes.dispatch(a.lane, new, ONE);
    assert_eq!(bench.sent(new), ["a"]);
}
