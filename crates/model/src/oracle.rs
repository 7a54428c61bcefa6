//! What was ever committed, and what must hold because of it.
//!
//! The truth is every record that any leader ever counted as committed, by offset; it only grows. An acknowledged record is one of these.

use std::collections::BTreeMap;

use thalweg_types::{BrokerEpoch, Durability, LeaderEpoch, NodeId};

use crate::broker::Broker;
use crate::controller::Controller;
use crate::log::{Entry, Log};

/// An invariant that does not hold, by its name in the reliability chapter.
pub(crate) type Broken = &'static str;

#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Oracle {
    /// From offset 0: below some leader's high watermark at some time.
    pub(crate) committed: Vec<Entry>,
    leaders: BTreeMap<LeaderEpoch, (NodeId, BrokerEpoch)>,
    /// Flushed records were lost on purpose: the truth is not to be had any more, and only what each replica itself knows counts.
    pub(crate) was_lied_to: bool,
}

/// Whether the named invariant holds.
fn hold(invariant: Broken, condition: bool) -> Result<(), Broken> {
    if condition { Ok(()) } else { Err(invariant) }
}

impl Oracle {
    /// I7: one leader per epoch.
    pub(crate) fn begins(
        &mut self,
        leader: (NodeId, BrokerEpoch),
        epoch: LeaderEpoch,
    ) -> Result<(), Broken> {
        let known = *self.leaders.entry(epoch).or_insert(leader);
        hold("I7", known == leader)
    }

    /// A leader has committed everything below `to`.
    pub(crate) fn commits(
        &mut self,
        log: &Log,
        to: usize,
        durability: Durability,
    ) -> Result<(), Broken> {
        let durable = if durability == Durability::Fsync { log.flushed } else { log.end() };
        hold("I6", log.high_watermark <= to && to <= durable)?;
        if self.was_lied_to {
            return Ok(());
        }
        self.agrees("I1", log, to)?;
        let fresh = log.entries.get(self.committed.len()..to).unwrap_or_default();
        self.committed.extend_from_slice(fresh);
        Ok(())
    }

    /// A follower believes that everything below `to` is committed.
    pub(crate) fn follows(&self, log: &Log, to: usize) -> Result<(), Broken> {
        hold("I6", to <= log.end())?;
        if self.was_lied_to {
            return Ok(());
        }
        hold("I6", to <= self.committed.len())?;
        self.agrees("I2", log, to)
    }

    /// The log has what is committed below `to`.
    fn agrees(&self, invariant: Broken, log: &Log, to: usize) -> Result<(), Broken> {
        let committed = self.committed.iter().take(to);
        let has_all = committed.enumerate().all(|(at, entry)| log.entries.get(at) == Some(entry));
        hold(invariant, has_all)
    }

    /// I13: everyone for whom the present leader waited has everything below `to` on its disk, and they are enough.
    pub(crate) fn is_safe(
        &self,
        controller: &Controller,
        brokers: &[&Broker],
        (leader, to): (&Broker, usize),
    ) -> Result<(), Broken> {
        let state = controller.partition();
        let Some(role) = leader.as_leader().filter(|role| role.epoch() == state.leader_epoch)
        else {
            return Ok(());
        };
        if state.durability != Durability::Fsync || self.was_lied_to {
            return Ok(());
        }
        let members: Vec<_> = role.maximal_isr().filter_map(|id| find(brokers, id)).collect();
        hold("I13", members.len() >= role.partition().min_isr as usize)?;
        hold("I13", members.iter().all(|member| member.log.flushed >= to))
    }

    /// What must hold whatever has just happened.
    pub(crate) fn check(&self, controller: &Controller, brokers: &[&Broker]) -> Result<(), Broken> {
        for broker in brokers {
            self.check_log(&broker.log)?;
        }
        for (at, one) in brokers.iter().enumerate() {
            for other in brokers.iter().skip(at + 1) {
                let both = one.log.high_watermark.min(other.log.high_watermark);
                hold("I2", one.log.entries.get(..both) == other.log.entries.get(..both))?;
            }
        }
        if self.was_lied_to {
            return Ok(());
        }
        self.check_candidates(controller, brokers)?;
        self.check_leader(controller, brokers)
    }

    /// I7 and the order of positions, of one log.
    fn check_log(&self, log: &Log) -> Result<(), Broken> {
        hold("I6", log.high_watermark <= log.end() && log.flushed <= log.end())?;
        let pairs = log.entries.iter().zip(log.entries.iter().skip(1));
        hold("I7", pairs.clone().all(|(one, next)| one.0 <= next.0))?;
        let indexed = |(at, entry): (usize, &Entry)| {
            log.epochs.epoch_at(crate::log::offset(at)) == Some(entry.0)
        };
        hold("I7", log.entries.iter().enumerate().all(indexed))
    }

    /// I4: whoever may be elected has everything that is committed.
    fn check_candidates(&self, controller: &Controller, brokers: &[&Broker]) -> Result<(), Broken> {
        let (state, end) = (controller.partition(), self.committed.len());
        let candidates = state.isr.iter().chain(&state.elr);
        for member in candidates.filter_map(|id| find(brokers, *id)) {
            let is_on_disk = state.durability == Durability::Fsync;
            hold("I4", !is_on_disk || member.log.flushed >= end)?;
            if is_on_disk || member.process.is_some() {
                self.agrees("I4", &member.log, end)?;
            }
        }
        Ok(())
    }

    /// I3, I5, I6: the present leader has everything, waits for everybody who may follow it, and tells no older end.
    fn check_leader(&self, controller: &Controller, brokers: &[&Broker]) -> Result<(), Broken> {
        let (state, end) = (controller.partition(), self.committed.len());
        let Some(leader) = state.leader.and_then(|id| find(brokers, id)) else { return Ok(()) };
        let Some(role) = leader.as_leader().filter(|role| role.epoch() == state.leader_epoch)
        else {
            return Ok(());
        };
        self.agrees("I3", &leader.log, end)?;
        let maximal: Vec<_> = role.maximal_isr().collect();
        if role.partition().isr.len() >= role.partition().min_isr as usize {
            let mut candidates = state.isr.iter().chain(&state.elr);
            hold("I5", candidates.all(|id| maximal.contains(id)))?;
        }
        hold("I5", role.has_pending_proposal() || maximal == role.partition().isr)?;
        let replica = leader.process.as_ref().and_then(|process| process.replica.as_ref());
        let told = replica.and_then(thalweg_replication_core::Replica::true_high_watermark);
        hold("I6", told.is_none_or(|told| crate::log::index(told) >= end))
    }
}

fn find<'a>(brokers: &[&'a Broker], node: NodeId) -> Option<&'a Broker> {
    brokers.iter().copied().find(|broker| broker.node == node)
}
