//! Subscribe: members of a group whose coordinator decides by the real rules.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::core::CoreCoordinator;
use crate::rig::{Rig, assert_refused, record, records_to, texts};
use proto::subscribe_request::Message as Asked;
use proto::subscribe_response::Message as Told;

/// Long enough for a slow machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

struct Member {
    requests: mpsc::Sender<proto::SubscribeRequest>,
    stream: Streaming<proto::SubscribeResponse>,
}

fn start() -> proto::SubscribeStart {
    proto::SubscribeStart {
        group_id: "g".to_owned(),
        topics: vec!["orders".to_owned()],
        offset_reset: proto::OffsetReset::Earliest.into(),
        credit_bytes: 1 << 20,
        commit_interval_ms: 600_000,
        ..Default::default()
    }
}

impl Member {
    async fn enter(rig: &Rig, start: proto::SubscribeStart) -> Self {
        let (requests, sent) = mpsc::channel(16);
        let member = Self::ask(&requests, Asked::Start(start));
        member.await;
        let stream = rig.consumer().subscribe(ReceiverStream::new(sent)).await.unwrap();
        Self { requests, stream: stream.into_inner() }
    }

    async fn ask(requests: &mpsc::Sender<proto::SubscribeRequest>, message: Asked) {
        requests.send(proto::SubscribeRequest { message: Some(message) }).await.unwrap();
    }

    async fn say(&self, message: Asked) {
        Self::ask(&self.requests, message).await;
    }

    async fn ack(&self, partition: i32, offset: i64) {
        self.say(Asked::Ack(positions(partition, offset))).await;
    }

    async fn next(&mut self) -> Result<Told, Error> {
        let message = timeout(PATIENCE, self.stream.message()).await.expect("a message in time");
        message.map(|message| message.expect("no end").message.unwrap()).map_err(Error::from)
    }

    /// Skips messages until `pick` likes one.
    async fn until<T>(&mut self, pick: impl Fn(Told) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(self.next().await.unwrap()) {
                return picked;
            }
        }
    }

    async fn assigned(&mut self) -> Vec<(i32, i64)> {
        self.until(|told| match told {
            Told::Assigned(assigned) => {
                let one = |one: &proto::PartitionPosition| (one.partition, one.offset);
                Some(assigned.partitions.iter().map(one).collect())
            }
            _ => None,
        })
        .await
    }

    async fn revoking(&mut self) -> BTreeSet<i32> {
        self.until(|told| match told {
            Told::Revoking(revoking) => Some(indexes(&revoking.partitions)),
            _ => None,
        })
        .await
    }

    async fn gone(&mut self) -> BTreeSet<i32> {
        self.until(|told| match told {
            Told::Gone(gone) => Some(indexes(&gone.partitions)),
            _ => None,
        })
        .await
    }

    /// So many records, with their partitions.
    async fn records(&mut self, count: usize) -> Vec<(i32, String)> {
        let mut records = Vec::new();
        while records.len() < count {
            let Told::Records(message) = self.next().await.unwrap() else { continue };
            for partition in &message.partitions {
                let texts = texts(partition).into_iter();
                records.extend(texts.map(|text| (partition.partition, text)));
            }
        }
        records
    }

    /// Commits what was acknowledged; the codes of what was refused.
    async fn commit(&mut self) -> Vec<ErrorCode> {
        self.say(Asked::Commit(proto::CommitNow {})).await;
        self.until(|told| match told {
            Told::Committed(committed) => {
                let errors = committed.partitions.into_iter().filter_map(|one| one.error);
                Some(errors.map(|error| Error::from_detail(error).code).collect())
            }
            _ => None,
        })
        .await
    }

    /// Closes its side and waits for the end.
    async fn close(self) {
        let Self { requests, mut stream } = self;
        drop(requests);
        while timeout(PATIENCE, stream.message()).await.expect("an end in time").unwrap().is_some()
        {
        }
    }
}

fn positions(partition: i32, offset: i64) -> proto::PartitionPositions {
    let topic = "orders".to_owned();
    proto::PartitionPositions {
        partitions: vec![proto::PartitionPosition { topic, partition, offset }],
    }
}

fn named(partition: i32) -> proto::PartitionRefs {
    let topic = "orders".to_owned();
    proto::PartitionRefs { partitions: vec![proto::PartitionRef { topic, partition }] }
}

fn indexes(partitions: &[proto::PartitionRef]) -> BTreeSet<i32> {
    partitions.iter().map(|one| one.partition).collect()
}

async fn produce(rig: &Rig, partition: i32, texts: &[&str]) {
    let records = texts.iter().map(|text| record(None, text)).collect();
    let request = thalweg_proto::producer::v1::ProduceRequest {
        partition: Some(partition),
        ..records_to("orders", records)
    };
    rig.produce(request).await;
}

async fn committed(rig: &Rig) -> Vec<(i32, Option<i64>)> {
    let request = proto::CommittedOffsetsRequest { group_id: "g".to_owned(), ..Default::default() };
    let answer = rig.consumer().committed_offsets(request).await.unwrap().into_inner();
    answer.offsets.iter().map(|one| (one.partition, one.offset)).collect()
}

async fn rig(partitions: u32) -> (Rig, Arc<CoreCoordinator>) {
    Rig::start_with_core(&[("orders", partitions)]).await
}

#[tokio::test]
async fn a_member_reads_what_it_is_assigned_and_only_what_it_acknowledges_is_committed() {
    let (rig, _) = rig(1).await;
    produce(&rig, 0, &["a", "b", "c"]).await;
    let mut member = Member::enter(&rig, start()).await;
    let Told::Joined(joined) = member.next().await.unwrap() else { panic!("not joined") };
    assert!(!joined.member_id.is_empty() && joined.epoch > 0, "{joined:?}");
    assert_eq!(member.assigned().await, [(0, 0)]);
    let texts: Vec<_> = member.records(3).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a", "b", "c"]);
    assert_eq!(member.commit().await, []);
    assert_eq!(committed(&rig).await, [], "nothing is acknowledged yet");
    member.ack(0, 2).await;
    assert_eq!(member.commit().await, []);
    assert_eq!(committed(&rig).await, [(0, Some(2))]);
    produce(&rig, 0, &["d"]).await;
    assert_eq!(member.records(1).await, [(0, "d".to_owned())], "records are sent as they come");
    member.close().await;
    let mut next = Member::enter(&rig, start()).await;
    assert_eq!(next.assigned().await, [(0, 2)]);
    let again: Vec<_> = next.records(2).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(again, ["c", "d"], "what was not acknowledged is seen again");
}

#[tokio::test]
async fn what_was_acknowledged_is_committed_when_a_member_closes_and_when_it_disappears() {
    let (rig, _) = rig(1).await;
    produce(&rig, 0, &["a", "b", "c"]).await;
    let mut member = Member::enter(&rig, start()).await;
    member.records(3).await;
    member.ack(0, 1).await;
    member.close().await;
    assert_eq!(committed(&rig).await, [(0, Some(1))]);
    let mut member = Member::enter(&rig, start()).await;
    member.records(2).await;
    member.ack(0, 3).await;
    // Heard before the connection is dropped.
    assert_eq!(member.commit().await, []);
    drop(member);
    let mut next = Member::enter(&rig, start()).await;
    assert_eq!(next.assigned().await, [(0, 3)], "the other has left, though it did not say so");
}

#[tokio::test]
async fn a_second_member_gets_its_share_when_the_first_has_given_it_up() {
    let (rig, _) = rig(4).await;
    for partition in 0..4 {
        produce(&rig, partition, &["a", "b"]).await;
    }
    let mut first = Member::enter(&rig, start()).await;
    assert_eq!(first.assigned().await.len(), 4);
    first.records(8).await;
    let mut second = Member::enter(&rig, start()).await;
    let revoking = first.revoking().await;
    assert_eq!(revoking.len(), 2);
    let given_up = async {
        for partition in &revoking {
            first.ack(*partition, 2).await;
        }
        first.gone().await
    };
    assert_eq!(given_up.await, revoking);
    let assigned = second.assigned().await;
    assert!(assigned.iter().all(|(partition, _)| revoking.contains(partition)), "{assigned:?}");
    assert!(assigned.iter().all(|(_, offset)| *offset == 2), "from what was acknowledged");
    for partition in 0..4 {
        produce(&rig, partition, &["c"]).await;
    }
    let mine: BTreeSet<_> = second.records(2).await.into_iter().map(|(index, _)| index).collect();
    assert_eq!(mine, revoking);
    let rest: BTreeSet<_> = first.records(2).await.into_iter().map(|(index, _)| index).collect();
    assert!(rest.is_disjoint(&mine) && rest.len() == 2, "{rest:?} {mine:?}");
}

#[tokio::test]
async fn a_member_that_acknowledges_nothing_gives_up_in_time_all_the_same() {
    let (rig, _) = rig(2).await;
    produce(&rig, 0, &["a"]).await;
    produce(&rig, 1, &["a"]).await;
    let slow = proto::SubscribeStart { revocation_wait_ms: 300, ..start() };
    let mut first = Member::enter(&rig, slow).await;
    first.records(2).await;
    let mut second = Member::enter(&rig, start()).await;
    let gone = first.gone().await;
    let [(partition, 0)] = second.assigned().await[..] else { panic!("not from the beginning") };
    assert!(gone.contains(&partition));
    assert_eq!(second.records(1).await, [(partition, "a".to_owned())]);
}

#[tokio::test]
async fn paused_partitions_send_nothing_until_they_are_resumed() {
    let (rig, _) = rig(2).await;
    let mut member = Member::enter(&rig, start()).await;
    assert_eq!(member.assigned().await.len(), 2);
    member.say(Asked::Pause(named(0))).await;
    // Answered behind the pause.
    member.commit().await;
    produce(&rig, 0, &["paused"]).await;
    produce(&rig, 1, &["a", "b"]).await;
    let seen = member.records(2).await;
    assert!(seen.iter().all(|(partition, _)| *partition == 1), "{seen:?}");
    member.say(Asked::Resume(named(0))).await;
    assert_eq!(member.records(1).await, [(0, "paused".to_owned())]);
}

#[tokio::test]
async fn a_seek_reads_on_elsewhere_and_is_what_is_committed() {
    let (rig, _) = rig(1).await;
    produce(&rig, 0, &["a", "b", "c"]).await;
    let mut member = Member::enter(&rig, start()).await;
    member.records(3).await;
    member.say(Asked::Seek(positions(0, 1))).await;
    let again: Vec<_> = member.records(2).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(again, ["b", "c"]);
    member.ack(0, 2).await;
    assert_eq!(member.commit().await, []);
    assert_eq!(committed(&rig).await, [(0, Some(2))]);
    // Beyond the end of the log: the reset says where.
    member.say(Asked::Seek(positions(0, 999))).await;
    let from_the_start = member.records(3).await;
    assert_eq!(from_the_start[0].1, "a");
}

#[tokio::test]
async fn no_more_is_sent_than_there_is_credit_for() {
    let (rig, _) = rig(1).await;
    let values: Vec<String> = (0..20).map(|number| format!("{number:0>100}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    produce(&rig, 0, &values).await;
    let little = proto::SubscribeStart { credit_bytes: 1, max_bytes: 300, ..start() };
    let mut member = Member::enter(&rig, little).await;
    let first = member.records(1).await;
    assert!(first.len() <= 3, "{}", first.len());
    // Notices still come.
    member.ack(0, 1).await;
    assert_eq!(member.commit().await, []);
    member.say(Asked::CreditBytes(1 << 20)).await;
    assert_eq!(member.records(20 - first.len()).await.len(), 20 - first.len());
}

#[tokio::test]
async fn lost_answers_cost_neither_the_membership_nor_a_commit() {
    let (rig, core) = rig(2).await;
    *core.lost_answers.lock().unwrap() = 2;
    produce(&rig, 0, &["a"]).await;
    let mut member = Member::enter(&rig, start()).await;
    assert_eq!(member.assigned().await.len(), 2);
    assert_eq!(member.records(1).await.len(), 1);
    *core.lost_answers.lock().unwrap() = 1;
    member.ack(0, 1).await;
    while !member.commit().await.is_empty() {}
    assert_eq!(committed(&rig).await, [(0, Some(1))]);
}

#[tokio::test]
async fn a_member_that_was_thought_dead_is_told_and_joins_anew() {
    let (rig, core) = rig(1).await;
    produce(&rig, 0, &["a", "b"]).await;
    let mut member = Member::enter(&rig, start()).await;
    let Told::Joined(joined) = member.next().await.unwrap() else { panic!("not joined") };
    member.records(2).await;
    member.ack(0, 1).await;
    member.commit().await;
    core.throw_out("g", &joined.member_id);
    assert_eq!(member.gone().await, BTreeSet::from([0]));
    assert_eq!(member.assigned().await, [(0, 1)]);
    assert_eq!(member.records(1).await, [(0, "b".to_owned())]);
    // What was sent in its former life cannot be acknowledged any more, and does no harm.
    member.ack(0, 2).await;
    assert_eq!(member.commit().await, []);
}

#[tokio::test]
async fn a_group_by_pattern_gets_topics_as_they_are_made() {
    let (rig, _) = rig(1).await;
    let by_pattern =
        proto::SubscribeStart { topics: Vec::new(), pattern: "ord.*".to_owned(), ..start() };
    let mut member = Member::enter(&rig, by_pattern).await;
    assert_eq!(member.assigned().await, [(0, 0)]);
}

#[tokio::test]
async fn requests_that_make_no_sense_end_the_stream_with_a_reason() {
    let (rig, _) = rig(1).await;
    produce(&rig, 0, &["a"]).await;
    let bad_starts = [
        proto::SubscribeStart { group_id: String::new(), ..start() },
        proto::SubscribeStart { topics: Vec::new(), ..start() },
        proto::SubscribeStart { topics: vec!["no such".to_owned()], ..start() },
        proto::SubscribeStart { offset_reset: 77, ..start() },
        proto::SubscribeStart { max_bytes: u32::MAX, ..start() },
        proto::SubscribeStart { commit_interval_ms: u32::MAX, ..start() },
        proto::SubscribeStart { credit_bytes: u64::MAX, ..start() },
        proto::SubscribeStart { client_id: "x".repeat(5_000), ..start() },
        proto::SubscribeStart { assignor: "by-dice".to_owned(), ..start() },
    ];
    for bad in bad_starts {
        let mut member = Member::enter(&rig, bad.clone()).await;
        let error = loop {
            if let Err(error) = member.next().await {
                break error;
            }
        };
        let expected = [
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidGroupId,
            ErrorCode::InvalidTopicException,
            ErrorCode::UnsupportedAssignor,
        ];
        assert!(expected.contains(&error.code), "{error} for {bad:?}");
    }
    let bad_requests = [
        Asked::Start(start()),
        Asked::CreditBytes(0),
        Asked::Ack(positions(0, -1)),
        Asked::Ack(positions(0, 1_000)),
        Asked::Seek(positions(0, -5)),
    ];
    for bad in bad_requests {
        let mut member = Member::enter(&rig, start()).await;
        member.records(1).await;
        member.say(bad).await;
        let error = loop {
            if let Err(error) = member.next().await {
                break error;
            }
        };
        assert_refused(&error, ErrorCode::InvalidRequest);
    }
    let (requests, sent) = mpsc::channel(1);
    Member::ask(&requests, Asked::CreditBytes(5)).await;
    let stream = rig.consumer().subscribe(ReceiverStream::new(sent)).await.unwrap();
    let mut member = Member { requests, stream: stream.into_inner() };
    assert_refused(&member.next().await.unwrap_err(), ErrorCode::InvalidRequest);
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_for_too_long_is_taken_for_stuck() {
    let (rig, _) = rig(1).await;
    produce(&rig, 0, &["a"]).await;
    let mut member =
        Member::enter(&rig, proto::SubscribeStart { idle_wait_ms: 200, ..start() }).await;
    let error = loop {
        if let Err(error) = member.next().await {
            break error;
        }
    };
    assert_eq!(error.code, ErrorCode::RequestTimedOut);
}

#[tokio::test]
async fn a_gateway_that_stops_ends_its_members_and_they_leave() {
    let (rig, core) = rig(1).await;
    produce(&rig, 0, &["a"]).await;
    let mut member = Member::enter(&rig, start()).await;
    member.records(1).await;
    member.ack(0, 1).await;
    member.commit().await;
    rig.gateway.shutdown().await;
    let error = loop {
        if let Err(error) = member.next().await {
            break error;
        }
    };
    assert_eq!(error.code, ErrorCode::BrokerNotAvailable);
    assert_eq!(core.member_count("g"), 0);
}
