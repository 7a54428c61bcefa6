//! What follows from a step: the actions of the replicas, and what they send while there is room.

use thalweg_replication_core::Action;
use thalweg_types::{BrokerEpoch, Moment, NodeId};

use super::State;
use crate::broker::Broker;
use crate::log::{index, offset};
use crate::network::{Ask, Body};
use crate::oracle::Broken;
use crate::scope::Scope;

/// Messages under way in one direction, beyond which nothing is pushed or reported.
const UNDER_WAY_MAX: usize = 1;

impl State {
    /// Executes the actions of a replica in order, and sends what there is to send while there is room.
    pub(super) fn settle(&mut self, at: usize, scope: &Scope) {
        loop {
            while let Some(action) = self.brokers[at].edit(|broker| broker.replica()?.poll_action())
            {
                if let Err(broken) = self.execute(at, action, scope) {
                    self.broken = self.broken.or(Some(broken));
                    return;
                }
            }
            if !self.pump(at, scope) {
                return;
            }
        }
    }

    /// Sends what there is room for. Says whether anything was sent.
    fn pump(&mut self, at: usize, scope: &Scope) -> bool {
        let node = self.brokers[at].node;
        let mut sent = false;
        for to in [NodeId(1), NodeId(2), NodeId(3)] {
            let leads = self.brokers[at].as_leader().is_some();
            let follows = self.brokers[at].leader() == Some(to);
            if to == node || !(leads || follows) || self.network.count(node, to) >= UNDER_WAY_MAX {
                continue;
            }
            let body = self.brokers[at].edit(|broker| {
                if leads {
                    broker.push(to)
                } else {
                    broker.replica()?.take_report().map(Body::Report)
                }
            });
            match body {
                Some(body @ Body::Report(_)) => self.send_back(node, to, body, scope),
                Some(body) => self.network.edit(|network| network.send(node, to, body)),
                None => continue,
            }
            sent = true;
        }
        sent
    }

    fn execute(&mut self, at: usize, action: Action, scope: &Scope) -> Result<(), Broken> {
        let (node, now) = (self.brokers[at].node, self.now());
        match action {
            Action::BeginEpoch(epoch) => {
                let process = self.brokers[at].process.as_ref();
                let leader = (node, process.map_or(BrokerEpoch::NONE, |p| p.broker_epoch));
                self.oracle.edit(|oracle| oracle.begins(leader, epoch))?;
                self.brokers[at].edit(|broker| {
                    broker.log.epochs.assign(epoch, offset(broker.log.end()));
                    if let Some(process) = &mut broker.process {
                        process.sessions.clear();
                    }
                });
            }
            Action::Commit(to) => {
                let log = &self.brokers[at].log;
                self.oracle.edit(|oracle| oracle.commits(log, index(to), scope.durability))?;
                self.brokers[at].edit(|broker| broker.log.high_watermark = index(to));
                let leader = (&*self.brokers[at], index(to));
                self.oracle.is_safe(&self.controller, &self.brokers(), leader)?;
            }
            Action::FollowHighWatermark(to) => {
                self.oracle.follows(&self.brokers[at].log, index(to))?;
                self.brokers[at].edit(|broker| broker.log.high_watermark = index(to));
            }
            Action::Truncate { to, .. } => {
                // Nobody is elected uncleanly here, so nobody may cut what it knows to be committed.
                let keeps_committed = index(to) >= self.brokers[at].log.high_watermark;
                self.cut(at, index(to), now);
                return if keeps_committed { Ok(()) } else { Err("I12") };
            }
            Action::Restart { at: start } => {
                let keeps_committed = self.brokers[at].log.high_watermark == 0;
                self.cut(at, 0, now);
                return if keeps_committed && start.0 == 0 { Ok(()) } else { Err("I12") };
            }
            Action::Handshake { leader, handshake } => {
                let body = Body::Handshake(handshake);
                self.network.edit(|network| network.send(node, leader, body));
            }
            Action::Propose(proposal) => {
                let broker_epoch = proposal.broker_epoch;
                let (given_up, outcome) = (false, None);
                let ask = Ask { leader: node, broker_epoch, proposal, given_up, outcome };
                self.network.edit(|network| network.asks.push(ask));
            }
            // With an honest disk nobody is ever asked to give up what is committed.
            Action::Halt(_) => return if self.oracle.was_lied_to { Ok(()) } else { Err("I12") },
            Action::MoveLogStart(_) | Action::ReportUnfit(_) => return Err("unexpected"),
            Action::FailWaiting(_) => {}
        }
        Ok(())
    }

    fn cut(&mut self, at: usize, to: usize, now: Moment) {
        self.brokers[at].edit(|broker| {
            broker.log.cut(to);
            let Broker { log, process, .. } = broker;
            if let Some(replica) = process.as_mut().and_then(|process| process.replica.as_mut()) {
                replica.handle_cut(log.view(), now);
            }
        });
    }
}
