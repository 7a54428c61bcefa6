//! Start, registration, heartbeats, controlled shutdown, death: R12 and R13.

use thalweg_invariants::{Mutant, mutant};
use thalweg_log_core::LogConfig;
use thalweg_metadata_core::{Endpoint, Image, NodeRole, RegisterNode};
use thalweg_replication_core::{AlterOutcome, ControllerLease, Fitness};
use thalweg_types::{BrokerEpoch, DirId, IncarnationId, LogIndex, NodeId, TopicIdPartition, Uuid};

use super::{Asked, Broker};
use crate::disk::DiskLog;
use crate::env::{Env, Event};
use crate::log::Log;
use crate::message::{Ask, FIRST_CONTROLLER, Message, Told};
use crate::network::MS;
use crate::quorum::{RETURN_MS, SESSION_MS};

const TICK: u64 = 300 * MS;

impl Broker {
    /// R13: reads the marker and removes it, recovers every log, then asks to be registered.
    pub(crate) fn start(&mut self, env: &mut Env) {
        if self.is_up {
            return;
        }
        self.is_up = true;
        self.life += 1;
        self.incarnation = IncarnationId(Uuid::from_random_bits(self.rng.bits_128()));
        self.session = None;
        self.image = Image::default();
        self.lease = ControllerLease::new(SESSION_MS, RETURN_MS);
        self.lease_is_valid = false;
        self.streams.clear();
        self.newest.clear();
        self.asked.clear();
        self.flushing = None;
        self.is_dirty = false;
        self.wants_shutdown = false;
        self.proof = self.disk.marker.take();
        if mutant!(Mutant::M24) {
            self.disk.removed_marker = self.proof;
        }
        if self.proof.is_some() && !self.has_ended_cleanly {
            let host = self.host;
            env.oracle.violated("D4", || {
                format!(
                    "broker {host} opens its logs unread, though its last life did not end cleanly"
                )
            });
        }
        let is_clean = std::mem::take(&mut self.has_ended_cleanly);
        self.recover_logs(env);
        let suspect = self.stray.iter().filter(|(_, (_, fitness))| *fitness != Fitness::Fit);
        env.oracle.begins(self.incarnation, is_clean, suspect.map(|(id, _)| *id));
        let (host, life) = (self.host, self.life);
        env.note(|| format!("broker {host} starts"));
        env.after(0, Event::BrokerTick { broker: host, life });
    }

    fn recover_logs(&mut self, env: &mut Env) {
        let (clean, now) = (self.proof.is_some(), self.wall(env));
        self.stray.clear();
        for (id, disk) in std::mem::take(&mut self.disk.logs) {
            let config = LogConfig { segment_bytes: 4_000, ..LogConfig::default() };
            let (log, fitness) = Log::recover(disk, clean, config, now);
            let host = self.host;
            if fitness == Fitness::Fit {
                env.oracle.check_producers(id, host, &log);
            } else {
                env.stats.suspects += 1;
            }
            env.note(|| format!("broker {host} recovers {id} to {} {fitness:?}", log.end()));
            self.stray.insert(id, (log, fitness));
        }
    }

    /// The process is gone; what it wrote is in the page cache.
    pub(crate) fn crash(&mut self, env: &mut Env) {
        if !self.is_up {
            return;
        }
        self.is_up = false;
        let parts = std::mem::take(&mut self.parts).into_iter();
        self.disk.logs.extend(parts.map(|(id, part)| (id, part.log.disk)));
        let stray = std::mem::take(&mut self.stray).into_iter();
        self.disk.logs.extend(stray.map(|(id, (log, _))| (id, log.disk)));
        env.break_streams_of(self.host);
        self.holds.process_ends(env, self.host);
    }

    pub(crate) fn lose_power(&mut self, env: &mut Env) {
        self.crash(env);
        env.stats.power_losses += 1;
        if let Some(marker) = self.disk.removed_marker.take() {
            self.disk.marker = Some(marker);
        }
        for log in self.disk.logs.values_mut() {
            env.stats.batches_lost_unflushed += log.lose_power(&mut env.disk_rng) as u64;
        }
    }

    /// The disk is replaced by an empty one.
    pub(crate) fn wipe(&mut self, env: &mut Env) {
        self.crash(env);
        self.disk.logs.clear();
        self.disk.marker = None;
        self.disk.removed_marker = None;
        if !mutant!(Mutant::M25) {
            self.disk.dir_id = DirId(Uuid::from_random_bits(self.rng.bits_128()));
            self.disk.node = None;
            self.disk.cluster = None;
        }
    }

    /// R12: asks the controller to take everything away; goes when it may.
    pub(crate) fn shut_down(&mut self) {
        self.wants_shutdown = self.is_up;
        for part in self.parts.values_mut() {
            part.replica.handle_shutdown();
        }
    }

    /// A replica's files, running or not.
    pub(crate) fn log_mut(&mut self, id: TopicIdPartition) -> Option<&mut DiskLog> {
        match self.parts.get_mut(&id) {
            Some(part) => Some(&mut part.log.disk),
            None => match self.stray.get_mut(&id) {
                Some((log, _)) => Some(&mut log.disk),
                None => self.disk.logs.get_mut(&id),
            },
        }
    }

    pub(crate) fn handle_tick(&mut self, env: &mut Env) {
        let (broker, life) = (self.host, self.life);
        env.after(TICK, Event::BrokerTick { broker, life });
        self.refresh_lease(env);
        let now = self.moment(env);
        self.asked.retain(|_, asked| match asked {
            Asked::Heartbeat { sent_at } => now.ms_since(*sent_at) < 2 * SESSION_MS,
            _ => true,
        });
        let applied = self.image.position().index;
        let watched = if self.rng.chance(700) { self.controller } else { self.rng.index(3) };
        let id = env.fresh_id();
        let message = Message::Ask { life, id, ask: Ask::Watch { applied } };
        env.send(broker, FIRST_CONTROLLER + watched, message);
        match self.session {
            None => self.register(env),
            Some((node, epoch)) => {
                if !self.lease_is_valid {
                    self.try_another_controller();
                }
                self.beat(env, (node, epoch));
                self.hold_session(env, (node, epoch));
            }
        }
        self.retain(env);
    }

    pub(super) fn beat(&mut self, env: &mut Env, (node, epoch): (NodeId, BrokerEpoch)) {
        let (applied, want_shutdown) = (self.image.position().index, self.wants_shutdown);
        let ask = Ask::Heartbeat { node, epoch, applied, want_shutdown };
        let sent_at = self.moment(env);
        self.ask(env, Asked::Heartbeat { sent_at }, ask);
    }

    fn register(&mut self, env: &mut Env) {
        let suspect = self.stray.iter().filter(|(_, (_, fitness))| *fitness != Fitness::Fit);
        let port = u16::try_from(self.host + 1).unwrap_or(u16::MAX);
        let request = RegisterNode {
            role: NodeRole::Broker,
            dir_id: self.disk.dir_id,
            incarnation: self.incarnation,
            cluster_id: self.disk.cluster,
            node_id: self.disk.node,
            previous_broker_epoch: self.proof,
            endpoints: vec![Endpoint {
                listener: Endpoint::INTERNAL.to_owned(),
                host: "sim".to_owned(),
                port,
            }],
            rack: None,
            suspect: suspect.map(|(id, _)| *id).collect(),
        };
        self.asked.retain(|_, asked| !matches!(asked, Asked::Register));
        self.ask(env, Asked::Register, Ask::Register(Box::new(request)));
        if self.rng.chance(500) {
            self.try_another_controller();
        }
    }

    pub(super) fn refresh_lease(&mut self, env: &Env) {
        let is_valid = self.lease.is_valid(self.moment(env));
        if is_valid != self.lease_is_valid {
            self.lease_is_valid = is_valid;
            for part in self.parts.values_mut() {
                part.replica.handle_lease(is_valid);
            }
        }
    }

    pub(crate) fn handle_told(&mut self, env: &mut Env, id: u64, told: Told) {
        let Some(asked) = self.asked.remove(&id) else { return };
        match (asked, told) {
            (Asked::Register, Told::Registered { node, epoch }) if self.session.is_none() => {
                self.session = Some((node, epoch));
                self.disk.node = Some(node);
                let host = self.host;
                env.note(|| format!("broker {host} is node {node} in {epoch}"));
                self.registered(env);
            }
            (Asked::Heartbeat { sent_at }, Told::Heartbeat { fenced, may_shut_down }) => {
                if may_shut_down && self.wants_shutdown {
                    self.stop_cleanly(env);
                } else if !fenced {
                    self.lease.confirm(sent_at);
                    self.refresh_lease(env);
                }
            }
            (Asked::Hold { hold }, Told::Done) => self.handle_held(env, hold),
            // The heartbeat beside it is refused as well, and turns to another controller.
            (Asked::Hold { .. }, _) => {}
            (Asked::Alter { partition, epoch, attempt }, told) => {
                let outcome = match told {
                    Told::Altered(outcome) => *outcome,
                    Told::Refused(code) => AlterOutcome::Refused(code),
                    _ => AlterOutcome::Lost,
                };
                if matches!(told_code(&outcome), Some(thalweg_types::ErrorCode::NotController)) {
                    self.try_another_controller();
                }
                self.alter_ended(env, partition, (epoch, attempt), &outcome);
            }
            (
                Asked::Heartbeat { .. },
                Told::Refused(thalweg_types::ErrorCode::StaleBrokerEpoch),
            ) => {
                // Somebody registered in this disk's name: an answer of ours was lost. Begin again.
                self.crash(env);
                env.after(200 * MS, Event::StartBroker { broker: self.host });
            }
            (_, Told::Refused(_)) => self.try_another_controller(),
            _ => {}
        }
    }

    /// R12: everything is flushed, then the marker says so.
    fn stop_cleanly(&mut self, env: &mut Env) {
        let captured = env.writes;
        for part in self.parts.values_mut() {
            part.log.flushed(captured, false);
        }
        self.disk.marker = self.session.map(|(_, epoch)| epoch);
        self.disk.removed_marker = None;
        self.has_ended_cleanly = true;
        let host = self.host;
        env.note(|| format!("broker {host} stops"));
        self.crash(env);
        let delay = self.rng.between(100 * MS, 3_000 * MS);
        env.after(delay, Event::StartBroker { broker: host });
    }

    /// The last metadata entry it must have applied before it does anything.
    pub(super) fn is_ready(&self) -> bool {
        let registered = self.session.and_then(|(_, epoch)| u64::try_from(epoch.0).ok());
        registered.is_some_and(|at| self.image.position().index >= LogIndex(at))
    }
}

fn told_code(outcome: &AlterOutcome) -> Option<thalweg_types::ErrorCode> {
    match outcome {
        AlterOutcome::Refused(code) => Some(*code),
        _ => None,
    }
}
