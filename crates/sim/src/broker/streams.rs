//! Streams between followers and leaders: what comes on them, and what follows when they break.

use thalweg_replication_core::{BatchSpan, Push, Role, Verdict};
use thalweg_types::TopicIdPartition;

use super::Broker;
use crate::disk::Batch;
use crate::env::Env;
use crate::message::{Host, OwnedPush, StreamMessage};

impl Broker {
    pub(crate) fn handle_stream(
        &mut self,
        env: &mut Env,
        from: Host,
        connection: u64,
        message: StreamMessage,
    ) {
        match message {
            StreamMessage::Handshake(id, handshake) => {
                let newest = self.newest.entry(from).or_default();
                if connection < *newest {
                    return;
                }
                *newest = connection;
                // The connection is authenticated: the caller is whom its host's disk says.
                let answer = self.with(env, id, |broker, env, part| {
                    let now = broker.moment(env);
                    let (node, view) = (handshake.node, part.log.view());
                    let answer = part.replica.handle_handshake(node, &handshake, view, now);
                    if let Verdict::Accepted { session, .. } = answer.verdict {
                        part.sessions.retain(|(other, _), _| *other != node);
                        part.sessions.insert((node, session), connection);
                    }
                    let message = StreamMessage::Answer(id, answer);
                    env.stream(broker.host, connection, message);
                });
                if answer.is_none() {
                    env.break_stream(connection);
                }
            }
            StreamMessage::Report(id, report) => {
                if self.newest.get(&from) != Some(&connection) {
                    return;
                }
                self.with(env, id, |broker, env, part| {
                    let now = broker.moment(env);
                    let sessions = &part.sessions;
                    let node = sessions.iter().find(|(_, known)| **known == connection);
                    let Some(((node, _), _)) = node else { return };
                    let _ = part.replica.handle_report(*node, &report, now);
                });
            }
            StreamMessage::Answer(id, answer) => {
                if self.streams.get(&from) == Some(&connection) {
                    self.with(env, id, |broker, env, part| {
                        let now = broker.moment(env);
                        part.replica.handle_answer(&answer, part.log.view(), now);
                    });
                }
            }
            StreamMessage::Push(id, push) => {
                if self.streams.get(&from) == Some(&connection) {
                    self.handle_push(env, id, connection, &push);
                }
            }
        }
    }

    fn handle_push(
        &mut self,
        env: &mut Env,
        id: TopicIdPartition,
        connection: u64,
        push: &OwnedPush,
    ) {
        if self.faults.disk_full && !push.batches.is_empty() {
            env.break_stream(connection);
            return;
        }
        let has_written = self.with(env, id, |broker, env, part| {
            let now = broker.moment(env);
            let spans: Vec<_> = push.batches.iter().map(span).collect();
            let checked = Push {
                session: push.session,
                leader_epoch: push.leader_epoch,
                batches: &spans,
                high_watermark: push.high_watermark,
                log_start: push.log_start,
                log_end: push.log_end,
            };
            // D2: what comes from a peer is verified before it is looked at.
            let is_intact = push.batches.iter().all(Batch::is_intact);
            if !is_intact || part.replica.handle_push(&checked, 1 << 20, now).is_err() {
                return false;
            }
            for batch in &push.batches {
                env.writes += 1;
                let (written, wall) = (env.writes, broker.wall(env));
                if let Err(error) = part.log.append_replicated(*batch, written, wall) {
                    let host = broker.host;
                    env.oracle.violated("I8", || format!("{id}: broker {host}: {error}"));
                    return false;
                }
            }
            part.replica.handle_local(part.log.view(), now);
            !push.batches.is_empty()
        });
        if has_written == Some(true) {
            self.start_flush(env);
        }
    }

    pub(crate) fn handle_stream_broken(&mut self, env: &mut Env, connection: u64) {
        let leader = self.streams.iter().find(|(_, known)| **known == connection);
        let leader = leader.map(|(leader, _)| *leader);
        if let Some(leader) = leader {
            self.streams.remove(&leader);
        }
        let ids: Vec<_> = self.parts.keys().copied().collect();
        for id in ids {
            self.with(env, id, |broker, env, part| {
                let now = broker.moment(env);
                let followed = match part.replica.role() {
                    Role::Follower(follower) => broker.host_of(follower.leader()),
                    _ => None,
                };
                if leader.is_some() && followed == leader {
                    part.replica.handle_leader_gone(now);
                }
                let gone = part.sessions.iter().filter(|(_, known)| **known == connection);
                let gone: Vec<_> = gone.map(|(session, _)| *session).collect();
                for (node, session) in gone {
                    part.sessions.remove(&(node, session));
                    part.replica.handle_follower_gone(node, session);
                }
            });
        }
    }
}

fn span(batch: &Batch) -> BatchSpan {
    BatchSpan {
        base_offset: batch.base(),
        end_offset: batch.end(),
        leader_epoch: batch.header.leader_epoch,
        size_bytes: batch.header.size_bytes(),
    }
}
