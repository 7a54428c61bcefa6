//! What only somebody who sees the whole cluster can check.
//!
//! The truth about a partition is every record that any leader ever counted as committed, by offset. It only grows; the one thing that
//! takes it back is an unclean election, which is marked. Whatever contradicts it is a violation, named after the invariant.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_metadata_core::{Image, Record};
use thalweg_types::{Durability, IncarnationId, LeaderEpoch, NodeId, Offset, TopicIdPartition};

use crate::disk::{Batch, DiskLog};
use crate::log::Log;
use crate::message::Host;

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    truths: BTreeMap<TopicIdPartition, Truth>,
    pub(crate) violations: Vec<String>,
    /// Leaders that moved their high watermark in the event that is being handled.
    pub(crate) commits: Vec<(Host, TopicIdPartition, Offset)>,
    /// Partitions whose registration changed in it.
    pub(crate) changed: Vec<TopicIdPartition>,
    /// One replica was told to lie on purpose: what follows from its leading is not the others' fault.
    pub(crate) has_liar: bool,
    /// Records given up by unclean elections.
    pub(crate) given_up: u64,
    pub(crate) records_committed: u64,
    pub(crate) unclean_elections: u64,
    /// By incarnation: whether the life before ended cleanly, and what is damaged.
    lives: BTreeMap<IncarnationId, (bool, BTreeSet<TopicIdPartition>)>,
}

#[derive(Debug)]
struct Truth {
    /// By offset: the value, and the epoch of the leader that wrote it.
    values: Vec<(u64, LeaderEpoch)>,
    leaders: BTreeMap<LeaderEpoch, (Host, u64)>,
    unclean: Option<LeaderEpoch>,
    /// The newest that is committed: whoever begins an older one is behind, and will learn it.
    newest: LeaderEpoch,
    /// In sync or eligible, as committed.
    candidates: Vec<NodeId>,
}

impl Default for Truth {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            leaders: BTreeMap::new(),
            unclean: None,
            newest: LeaderEpoch::NONE,
            candidates: Vec::new(),
        }
    }
}

impl Oracle {
    pub(crate) fn violated(&mut self, invariant: &str, what: impl FnOnce() -> String) {
        if self.violations.len() < 20 {
            self.violations.push(format!("{invariant}: {}", what()));
        }
    }

    // ---- Logs ----

    /// I3, I7: one leader per epoch, and it has everything.
    pub(crate) fn leader_begins(
        &mut self,
        id: TopicIdPartition,
        epoch: LeaderEpoch,
        who: (Host, u64),
        log: &Log,
    ) {
        let truth = self.truths.entry(id).or_default();
        let known = *truth.leaders.entry(epoch).or_insert(who);
        if truth.unclean == Some(epoch) {
            let agreed = agreed_end(truth, &log.disk, log.end());
            self.given_up += (truth.values.len() - agreed) as u64;
            truth.values.truncate(agreed);
        }
        let (end, have) = (truth.values.len(), agreed_end(truth, &log.disk, log.end()));
        let is_newest = truth.newest == epoch;
        if known != who {
            self.violated("I7", || format!("{id}: {known:?} and {who:?} lead in {epoch}"));
        }
        if have < end && is_newest && !self.has_liar {
            self.violated("I3", || {
                format!("{id}: broker {} leads in {epoch} with {have} of {end} records", who.0)
            });
        }
    }

    /// I1, I2, I9: what is committed now, and what was committed before.
    pub(crate) fn committed(
        &mut self,
        id: TopicIdPartition,
        (who, epoch): (Host, LeaderEpoch),
        log: &Log,
        (from, to): (Offset, Offset),
    ) {
        let truth = self.truths.entry(id).or_default();
        if truth.unclean > Some(epoch) {
            // What a leader of before still commits, the unclean election gave up.
            return;
        }
        let mut conflict = None;
        for (offset, value) in log.disk.batches_from(from).flat_map(Batch::written) {
            if offset >= to || offset < from {
                continue;
            }
            let at = usize::try_from(offset.0).unwrap_or(usize::MAX);
            match truth.values.get(at) {
                Some(known) if *known != value => {
                    conflict = conflict.or(Some((offset, *known, value)))
                }
                Some(_) => {}
                None if at == truth.values.len() => {
                    truth.values.push(value);
                    self.records_committed += 1;
                }
                None => conflict = conflict.or(Some((offset, (0, LeaderEpoch::NONE), value))),
            }
        }
        self.commits.push((who, id, to));
        if let Some((offset, known, value)) = conflict
            && !self.has_liar
        {
            self.violated("I1", || {
                format!("{id}: broker {who} commits {value:?} at {offset}, where {known:?} was")
            });
        }
    }

    /// I12: nobody who may be elected cuts off what is committed, and nobody what it knows to be. Who is out of sync may: a leader of an
    /// epoch that is over may tell it to, while the next one commits what the old one did not have.
    pub(crate) fn cut(
        &mut self,
        id: TopicIdPartition,
        (who, node): (Host, Option<NodeId>),
        removed: &[Batch],
        (known, marked): (Offset, bool),
    ) {
        let Some(truth) = self.truths.get(&id) else { return };
        let may_be_elected = node.is_some_and(|node| truth.candidates.contains(&node));
        let knew = removed.first().is_some_and(|first| first.base() < known);
        if !may_be_elected && !knew {
            return;
        }
        let lost = removed.iter().flat_map(Batch::written).find(|(offset, value)| {
            let at = usize::try_from(offset.0).unwrap_or(usize::MAX);
            truth.values.get(at) == Some(value)
        });
        if let Some((offset, value)) = lost.filter(|_| !marked) {
            self.violated("I12", || {
                format!("{id}: broker {who} cuts off {value:?} at {offset}, which is committed")
            });
        }
    }

    /// Whether an unclean election gave up what a leader of this epoch has.
    pub(crate) fn is_given_up(&self, id: TopicIdPartition, epoch: LeaderEpoch) -> bool {
        self.truths.get(&id).is_some_and(|truth| truth.unclean > Some(epoch))
    }

    /// The end of what is known to be committed.
    pub(crate) fn true_end(&self, id: TopicIdPartition) -> Offset {
        let count = self.truths.get(&id).map_or(0, |truth| truth.values.len());
        Offset(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// The value of a committed record.
    pub(crate) fn value_at(&self, id: TopicIdPartition, offset: Offset) -> Option<u64> {
        let at = usize::try_from(offset.0).ok()?;
        self.truths.get(&id)?.values.get(at).map(|(value, _)| *value)
    }

    /// Whether a log that reaches the true end has there what is committed; logs that agree in one record agree in all before it.
    pub(crate) fn agrees_at_end(&self, id: TopicIdPartition, disk: &DiskLog) -> bool {
        let Some((at, last)) = self
            .truths
            .get(&id)
            .and_then(|truth| truth.values.len().checked_sub(1).map(|at| (at, truth.values[at])))
        else {
            return true;
        };
        let offset = Offset(i64::try_from(at).unwrap_or(i64::MAX));
        let there = disk.batches_from(offset).next().and_then(|batch| {
            batch.written().find(|(known, _)| *known == offset).map(|(_, value)| value)
        });
        disk.log_start > offset || there == Some(last)
    }

    /// I6, I17: nobody believes more committed than is, and nobody gives up what is not.
    pub(crate) fn check_positions(&mut self, id: TopicIdPartition, who: Host, log: &Log) {
        let end = self.true_end(id);
        let (log_start, high_watermark) = (log.log_start(), log.high_watermark());
        let has_given_up = self.truths.get(&id).is_some_and(|truth| truth.unclean.is_some());
        if high_watermark > end && !has_given_up && !self.has_liar {
            self.violated("I6", || {
                format!("{id}: broker {who} has high watermark {high_watermark}, the truth {end}")
            });
        }
        if log_start > high_watermark || (log_start > end && !has_given_up) {
            self.violated("I17", || {
                format!("{id}: broker {who} begins at {log_start}, committed is {high_watermark}")
            });
        }
    }

    /// How far a log has what is committed: the true end when all of it.
    pub(crate) fn agreed_end(&self, id: TopicIdPartition, disk: &DiskLog) -> Offset {
        let truth = self.truths.get(&id);
        let agreed = truth.map_or(0, |truth| agreed_end(truth, disk, disk.end()));
        Offset(i64::try_from(agreed).unwrap_or(i64::MAX))
    }

    /// P3: producer states are those of the log.
    pub(crate) fn check_producers(&mut self, id: TopicIdPartition, who: Host, log: &Log) {
        let Some(replayed) = log.replayed_producers() else { return };
        let known = log.core.producers();
        let differs = replayed.iter().find(|(producer, state)| {
            known.get(*producer).is_none_or(|known| known.batches != state.batches)
        });
        if let Some((producer, _)) = differs {
            self.violated("P3", || {
                format!(
                    "{id}: broker {who} knows other batches of producer {producer} than its log"
                )
            });
        }
    }

    // ---- Metadata ----

    /// A process begins. What it is worth, whatever it will say: its last life ended cleanly, and these replicas are damaged.
    pub(crate) fn begins(
        &mut self,
        incarnation: IncarnationId,
        is_clean: bool,
        suspect: impl Iterator<Item = TopicIdPartition>,
    ) {
        self.lives.insert(incarnation, (is_clean, suspect.collect()));
    }

    /// I14: a node that has just registered is nowhere in sync, and eligible only where it must have everything.
    pub(crate) fn check_registered(&mut self, image: &Image, record: &Record) {
        let Record::NodeRegistered(node) = record else { return };
        let Some((is_clean, suspect)) = self.lives.get(&node.incarnation).cloned() else { return };
        for topic in image.topics() {
            for (partition, state) in &topic.partitions {
                let id = TopicIdPartition { topic_id: topic.id, partition: *partition };
                let flushed = state.durability == Durability::Fsync
                    && !state.unproven.contains(&node.node_id);
                let may_be =
                    (is_clean || flushed || state.replicas.len() == 1) && !suspect.contains(&id);
                let is_in = state.isr.contains(&node.node_id);
                if is_in || (state.elr.contains(&node.node_id) && !may_be) {
                    self.violated("I14", || {
                        format!("{id}: {} begins anew: {state:?}", node.node_id)
                    });
                }
            }
        }
    }

    /// I7, I15: what a fact makes of a partition.
    pub(crate) fn metadata_changes(&mut self, before: &Image, record: &Record) {
        match record {
            Record::PartitionRegistered { topic_id, partition, state } => {
                let id = TopicIdPartition { topic_id: *topic_id, partition: *partition };
                let truth = self.truths.entry(id).or_default();
                truth.newest = state.leader_epoch;
                truth.candidates = state.isr.iter().chain(&state.elr).copied().collect();
            }
            Record::PartitionChanged { topic_id, partition, state } => {
                let id = TopicIdPartition { topic_id: *topic_id, partition: *partition };
                self.changed.push(id);
                let truth = self.truths.entry(id).or_default();
                truth.newest = state.leader_epoch;
                truth.candidates = state.isr.iter().chain(&state.elr).copied().collect();
                if state.unclean_epoch == Some(state.leader_epoch) {
                    self.unclean_elections += u64::from(
                        before
                            .partition_by_id(id)
                            .is_some_and(|old| old.leader_epoch < state.leader_epoch),
                    );
                    self.truths.entry(id).or_default().unclean = state.unclean_epoch;
                }
                let Some(old) = before.partition_by_id(id) else { return };
                let in_order = state.partition_epoch > old.partition_epoch
                    && state.leader_epoch >= old.leader_epoch
                    && (state.leader == old.leader || state.leader_epoch > old.leader_epoch);
                if !in_order {
                    self.violated("I7", || format!("{id}: {state:?} follows {old:?}"));
                }
                let leads_in_sync = state.leader.is_none_or(|leader| state.isr.contains(&leader));
                let enough = state.isr.len() >= state.min_isr as usize;
                if !leads_in_sync || (enough && !state.elr.is_empty()) {
                    self.violated("I15", || format!("{id}: {state:?}"));
                }
            }
            _ => {}
        }
    }
}

/// Below, the log has what is committed; what its retention has taken counts as there.
fn agreed_end(truth: &Truth, disk: &DiskLog, log_end: Offset) -> usize {
    let mut end = usize::try_from(disk.log_start.0).unwrap_or(0).min(truth.values.len());
    let in_log = disk.batches_from(disk.log_start).flat_map(Batch::written);
    for (offset, value) in in_log.filter(|(offset, _)| *offset < log_end) {
        let at = usize::try_from(offset.0).unwrap_or(usize::MAX);
        if at < end {
            continue;
        }
        if at != end || truth.values.get(at) != Some(&value) {
            break;
        }
        end += 1;
    }
    end
}
