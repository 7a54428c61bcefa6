//! What the active controller makes of what it is asked: one decision at a time, each on everything committed before it.

use thalweg_metadata_core::{
    AlterConfigs, AlterPartition, ConfigAlteration, ConfigChange, ConfigTarget, CreateTopic, Error,
    Heartbeat, Image, Record, TopicReference,
};
use thalweg_metadata_core::{ElectUnclean, PartitionReference};
use thalweg_replication_core::{AlterOutcome, Proposal};
use thalweg_types::{Durability, Moment, PartitionIndex, TopicIdPartition};

use super::{Active, Flight, Quorum, Work, answer};
use crate::env::{Env, Event, ms};
use crate::message::{Admin, Ask, Host, Told};
use crate::network::MS;
use crate::partition;

/// Facts to commit, and what to tell whoever asked.
type Decided = (Vec<Record>, Told);

impl Quorum {
    /// Goes on with what waits until something has to be committed.
    pub(super) fn pump(&mut self, env: &mut Env, at: usize) {
        loop {
            let can_answer = self.acting(env) == Some(at);
            let controller = &mut self.controllers[at];
            let Some(active) = &mut controller.active else { return };
            if active.flight.is_some() {
                return;
            }
            let Some(work) = active.waiting.pop_front() else { return };
            let now = Moment(ms(env.now));
            let (asker, decided) = match work {
                Work::Activate => {
                    let decision = controller.image.decide_activate(self.cluster_id, &self.policy);
                    (None, Ok((decision.records, Told::Done)))
                }
                Work::Fence(node) => {
                    let decision = controller.image.decide_fence(node);
                    (None, decision.map(|decision| (decision.records, Told::Done)))
                }
                Work::Asked { from, life, id, ask } => {
                    let decided = decide(active, &controller.image, &self.policy, &ask, now);
                    (Some((from, life, id)), decided)
                }
            };
            let (records, told) =
                decided.unwrap_or_else(|error| (Vec::new(), Told::Refused(error.code())));
            if records.is_empty() {
                if let Some(asker) = asker.filter(|_| can_answer) {
                    answer(env, at, asker, told);
                }
            } else {
                let answer = asker.map(|(from, life, id)| (from, life, id, told));
                self.propose(env, at, records, answer);
            }
        }
    }

    fn propose(
        &mut self,
        env: &mut Env,
        at: usize,
        records: Vec<Record>,
        answer: Option<(Host, u64, u64, Told)>,
    ) {
        let has_reached = self.acting(env) == Some(at);
        self.next_proposal += 1;
        let proposal = self.next_proposal;
        if let Some(active) = &mut self.controllers[at].active {
            active.flight = Some(Flight { proposal, records, answer, has_reached });
        }
        let delay = self.rng.between(MS, 8 * MS);
        env.after(delay, Event::CommitDone { controller: at, proposal });
    }
}

fn decide(
    active: &mut Active,
    image: &Image,
    policy: &thalweg_metadata_core::Policy,
    ask: &Ask,
    now: Moment,
) -> Result<Decided, Error> {
    match ask {
        Ask::Register(request) => {
            active.sessions.check_registration(image, request, now)?;
            let decision = image.decide_register_node(request)?;
            let node = decision.response.node_id;
            let epoch = thalweg_types::BrokerEpoch::NONE;
            Ok((decision.records, Told::Registered { node, epoch }))
        }
        Ask::Heartbeat { node, epoch, applied, want_shutdown } => {
            let heartbeat = Heartbeat {
                node_id: *node,
                broker_epoch: *epoch,
                applied: *applied,
                want_shutdown: *want_shutdown,
                others_applied: active.sessions.others_applied(image, *node),
            };
            let decision = image.decide_heartbeat(&heartbeat)?;
            active.sessions.heard(*node, *epoch, *applied, now);
            active.contacts.heard(*node, now);
            let thalweg_metadata_core::HeartbeatAnswer { fenced, may_shut_down } =
                decision.response;
            Ok((decision.records, Told::Heartbeat { fenced, may_shut_down }))
        }
        Ask::Hold { node, epoch, hold } => {
            image.check_session(*node, *epoch)?;
            active.sessions.held(*node, *epoch, *hold);
            active.contacts.held(*node, *epoch, *hold);
            Ok((Vec::new(), Told::Done))
        }
        Ask::Alter { partition, proposal } => {
            Ok(alter(image, policy, alteration(*partition, proposal)))
        }
        Ask::Unfit { node, epoch, partition } => {
            let replicas = std::iter::once(*partition).collect();
            let decision = image.decide_replicas_unfit(*node, *epoch, &replicas)?;
            Ok((decision.records, Told::Done))
        }
        Ask::Watch { .. } => Ok((Vec::new(), Told::Done)),
        Ask::Admin(admin) => administer(image, policy, admin),
    }
}

fn alteration(id: TopicIdPartition, proposal: &Proposal) -> AlterPartition {
    AlterPartition {
        id,
        leader: proposal.leader,
        broker_epoch: proposal.broker_epoch,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr.clone(),
        recovering: proposal.recovering,
        unfit: proposal.unfit.clone(),
        proven: proposal.proven.clone(),
    }
}

fn alter(
    image: &Image,
    policy: &thalweg_metadata_core::Policy,
    request: AlterPartition,
) -> Decided {
    let mut decision = image.decide_alter_partitions(&[request], policy);
    let outcome = match decision.response.pop() {
        Some(Ok(state)) => AlterOutcome::Committed(partition::of_image(&state)),
        Some(Err(error)) => AlterOutcome::Refused(error.code()),
        None => AlterOutcome::Lost,
    };
    (decision.records, Told::Altered(Box::new(outcome)))
}

fn administer(
    image: &Image,
    policy: &thalweg_metadata_core::Policy,
    admin: &Admin,
) -> Result<Decided, Error> {
    match admin {
        Admin::Create { topic, id, replicas, min_isr, durability, small } => {
            let mut configs = vec![
                ("min.insync.replicas".to_owned(), Some(min_isr.to_string())),
                ("thalweg.durability".to_owned(), Some(spelled(*durability).to_owned())),
            ];
            if *small {
                configs.push(("retention.bytes".to_owned(), Some("20000".to_owned())));
            }
            let request = CreateTopic {
                name: topic.clone(),
                partition_count: -1,
                replication_factor: -1,
                assignments: (0..).map(PartitionIndex).zip(replicas.iter().cloned()).collect(),
                configs,
                new_topic_id: *id,
            };
            let mut decision = image.decide_create_topics(&[request], false, 0, policy);
            decision.response.pop().transpose()?;
            Ok((decision.records, Told::Done))
        }
        Admin::Delete { topic } => {
            let reference = TopicReference::Name(topic.clone());
            let mut decision = image.decide_delete_topics(&[reference], policy);
            decision.response.pop().transpose()?;
            Ok((decision.records, Told::Done))
        }
        Admin::MinIsr { topic, min_isr } => {
            let change = set("min.insync.replicas", min_isr.to_string());
            configure(image, policy, topic, change)
        }
        Admin::Durability { topic, durability } => {
            let change = set("thalweg.durability", spelled(*durability).to_owned());
            configure(image, policy, topic, change)
        }
        Admin::Reassign(request) => {
            let mut decision = image.decide_reassign(std::slice::from_ref(request), policy);
            decision.response.pop().transpose()?;
            Ok((decision.records, Told::Done))
        }
        Admin::Preferred => Ok((image.decide_elect_all_preferred().records, Told::Done)),
        Admin::Unclean { topic, partition_epoch, candidates } => {
            let partition =
                PartitionReference { topic: topic.clone(), partition: PartitionIndex(0) };
            let (partition_epoch, candidates) = (*partition_epoch, candidates.clone());
            let request = ElectUnclean { partition, partition_epoch, candidates };
            Ok((image.decide_elect_unclean(&request)?.records, Told::Done))
        }
    }
}

fn set(name: &str, value: String) -> ConfigChange {
    ConfigChange::Set { name: name.to_owned(), value }
}

fn spelled(durability: Durability) -> &'static str {
    match durability {
        Durability::Fsync => "fsync",
        Durability::Replicated => "replicated",
    }
}

fn configure(
    image: &Image,
    policy: &thalweg_metadata_core::Policy,
    topic: &str,
    change: ConfigChange,
) -> Result<Decided, Error> {
    let target = ConfigTarget::Topic(topic.to_owned());
    let alteration = ConfigAlteration { target, changes: vec![change], replace: false };
    let request = AlterConfigs { resources: vec![alteration], validate_only: false };
    let mut decision = image.decide_alter_configs(&request, policy);
    decision.response.pop().transpose()?;
    Ok((decision.records, Told::Done))
}
