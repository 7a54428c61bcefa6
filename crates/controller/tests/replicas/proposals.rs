//! What leaders propose, and what brokers report of their own replicas.

use thalweg_proto::internal::controller::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId};

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_takes_out_and_brings_in_with_each_answer_the_whole_registration() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 3).await;
    cluster.create(&[&[1, 2, 3], &[1, 3, 2]], &[("min.insync.replicas", "2")]).await;

    let both = vec![cluster.proposal(0, &[1, 2]), cluster.proposal(1, &[3, 1])];
    let answers = cluster.propose(1, both).await;
    let first = answers[0].as_ref().unwrap();
    assert_eq!((&first.isr[..], &first.replicas[..]), (&[1, 2][..], &[1, 2, 3][..]));
    assert_eq!((first.min_isr, first.partition_epoch, first.leader), (2, 1, Some(1)));
    assert_eq!(answers[1].as_ref().unwrap().isr, [1, 3], "in the order of the replicas");
    assert_eq!(cluster.partition(0).isr, [NodeId(1), NodeId(2)], "applied before it was answered");

    let alone = vec![cluster.proposal(0, &[1])];
    let alone = cluster.propose(1, alone).await.remove(0).unwrap();
    assert_eq!(
        (&alone.isr[..], &alone.elr[..]),
        (&[1][..], &[2][..]),
        "still known to be complete"
    );
    let all = vec![cluster.proposal(0, &[1, 2, 3])];
    let all = cluster.propose(1, all).await.remove(0).unwrap();
    assert_eq!((&all.isr[..], &all.elr[..]), (&[1, 2, 3][..], &[][..]));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_of_the_wrong_sender_version_or_members_are_refused_and_disturb_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 4).await;
    cluster.create(&[&[1, 2, 3], &[1, 2, 3]], &[]).await;
    let base = cluster.proposal(0, &[1, 2]);
    let changed = |change: fn(&mut proto::Proposal)| {
        let mut proposal = base.clone();
        change(&mut proposal);
        proposal
    };
    let unknown = |proposal: &mut proto::Proposal| {
        proposal.partition.as_mut().unwrap().partition = 9;
    };
    let cases = [
        (changed(unknown), ErrorCode::UnknownTopicId),
        (changed(|p| p.leader_epoch += 1), ErrorCode::NotController),
        (changed(|p| p.partition_epoch += 1), ErrorCode::NotController),
        (changed(|p| p.leader_epoch = -1), ErrorCode::FencedLeaderEpoch),
        (changed(|p| p.partition_epoch = i32::MIN), ErrorCode::InvalidUpdateVersion),
        (changed(|p| p.isr.clear()), ErrorCode::InvalidRequest),
        (changed(|p| p.recovering = true), ErrorCode::InvalidRequest),
        (changed(|p| p.isr[1].broker_epoch -= 1), ErrorCode::IneligibleReplica),
        (cluster.proposal(0, &[2, 3]), ErrorCode::InvalidRequest),
        (cluster.proposal(0, &[1, 2, 2]), ErrorCode::InvalidRequest),
        (cluster.proposal(0, &[1, 4]), ErrorCode::InvalidRequest),
        (cluster.proposal(0, &[1, 99]), ErrorCode::InvalidRequest),
    ];
    for (proposal, expected) in cases {
        // Beside a sound one, which is committed all the same.
        let beside = cluster.proposal(1, &[1, 2, 3]);
        let answers = cluster.propose(1, vec![proposal.clone(), beside]).await;
        assert_eq!(answers[0].as_ref().unwrap_err(), &expected, "{proposal:?}");
        assert!(answers[1].is_ok(), "{:?}", answers[1]);
    }
    let answers = cluster.propose(2, vec![base.clone()]).await;
    assert_eq!(answers, [Err(ErrorCode::InvalidRequest)], "broker 2 leads nothing");
    let answers = cluster.propose(1, vec![base.clone(), base.clone()]).await;
    assert_eq!(answers, [Err(ErrorCode::InvalidRequest), Err(ErrorCode::InvalidRequest)]);
    cluster.brokers[0].broker_epoch += 1;
    let answers = cluster.propose(1, vec![base.clone()]).await;
    assert_eq!(answers, [Err(ErrorCode::StaleBrokerEpoch)]);
    cluster.brokers[0].broker_epoch -= 1;
    assert_eq!(cluster.partition(0).partition_epoch.0, 0, "nothing was changed by any of them");
    assert!(cluster.propose(1, vec![base]).await[0].is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_is_refused_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 1).await;
    cluster.create(&[&[1]], &[]).await;
    let nameless = proto::Proposal::default();
    let cut = proto::Proposal {
        partition: Some(proto::TopicIdPartition { topic_id: vec![1; 15].into(), partition: 0 }),
        ..Default::default()
    };
    for proposals in [vec![nameless], vec![cut], vec![proto::Proposal::default(); 10_001]] {
        let request = proto::AlterPartitionsRequest { node_id: 1, broker_epoch: 1, proposals };
        let refused = Error::from(cluster.client.alter_partitions(request).await.unwrap_err());
        assert_eq!(refused.code, ErrorCode::InvalidRequest);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_may_be_incomplete_neither_leads_nor_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 2).await;
    cluster.create(&[&[1, 2], &[1, 2]], &[("min.insync.replicas", "2")]).await;
    let report = proto::ReportUnfitReplicasRequest {
        node_id: 1,
        broker_epoch: cluster.epoch(1),
        replicas: vec![cluster.id(0)],
    };
    cluster.client.report_unfit_replicas(report.clone()).await.unwrap();
    let (damaged, sound) = (cluster.partition(0), cluster.partition(1));
    assert_eq!((damaged.leader, &damaged.isr[..]), (Some(NodeId(2)), &[NodeId(2)][..]));
    assert!(damaged.elr.is_empty());
    assert_eq!((sound.leader, sound.isr.len()), (Some(NodeId(1)), 2));

    let stale = proto::ReportUnfitReplicasRequest { broker_epoch: 0, ..report };
    let refused = Error::from(cluster.client.report_unfit_replicas(stale).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch);
    cluster.stop().await;
}
