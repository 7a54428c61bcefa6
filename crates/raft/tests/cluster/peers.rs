//! Calls that no sound member would make: each is refused, and the member goes on.

use bytes::Bytes;
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_raft::{Member, PeerError};

use super::cluster::Cluster;

fn peer(member: &Member) -> proto::Peer {
    proto::Peer {
        node_id: member.node_id,
        dir_id: Bytes::copy_from_slice(member.peer.dir_id.0.as_bytes()),
        endpoint: member.peer.endpoint.clone(),
    }
}

fn envelope(source: &Member, target: &Member) -> Option<proto::Envelope> {
    Some(proto::Envelope { source: Some(peer(source)), target: Some(peer(target)) })
}

fn entry(index: u64, term: u64) -> proto::Entry {
    proto::Entry {
        log_id: Some(proto::LogId { term, node_id: 1, index }),
        payload: Some(proto::entry::Payload::Blank(proto::Blank {})),
    }
}

/// A vote above everything that has been: what it carries would be believed.
fn vote(node_id: u64, committed: bool) -> Option<proto::Vote> {
    Some(proto::Vote { term: 1 << 40, node_id, committed })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_or_from_another_disk_are_refused() {
    let mut cluster = Cluster::formed(61, 1..=3).await;
    let (one, two) = (cluster.quorum(1), cluster.quorum(2));
    let (source, target) = (one.own().clone(), two.own().clone());
    let wiped = |member: &Member| {
        let mut member = member.clone();
        member.peer.dir_id = cluster.quorum(3).own().peer.dir_id;
        member
    };
    let request = |envelope| proto::VoteRequest {
        envelope,
        vote: vote(1, false),
        last_log_id: Some(proto::LogId { term: 1 << 40, node_id: 1, index: 1 << 40 }),
        leadership_transfer: true,
    };

    let refused = two.serve_vote(request(envelope(&source, &wiped(&target)))).await.unwrap_err();
    assert!(matches!(refused, PeerError::NotTheTarget { .. }), "{refused}");
    let refused = two.serve_vote(request(envelope(&source, cluster.quorum(3).own()))).await;
    assert!(matches!(refused, Err(PeerError::NotTheTarget { .. })), "{refused:?}");
    let refused = two.serve_pre_vote(request(envelope(&wiped(&source), &target))).await;
    assert!(matches!(refused, Err(PeerError::AnotherDisk { node_id: 1, .. })), "{refused:?}");
    let refused = two.serve_vote(request(envelope(&target, &target))).await;
    assert!(matches!(refused, Err(PeerError::AnotherDisk { node_id: 2, .. })), "{refused:?}");
    let of_another =
        proto::VoteRequest { vote: vote(3, false), ..request(envelope(&source, &target)) };
    for unreadable in [
        request(None),
        request(Some(proto::Envelope::default())),
        proto::VoteRequest { vote: None, ..request(envelope(&source, &target)) },
        proto::VoteRequest { vote: vote(1, true), ..request(envelope(&source, &target)) },
        of_another,
    ] {
        let refused = two.serve_vote(unreadable).await;
        assert!(matches!(refused, Err(PeerError::Unreadable(_))), "{refused:?}");
    }
    cluster.settle().await;
    assert!(two.describe().term < 1 << 40, "a refused message was believed");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_do_not_follow_each_other_are_refused() {
    let mut cluster = Cluster::formed(62, 1..=3).await;
    let (source, two) = (cluster.quorum(1).own().clone(), cluster.quorum(2));
    let previous = Some(proto::LogId { term: 5, node_id: 1, index: 7 });
    let sound = proto::AppendEntriesRequest {
        envelope: envelope(&source, two.own()),
        vote: vote(1, true),
        previous,
        entries: vec![entry(8, 5), entry(9, 6)],
        leader_committed: None,
    };
    for (why, entries) in [
        ("a gap", vec![entry(9, 5)]),
        ("an overlap", vec![entry(8, 5), entry(8, 5)]),
        ("a term that falls", vec![entry(8, 6), entry(9, 5)]),
        ("a term before the previous entry's", vec![entry(8, 4)]),
        ("a term beyond the leader's", vec![entry(8, 1 << 41)]),
        ("no payload", vec![proto::Entry { payload: None, ..entry(8, 5) }]),
        ("no position", vec![proto::Entry { log_id: None, ..entry(8, 5) }]),
    ] {
        let refused =
            two.serve_append_entries(proto::AppendEntriesRequest { entries, ..sound.clone() });
        let refused = refused.await;
        assert!(matches!(refused, Err(PeerError::Unreadable(_))), "{why}: {refused:?}");
    }
    let uncommitted = proto::AppendEntriesRequest { vote: vote(1, false), ..sound };
    let refused = two.serve_append_entries(uncommitted).await;
    assert!(matches!(refused, Err(PeerError::Unreadable(_))), "{refused:?}");
    cluster.settle().await;
    assert!(two.describe().term < 1 << 40, "a refused message was believed");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_not_whole_replaces_nothing() {
    let mut cluster = Cluster::formed(63, 1..=3).await;
    cluster.propose(10).await;
    let (source, two) = (cluster.quorum(1).own().clone(), cluster.quorum(2));
    let last = Some(proto::LogId { term: 1 << 39, node_id: 1, index: 1000 });
    let header = proto::SnapshotHeader { format: 1, last, membership: None, epoch: 0 };
    let start = proto::install_snapshot_request::Start {
        envelope: envelope(&source, two.own()),
        vote: vote(1, true),
        header: Some(header.clone()),
        size_bytes: 100,
    };

    for (why, start) in [
        ("no header", proto::install_snapshot_request::Start { header: None, ..start.clone() }),
        (
            "a candidate's",
            proto::install_snapshot_request::Start { vote: vote(1, false), ..start.clone() },
        ),
        ("huge", proto::install_snapshot_request::Start { size_bytes: u64::MAX, ..start.clone() }),
        (
            "of nothing",
            proto::install_snapshot_request::Start {
                header: Some(proto::SnapshotHeader { last: None, ..header }),
                ..start.clone()
            },
        ),
    ] {
        let refused = two.receive_snapshot(&start).err();
        assert!(matches!(refused, Some(PeerError::Unreadable(_))), "{why}: {refused:?}");
    }

    let mut receiver = two.receive_snapshot(&start).unwrap();
    let second = two.receive_snapshot(&start).err();
    assert_eq!(second, Some(PeerError::Busy));
    receiver.append(Bytes::from(vec![7; 60])).await.unwrap();
    assert!(receiver.append(Bytes::from(vec![7; 60])).await.is_err(), "more than was announced");
    assert!(receiver.append(Bytes::from(vec![7; 10])).await.is_err(), "there is no way on");
    drop(receiver);

    let mut receiver = two.receive_snapshot(&start).unwrap();
    receiver.append(Bytes::from(vec![7; 60])).await.unwrap();
    let short = two.install_snapshot(receiver).await;
    assert!(matches!(short, Err(PeerError::Unreadable(_))), "{short:?}");

    let mut receiver = two.receive_snapshot(&start).unwrap();
    receiver.append(Bytes::from(vec![7; 100])).await.unwrap();
    let garbage = two.install_snapshot(receiver).await;
    assert!(matches!(garbage, Err(PeerError::Unreadable(_))), "{garbage:?}");

    assert_eq!(cluster.files(2, "snapshots"), [""; 0], "something was left behind");
    cluster.settle().await;
    cluster.stop().await;
}
