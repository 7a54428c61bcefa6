//! Elections by command, unfit replicas, controlled shutdown, unregistration.

use thalweg_invariants::{Mutant, Plant};
use thalweg_types::{LeaderEpoch, Offset, PartitionEpoch};

use super::*;
use crate::LeaderRecovery;

fn reference() -> PartitionReference {
    PartitionReference { topic: "t".to_owned(), partition: PartitionIndex(0) }
}

impl Cluster {
    fn elect_preferred(&mut self) -> Result<(), Error> {
        let mut decision = self.image.decide_elect_preferred(&[reference()]);
        self.commit(&decision.records);
        decision.response.remove(0)
    }

    /// The number of facts, and whether the node may stop.
    pub(super) fn shut_down(&mut self, node_id: NodeId, others: Option<LogIndex>) -> (usize, bool) {
        let request = Heartbeat {
            node_id,
            broker_epoch: self.epoch(node_id),
            applied: self.image.position().index,
            want_shutdown: true,
            others_applied: others,
        };
        let decision = self.image.decide_heartbeat(&request).unwrap();
        self.commit(&decision.records);
        (decision.records.len(), decision.response.may_shut_down)
    }

    fn candidate(&self, node: i32, last_epoch: i32, durable_end: i64) -> Candidate {
        Candidate {
            node: NodeId(node),
            broker_epoch: self.epoch(NodeId(node)),
            last_epoch: LeaderEpoch(last_epoch),
            durable_end: Offset(durable_end),
        }
    }

    fn elect_unclean(&mut self, candidates: &[Candidate]) -> Result<ElectedUnclean, Error> {
        let partition_epoch = self.partition("t").partition_epoch;
        self.elect_unclean_of(partition_epoch, candidates)
    }

    fn elect_unclean_of(
        &mut self,
        partition_epoch: PartitionEpoch,
        candidates: &[Candidate],
    ) -> Result<ElectedUnclean, Error> {
        let candidates = candidates.to_vec();
        let request = ElectUnclean { partition: reference(), partition_epoch, candidates };
        let decision = self.image.decide_elect_unclean(&request)?;
        self.commit(&decision.records);
        Ok(decision.response)
    }
}

#[test]
fn the_preferred_leader_gets_the_leadership_back_once_it_is_in_sync() {
    let mut cluster = Cluster::of_brokers(3);
    cluster.create_on("t", &[1, 2, 3], &[]);
    assert_eq!(cluster.elect_preferred().unwrap_err().code(), ErrorCode::ElectionNotNeeded);
    cluster.fence(NodeId(1));
    cluster.unfence(NodeId(1));
    let refused = cluster.elect_preferred().unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PreferredLeaderNotAvailable);
    let epoch = cluster.partition("t").leader_epoch;
    cluster.alter_partition(&cluster.proposal("t", &[1, 2, 3])).unwrap();
    cluster.elect_preferred().unwrap();
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, partition.leader_epoch.0), (Some(NodeId(1)), epoch.0 + 1));
    assert_eq!(cluster.image.decide_elect_all_preferred().response, 0);
}

/// R9.
#[test]
fn every_election_begins_an_epoch() {
    let elected = || {
        let mut cluster = Cluster::of_brokers(2);
        cluster.create_on("t", &[1, 2], &[]);
        cluster.fence(NodeId(1));
        let partition = cluster.partition("t");
        assert_eq!(partition.leader, Some(NodeId(2)));
        partition.leader_epoch
    };
    assert_eq!(elected(), LeaderEpoch(1));
    let _plant = Plant::new(Mutant::M23);
    assert_eq!(elected(), LeaderEpoch(0));
}

/// R14.
#[test]
fn an_unclean_election_takes_the_longest_log_and_leaves_a_mark() {
    let mut cluster = Cluster::of_brokers(3);
    cluster.create_on("t", &[1, 2, 3], &[("min.insync.replicas", "1")]);
    let candidates = [cluster.candidate(2, 4, 90), cluster.candidate(3, 5, 70)];
    let refused = cluster.elect_unclean(&candidates).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ElectionNotNeeded);
    for node in [2, 3, 1] {
        cluster.fence(NodeId(node));
    }
    let refused = cluster.elect_unclean(&candidates).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::EligibleLeadersNotAvailable, "all are fenced");
    cluster.unfence(NodeId(2));
    cluster.unfence(NodeId(3));
    let before = cluster.partition("t").clone();
    assert_eq!(before.leader, None);

    let older = PartitionEpoch(before.partition_epoch.0 - 1);
    let refused = cluster.elect_unclean_of(older, &candidates).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidUpdateVersion, "somebody may have led since");

    let elected = cluster.elect_unclean(&candidates).unwrap();
    assert_eq!((elected.leader, elected.log_end), (NodeId(3), Offset(70)));
    assert_eq!(elected.abandoned, nodes(&[1]));
    let after = cluster.partition("t").clone();
    assert_eq!(after.leader_epoch.0, before.leader_epoch.0 + 1);
    assert_eq!((after.unclean_epoch, after.isr), (Some(after.leader_epoch), nodes(&[3])));
    assert_eq!((after.recovery, &*after.elr), (LeaderRecovery::Recovering, &[][..]));

    let alone = AlterPartition { recovering: true, ..cluster.proposal("t", &[3]) };
    assert_eq!(cluster.alter_partition(&alone).unwrap().recovery, LeaderRecovery::Recovering);
    let joined = cluster.alter_partition(&cluster.proposal("t", &[3, 2])).unwrap();
    assert_eq!((joined.recovery, joined.isr), (LeaderRecovery::Recovered, nodes(&[2, 3])));
    let back = AlterPartition { recovering: true, ..cluster.proposal("t", &[3]) };
    assert_eq!(cluster.alter_partition(&back).unwrap_err().code(), ErrorCode::InvalidRequest);
}

/// R9: never elect a suspect replica.
#[test]
fn a_replica_that_reports_damage_is_neither_in_sync_nor_eligible() {
    let mut cluster = Cluster::of_brokers(2);
    cluster.create_on("t", &[1, 2], &[("min.insync.replicas", "2")]);
    let damaged = BTreeSet::from([cluster.id("t")]);
    let epoch = cluster.epoch(NodeId(1));
    let decision = cluster.image.decide_replicas_unfit(NodeId(1), epoch, &damaged).unwrap();
    cluster.commit(&decision.records);
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, &*partition.isr), (Some(NodeId(2)), &nodes(&[2])[..]));
    assert!(partition.elr.is_empty());
    let stale = cluster.image.decide_replicas_unfit(NodeId(1), BrokerEpoch(0), &damaged);
    assert_eq!(stale.unwrap_err().code(), ErrorCode::StaleBrokerEpoch);
    let _plant = Plant::new(Mutant::M30);
    let epoch = cluster.epoch(NodeId(2));
    let missed = cluster.image.decide_replicas_unfit(NodeId(2), epoch, &damaged).unwrap();
    assert!(missed.records.is_empty());
}

/// R13.4, the planted bug of it.
#[test]
fn an_unclean_restart_ends_eligibility_where_flushes_were_not_waited_for() {
    let restarted = || {
        let mut cluster = Cluster::of_brokers(2);
        let configs = [("thalweg.durability", "replicated"), ("min.insync.replicas", "2")];
        cluster.create_on("t", &[1, 2], &configs);
        cluster.register(&broker(1)).unwrap();
        cluster.partition("t").elr.clone()
    };
    assert!(restarted().is_empty());
    let _plant = Plant::new(Mutant::M12);
    assert_eq!(restarted(), nodes(&[1]));
}

/// R12.
#[test]
fn a_node_that_shuts_down_is_let_go_once_the_others_know_who_leads() {
    let mut cluster = Cluster::of_brokers(2);
    cluster.create_on("t", &[1, 2], &[("min.insync.replicas", "2")]);
    let before = cluster.image.position().index;
    let (facts, granted) = cluster.shut_down(NodeId(1), Some(before));
    assert_eq!((facts, granted), (2, false));
    let partition = cluster.partition("t");
    assert_eq!((partition.leader, &*partition.isr), (Some(NodeId(2)), &nodes(&[2])[..]));
    assert_eq!(&*partition.elr, &nodes(&[1])[..]);
    let told = cluster.image.position().index;
    assert_eq!(cluster.image.node(NodeId(1)).unwrap().shutting_down_at, Some(told));

    assert_eq!(cluster.shut_down(NodeId(1), Some(before)), (0, false));
    assert!(!cluster.heartbeat(NodeId(1), false).fenced, "it stays as it is");
    assert_eq!(cluster.shut_down(NodeId(1), Some(told)), (1, true));
    assert!(cluster.image.node(NodeId(1)).unwrap().fenced);
    assert!(cluster.heartbeat(NodeId(1), false).fenced, "only a registration begins anew");
    cluster.register(&broker(1)).unwrap();
    cluster.unfence(NodeId(1));
    assert!(cluster.image.is_live(NodeId(1)));
}

#[test]
fn only_a_node_that_is_gone_is_unregistered_and_its_id_stays_its_disks() {
    let mut cluster = Cluster::of_brokers(2);
    let refused = cluster.image.decide_unregister_node(NodeId(2)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    cluster.fence(NodeId(2));
    let decision = cluster.image.decide_unregister_node(NodeId(2)).unwrap();
    cluster.commit(&decision.records);
    assert!(cluster.image.node(NodeId(2)).is_none());
    let unknown = cluster.image.decide_unregister_node(NodeId(2)).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::BrokerIdNotRegistered);
    assert_eq!(cluster.register(&broker(2)).unwrap().node_id, NodeId(2));
}
