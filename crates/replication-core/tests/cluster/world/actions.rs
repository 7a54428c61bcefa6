//! What follows from an input: the driver's part, and the oracle's look at it.

use thalweg_replication_core::Action;

use super::{Sent, World};
use crate::cluster::broker::Broker;
use crate::cluster::log::{index, offset};
use crate::cluster::network::{Body, Message};

impl World {
    pub(super) fn execute(&mut self, at: usize) {
        loop {
            let Some(action) = self.brokers[at].replica().and_then(|replica| replica.poll_action())
            else {
                return;
            };
            self.carry_out(at, action);
        }
    }

    pub(super) fn carry_out(&mut self, at: usize, action: Action) {
        let broker = &mut self.brokers[at];
        let node = broker.node;
        // Whoever goes on in an epoch before an unclean election does so with what was given up.
        let marked = self.controller.partition().unclean_epoch;
        let epoch = broker.replica().map(|replica| replica.epoch());
        let is_given_up = marked.is_some() && epoch < marked;
        match action {
            Action::BeginEpoch(epoch) => {
                self.oracle.begins(node, epoch);
                let end = offset(broker.log.end());
                broker.log.epochs.assign(epoch, end);
                if marked == Some(epoch) {
                    // Some of what was given up may be committed again: the chosen one knew of it.
                    let known = broker.as_leader().expect("it begins").high_watermark();
                    self.oracle.commits(node, &broker.log, index(known));
                }
            }
            Action::Commit(to) => {
                broker.log.high_watermark = index(to);
                if !is_given_up {
                    self.oracle.commits(node, &broker.log, index(to));
                }
                let epoch = broker.as_leader().map(thalweg_replication_core::Leader::epoch);
                if epoch == Some(self.controller.partition().leader_epoch) {
                    self.oracle.is_flushed_everywhere(&self.brokers, node, index(to));
                }
            }
            Action::FollowHighWatermark(to) => {
                broker.log.high_watermark = index(to);
                if !is_given_up {
                    self.oracle.follows(node, &broker.log, index(to));
                }
            }
            Action::MoveLogStart(to) => broker.log.move_start(index(to)),
            Action::Truncate { to, unclean } => {
                let to = index(to);
                assert!(to >= broker.log.start, "I12: {node} cuts below its start");
                let keeps_committed = to >= broker.log.high_watermark && !unclean;
                assert!(keeps_committed || marked.is_some(), "I12: {node} cuts to {to}");
                broker.log.cut(to);
                self.cut_is_done(at);
            }
            Action::Restart { at: start } => {
                broker.log.begin_anew(index(start));
                self.cut_is_done(at);
            }
            Action::Handshake { leader, handshake } => {
                let body = Body::Handshake(handshake);
                self.network.send(Message { from: node, to: leader, process: None, body });
            }
            Action::Propose(proposal) => self.proposals.push(Sent {
                leader: node,
                broker_epoch: proposal.broker_epoch,
                attempt: (proposal.leader_epoch, proposal.attempt),
                is_forgotten: false,
                what: proposal,
            }),
            Action::Halt(halt) => panic!("I12: {node} would lose what is committed: {halt:?}"),
            Action::ReportUnfit(_) => {
                let epoch = broker.process.as_ref().expect("it acts").broker_epoch;
                self.controller.unfit(node, epoch);
            }
            Action::FailWaiting(_) => {}
        }
    }

    pub(super) fn cut_is_done(&mut self, at: usize) {
        let Broker { log, process, .. } = &mut self.brokers[at];
        let replica = process.as_mut().and_then(|process| process.replica.as_mut());
        if let Some(replica) = replica {
            replica.handle_cut(log.view(), self.now);
        }
    }
}
