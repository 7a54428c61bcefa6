//! What operators command: moves and elections.

use thalweg_proto::internal::controller::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId};

use crate::cluster::{Cluster, TOPIC, code};

fn step(partition: i32, target: Option<&[i32]>) -> proto::Move {
    let target = target.map(|ids| proto::NodeList { node_ids: ids.to_vec() });
    proto::Move { topic: TOPIC.to_owned(), partition, target }
}

fn name(partition: i32) -> proto::PartitionName {
    proto::PartitionName { topic: TOPIC.to_owned(), partition }
}

async fn reassign(cluster: &mut Cluster, moves: Vec<proto::Move>) -> Vec<Option<ErrorCode>> {
    let request = proto::ReassignRequest { moves };
    let answer = cluster.client.reassign(request).await.unwrap().into_inner();
    answer.partitions.into_iter().map(|partition| partition.error.map(code)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_ends_when_the_leader_has_brought_in_who_is_added_and_can_be_taken_back_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 3).await;
    cluster.create(&[&[1, 2], &[1, 2]], &[]).await;

    let moves = vec![step(0, Some(&[1, 3])), step(1, Some(&[3, 2]))];
    assert_eq!(reassign(&mut cluster, moves).await, [None, None]);
    let moving = cluster.partition(0);
    assert_eq!((&moving.adding[..], &moving.removing[..]), (&[NodeId(3)][..], &[NodeId(2)][..]));

    let grown = vec![cluster.proposal(0, &[1, 2, 3])];
    let done = cluster.propose(1, grown).await.remove(0).unwrap();
    assert_eq!((&done.replicas[..], &done.isr[..]), (&[1, 3][..], &[1, 3][..]));
    assert!(done.adding.is_empty() && done.removing.is_empty());
    assert!(done.leader_epoch > moving.leader_epoch.0, "a replica has left");

    let moves = vec![step(1, None), step(0, None)];
    let answers = reassign(&mut cluster, moves).await;
    assert_eq!(answers, [None, Some(ErrorCode::NoReassignmentInProgress)]);
    let (restored, order) = (cluster.partition(1), [NodeId(2), NodeId(1)]);
    assert_eq!((&restored.replicas[..], restored.is_reassigning()), (&order[..], false));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_that_cannot_be_are_refused_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 2).await;
    cluster.create(&[&[1], &[1], &[1], &[1], &[1]], &[]).await;
    let moves = vec![
        step(0, Some(&[])),
        step(1, Some(&[2, 2])),
        step(2, Some(&[9])),
        step(77, Some(&[1])),
        step(-1, None),
        proto::Move { topic: "nowhere".to_owned(), ..step(0, None) },
        step(3, Some(&[2])),
        step(4, Some(&[2])),
        step(4, Some(&[1])),
    ];
    let assignment = Some(ErrorCode::InvalidReplicaAssignment);
    let unknown = Some(ErrorCode::UnknownTopicOrPartition);
    let twice = Some(ErrorCode::InvalidRequest);
    assert_eq!(
        reassign(&mut cluster, moves).await,
        [assignment, assignment, assignment, unknown, unknown, unknown, None, twice, twice]
    );
    let moves = vec![step(0, None); 10_001];
    let request = proto::ReassignRequest { moves };
    let refused = Error::from(cluster.client.reassign(request).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_empties_brokers_or_evens_out_and_changes_nothing_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 3).await;
    cluster.create(&[&[1, 2], &[1, 2], &[2, 1], &[2, 1]], &[]).await;
    let before = cluster.applied();

    let request = proto::PlanMovesRequest { leaving: vec![2], moves_max: 0 };
    let plan = cluster.client.plan_moves(request).await.unwrap().into_inner().moves;
    assert_eq!(plan.len(), 4);
    for step in &plan {
        let mut target = step.target.clone().unwrap().node_ids;
        target.sort_unstable();
        assert_eq!(target, [1, 3]);
    }
    let request = proto::PlanMovesRequest { leaving: Vec::new(), moves_max: 1 };
    let plan = cluster.client.plan_moves(request).await.unwrap().into_inner().moves;
    assert_eq!(plan.len(), 1);
    assert!(plan[0].target.clone().unwrap().node_ids.contains(&3), "the empty broker");
    assert_eq!(cluster.applied(), before);

    let request = proto::PlanMovesRequest { leaving: vec![8], moves_max: 0 };
    let refused = Error::from(cluster.client.plan_moves(request).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::BrokerIdNotRegistered);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preferred_leaders_are_elected_where_they_are_in_sync() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 2).await;
    cluster.create(&[&[1, 2], &[1, 2], &[2, 1]], &[]).await;
    cluster.beat(1, true).await;
    cluster.brokers[0] = cluster.register(1, 1).await;
    cluster.beat(1, false).await;
    assert_eq!(cluster.partition(0).leader, Some(NodeId(2)));
    let back = vec![cluster.proposal(0, &[1, 2])];
    cluster.propose(2, back).await.remove(0).unwrap();

    let partitions = vec![name(0), name(1), name(2), name(5)];
    let request = proto::ElectPreferredLeadersRequest { partitions, all: false };
    let answer = cluster.client.elect_preferred_leaders(request).await.unwrap().into_inner();
    let codes: Vec<_> =
        answer.partitions.into_iter().map(|partition| partition.error.map(code)).collect();
    let expected = [
        None,
        Some(ErrorCode::PreferredLeaderNotAvailable),
        Some(ErrorCode::ElectionNotNeeded),
        Some(ErrorCode::UnknownTopicOrPartition),
    ];
    assert_eq!(codes, expected);
    assert_eq!(cluster.partition(0).leader, Some(NodeId(1)));

    let back = vec![cluster.proposal(1, &[1, 2])];
    cluster.propose(2, back).await.remove(0).unwrap();
    let all = proto::ElectPreferredLeadersRequest { partitions: Vec::new(), all: true };
    let answer = cluster.client.elect_preferred_leaders(all.clone()).await.unwrap().into_inner();
    assert_eq!(answer.partitions.len(), 1);
    assert_eq!(answer.partitions[0].partition, Some(name(1)));
    let answer = cluster.client.elect_preferred_leaders(all).await.unwrap().into_inner();
    assert!(answer.partitions.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unclean_election_says_why_no_replica_can_lead() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 3).await;
    cluster.create(&[&[1, 2, 3], &[2, 3, 1]], &[("min.insync.replicas", "1")]).await;
    let alone = vec![cluster.proposal(0, &[1])];
    cluster.propose(1, alone).await.remove(0).unwrap();
    // The last replica in sync is gone, and nobody else is known to be complete.
    cluster.beat(1, true).await;
    assert_eq!(cluster.partition(0).leader, None);
    let before = cluster.partition(0);

    let partitions = vec![name(0), name(1), name(9)];
    let request = proto::ElectUncleanLeadersRequest { partitions, validate_only: false };
    let answer = cluster.client.elect_unclean_leaders(request).await.unwrap().into_inner();
    let errors: Vec<_> =
        answer.partitions.iter().map(|election| election.error.clone().unwrap()).collect();
    let codes: Vec<_> = errors.iter().cloned().map(code).collect();
    let expected = [
        ErrorCode::EligibleLeadersNotAvailable,
        ErrorCode::ElectionNotNeeded,
        ErrorCode::UnknownTopicOrPartition,
    ];
    assert_eq!(codes, expected);
    for reason in ["node 1: it is not live", "node 2: ", "node 3: "] {
        assert!(errors[0].message.contains(reason), "{}", errors[0].message);
    }
    assert_eq!(answer.partitions[0].replicas.len(), 3);
    assert_eq!(cluster.partition(0), before, "nothing was changed");

    let partitions = vec![name(0), name(0)];
    let twice = proto::ElectUncleanLeadersRequest { partitions, validate_only: true };
    let refused = Error::from(cluster.client.elect_unclean_leaders(twice).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    cluster.stop().await;
}
