//! Several members in one process: what no loss of messages, power or disks may do to the facts, and how a quorum begins and changes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod peers;
mod wires;

use std::time::Duration;

use thalweg_env::fs::{Fault, SimFs};
use thalweg_env::{Random as _, SeededRandom};
use thalweg_raft::{ChangeError, Leadership, StartError};
use thalweg_types::NodeId;

use cluster::{Cluster, ELECTION, PATIENCE, endpoint};

// ---- Anything goes ------------------------------------------------------------------------------------------------------------

/// A slow machine gets less done in a round: it is given more of them, up to this many times as many.
const PATIENT_ROUNDS_FACTOR: u32 = 8;

/// Calls the facts of life down on the members for a while, then heals everything and looks at what is left.
async fn endure(seed: u64, member_count: u64, rounds: u32) {
    let random = SeededRandom::new(seed);
    let mut cluster = Cluster::formed(seed, 1..=member_count).await;
    cluster.propose(20).await;
    for round in 0..PATIENT_ROUNDS_FACTOR * rounds {
        if round >= rounds && has_seen_enough(&cluster) {
            break;
        }
        let id = 1 + random.below(member_count);
        let other = 1 + random.below(member_count);
        match random.below(10) {
            0 | 1 => {
                cluster.crash(id).await;
                for _ in 0..random.below(60) {
                    cluster.try_propose().await;
                }
            }
            2 => {
                let leader = cluster.leader_now().unwrap_or(id);
                cluster.crash(leader).await;
            }
            3 => cluster.wires.isolate(id, (1..=member_count).filter(|other| *other != id)),
            4 => {
                if let Some(leader) = cluster.leader_now() {
                    cluster.wires.isolate(leader, (1..=member_count).filter(|it| *it != leader));
                }
            }
            5 => cluster.wires.cut(id, other),
            6 => cluster.wires.disturb(10, Duration::from_millis(40)),
            7 => {
                if let Some(leader) = cluster.leader_now() {
                    // Whether it works is not the point here.
                    let _ = cluster.quorum(leader).transfer_leadership(other).await;
                }
            }
            8 => cluster.wires.heal(),
            _ => {
                // The machines lose power together, or one after the other.
                for id in 1..=random.below(member_count + 1) {
                    cluster.crash(id).await;
                }
            }
        }
        // Long enough for an election, now and then.
        let until = tokio::time::Instant::now() + Duration::from_millis(40 + random.below(400));
        while tokio::time::Instant::now() < until {
            cluster.try_propose().await;
            cluster.try_read(1 + random.below(member_count)).await;
            tokio::time::sleep(Duration::from_millis(random.below(8))).await;
        }
        if random.below(3) > 0 {
            restart_all(&mut cluster, member_count).await;
        }
        if random.below(4) == 0 {
            cluster.wires.heal();
        }
    }
    cluster.wires.heal();
    restart_all(&mut cluster, member_count).await;
    cluster.settle().await;
    let (facts, epochs) = (cluster.acknowledged_count(), cluster.epoch_count());
    println!("seed {seed}: {facts} facts acknowledged, {epochs} epochs seen");
    assert!(has_seen_enough(&cluster), "too little happened to mean anything");
    cluster.stop().await;
}

/// Facts were acknowledged under several leaders.
fn has_seen_enough(cluster: &Cluster) -> bool {
    cluster.acknowledged_count() > 50 && cluster.epoch_count() > 2
}

async fn restart_all(cluster: &mut Cluster, member_count: u64) {
    for id in 1..=member_count {
        if cluster.places[&id].quorum.is_none() {
            cluster.start(id).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_lose_nothing_and_contradict_nobody() {
    for seed in 1..=2 {
        endure(seed, 3, 16).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_lose_nothing_and_contradict_nobody() {
    endure(11, 5, 16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_commits_nothing_and_reads_nothing() {
    let mut cluster = Cluster::formed(21, 1..=3).await;
    cluster.propose(5).await;
    let old = cluster.leader().await;
    let isolated = cluster.quorum(old);
    cluster.wires.isolate(old, (1..=3).filter(|id| *id != old));

    let stale = tokio::time::timeout(ELECTION * 4, isolated.propose(vec!["never".into()])).await;
    assert!(!matches!(stale, Ok(Ok(_))), "{stale:?}");
    let read = tokio::time::timeout(ELECTION * 4, isolated.ensure_linearizable()).await;
    assert!(!matches!(read, Ok(Ok(_))), "{read:?}");
    assert!(!isolated.is_confirmed());

    let waiting = tokio::time::Instant::now();
    while cluster.leader().await == old {
        assert!(waiting.elapsed() < PATIENCE, "nobody else took the lead");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.propose(5).await;
    cluster.wires.heal();
    cluster.settle().await;
    cluster.stop().await;
}

// ---- How a quorum begins ------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_is_made_only_when_every_voter_has_answered() {
    let mut cluster = Cluster::new(31, 1..=3);
    cluster.start(1).await.unwrap();
    cluster.start(2).await.unwrap();
    let (first, second) = (cluster.quorum(1), cluster.quorum(2));
    let forming = async { tokio::join!(first.form(&cluster.voters), second.form(&cluster.voters)) };
    let formed = tokio::time::timeout(Duration::from_secs(1), forming).await;
    assert!(formed.is_err(), "two of three made a quorum: {formed:?}");
    assert!(!first.identify().await.unwrap().initialised);

    cluster.start(3).await.unwrap();
    cluster.form().await;
    cluster.leader().await;
    cluster.settle().await;
    let members = cluster.quorum(3).describe().members;
    assert_eq!(members.len(), 3);
    for member in members {
        let quorum = cluster.quorum(member.member.node_id);
        assert_eq!(&member.member, quorum.own(), "the membership knows every disk from the start");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_disk_never_votes_and_never_makes_a_second_cluster() {
    let mut cluster = Cluster::formed(32, 1..=3).await;
    cluster.propose(5).await;
    // The lowest id is the one that makes a cluster.
    cluster.crash(1).await;
    cluster.new_place(1, 999);
    cluster.start(1).await.unwrap();
    let wiped = cluster.quorum(1);
    let voters = cluster.voters.clone();

    let refused = tokio::time::timeout(PATIENCE, wiped.form(&voters)).await.unwrap().unwrap_err();
    assert!(matches!(refused, StartError::AnotherDisk { node_id: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("remove voter 1"), "{refused}");

    // Nor does it help to keep running: with one of the others away there is no majority, and the new disk does not make one.
    let leader = cluster.leader().await;
    let other = if leader == 2 { 3 } else { 2 };
    cluster.crash(other).await;
    tokio::time::sleep(ELECTION * 6).await;
    assert!(!wiped.identify().await.unwrap().initialised, "a wiped disk took part");
    assert!(!cluster.try_propose().await, "a wiped disk counted for a majority");
    assert!(cluster.leader_now().is_none_or(|id| !cluster.quorum(id).is_confirmed()));
    assert_eq!(*wiped.leadership().borrow(), Leadership::Undecided);

    cluster.crash(1).await;
    cluster.start(other).await.unwrap();
    cluster.propose(3).await;

    // The way back: out, and in again under a new id.
    cluster.change(async |active| ignore_repeated(active.remove_voter(1).await)).await;
    cluster.new_place(4, 999);
    cluster.start(4).await.unwrap();
    cluster.change(async |active| ignore_repeated(active.add_voter(4, &endpoint(4)).await)).await;
    cluster.places.remove(&1);
    cluster.settle().await;
    let voters = cluster.quorum(4).describe().members.into_iter().filter(|it| it.is_voter);
    assert_eq!(voters.map(|it| it.member.node_id).collect::<Vec<_>>(), [2, 3, 4]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_members_disk_and_a_disk_without_its_log_are_refused() {
    let mut cluster = Cluster::formed(33, 1..=3).await;
    cluster.propose(3).await;
    cluster.crash(2).await;
    cluster.crash(3).await;
    let disk_of = |cluster: &Cluster, id: u64| -> SimFs { cluster.places[&id].disk.clone() };

    let third = disk_of(&cluster, 3);
    let second = std::mem::replace(&mut cluster.places.get_mut(&2).unwrap().disk, third);
    let refused = cluster.start(2).await.unwrap_err();
    assert!(matches!(refused, StartError::NotAMember { node_id: NodeId(2), .. }), "{refused}");

    cluster.places.get_mut(&2).unwrap().disk = second;
    cluster.remove_files(2, "log");
    let refused = cluster.start(2).await.unwrap_err();
    assert!(matches!(refused, StartError::VoteLost { .. }), "{refused}");
    cluster.stop().await;
}

// ---- Snapshots ----------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_while_a_snapshot_comes_in_leaves_a_member_that_catches_up() {
    let mut cluster = Cluster::formed(41, 1..=3).await;
    let mut cuts = 0;
    for step in 0..10 {
        let leader = cluster.leader().await;
        let late = (1..=3).find(|id| *id != leader).unwrap();
        cluster.crash(late).await;
        // More than is kept of the log: only a snapshot helps.
        cluster.propose(90).await;
        let disk = cluster.places[&late].disk.clone();
        disk.inject(disk.operations() + 1 + step * 3, Fault::PowerCut);
        if cluster.start(late).await.is_ok() {
            let waiting = tokio::time::Instant::now();
            while disk.is_powered() && waiting.elapsed() < Duration::from_secs(3) {
                cluster.try_propose().await;
            }
        }
        cuts += u32::from(!disk.is_powered());
        cluster.crash(late).await;
        cluster.start(late).await.unwrap();
        cluster.settle().await;
        // Perhaps another one is just being made.
        let waiting = tokio::time::Instant::now();
        while cluster.files(late, "snapshots").len() > 1 {
            assert!(waiting.elapsed() < PATIENCE, "half a snapshot survived");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(cuts >= 5, "only {cuts} power cuts hit");
    cluster.stop().await;
}

// ---- Changes ------------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_come_and_go_and_what_would_end_the_quorum_is_refused() {
    let mut cluster = Cluster::formed(51, 1..=3).await;
    cluster.propose(100).await;
    let leader = cluster.leader().await;
    let follower = cluster.quorum(1 + leader % 3);
    if !matches!(*follower.leadership().borrow(), Leadership::Leading { .. }) {
        let refused = follower.remove_voter(1).await.unwrap_err();
        assert!(matches!(refused, ChangeError::NotLeader { .. }), "{refused}");
    }
    let refused = cluster.try_change(async |active| active.remove_voter(9).await).await;
    assert_eq!(refused, Err(ChangeError::Unknown { node_id: 9 }));
    let refused = cluster.try_change(async |active| active.transfer_leadership(9).await).await;
    assert_eq!(refused, Err(ChangeError::Unknown { node_id: 9 }));
    let refused = cluster.try_change(async |active| active.add_voter(4, &endpoint(4)).await).await;
    assert!(matches!(refused, Err(ChangeError::Unreachable { .. })), "{refused:?}");
    let refused = cluster.try_change(async |active| active.add_voter(4, &endpoint(1)).await).await;
    assert!(
        matches!(refused, Err(ChangeError::AnotherNode { expected: 4, found: 1, .. })),
        "{refused:?}"
    );
    let refused = cluster.try_change(async |active| active.add_voter(1, &endpoint(1)).await).await;
    assert_eq!(refused, Err(ChangeError::AlreadyVoter { node_id: 1 }));

    // It has missed more than the log has kept.
    cluster.new_place(4, 52);
    cluster.start(4).await.unwrap();
    cluster.change(async |active| ignore_repeated(active.add_voter(4, &endpoint(4)).await)).await;
    cluster.settle().await;
    let state = cluster.quorum(4).describe();
    assert_eq!(state.members.len(), 4);
    assert!(state.members.iter().all(|member| member.is_voter));

    // A leader that is asked to goes; whom it named comes.
    let waiting = tokio::time::Instant::now();
    while cluster.leader().await != 4 {
        assert!(waiting.elapsed() < PATIENCE, "the lead was never taken over");
        cluster.change(async |active| active.transfer_leadership(4).await).await;
        tokio::time::sleep(ELECTION).await;
    }
    cluster.change(async |active| ignore_repeated(active.remove_voter(1).await)).await;
    cluster.crash(1).await;
    cluster.places.remove(&1);
    cluster.settle().await;

    // With one of three away, losing another voter would leave one of two.
    cluster.crash(2).await;
    tokio::time::sleep(ELECTION * 4).await;
    let refused = cluster.try_change(async |active| active.remove_voter(3).await).await;
    assert!(matches!(refused, Err(ChangeError::WouldLoseQuorum { .. })), "{refused:?}");
    cluster.stop().await;
}

/// A change that is asked for again may turn out to have been made the first time.
fn ignore_repeated(result: Result<(), ChangeError>) -> Result<(), ChangeError> {
    match result {
        Err(ChangeError::AlreadyVoter { .. } | ChangeError::Unknown { .. }) => Ok(()),
        other => other,
    }
}
