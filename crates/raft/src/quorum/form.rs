//! How a quorum of several begins, and how a member finds the one it belongs to.
//!
//! A quorum is made once. The voter with the lowest id makes it, and only after every voter of the list has said, with the identity of
//! its disk, that this disk has never held a vote or an entry: a voter whose disk was wiped meets others that remember, and can never make
//! a second cluster beside the first. Everybody else waits until an entry of the log arrives.

use std::time::Duration;

use futures_util::future::join_all;
use thalweg_proto::internal::raft::v1 as proto;

use super::Quorum;
use crate::codec::peer_from_proto;
use crate::error::StartError;
use crate::network::{Member, TransportError};

/// How long one voter may take to say who it is, and how long to wait before all are asked again.
pub(super) const IDENTIFY_TIME_MAX: Duration = Duration::from_secs(1);
const ASK_INTERVAL: Duration = Duration::from_millis(200);

/// One of the first voters, as the settings name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    pub node_id: u64,
    /// `host:port`
    pub endpoint: String,
}

/// What a voter has said about itself.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) endpoint: String,
    pub(super) member: Member,
    pub(super) initialised: bool,
    /// As it knows the membership.
    pub(super) members: Vec<Member>,
}

impl Quorum {
    /// Returns when this member's disk holds a part of the quorum's log or a vote; makes the quorum if that is for this member to do.
    /// Refuses when the quorum knows this member with another disk. Waits as long as it takes; drop the future to stop.
    pub async fn form(&self, first_voters: &[Voter]) -> Result<(), StartError> {
        let mut waiting_told = false;
        loop {
            let answers = self.ask_all(first_voters).await;
            for answer in &answers {
                self.check_answer(answer)?;
            }
            if self.engine.is_initialised().await? {
                return Ok(());
            }
            if let Some(voters) = self.voters_to_begin_with(first_voters, &answers) {
                tracing::info!(
                    voter_count = voters.len(),
                    "no voter has been one before: making a new quorum"
                );
                self.engine.initialise(voters).await?;
                return Ok(());
            }
            if !waiting_told && answers.iter().any(|answer| answer.initialised) {
                waiting_told = true;
                tracing::info!("there is a quorum; waiting to be made a member of it");
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    async fn ask_all(&self, voters: &[Voter]) -> Vec<Answer> {
        let others = voters.iter().filter(|voter| voter.node_id != self.own.node_id);
        let asked = others.map(|voter| async move {
            let asked = self.engine.identify(&voter.endpoint, IDENTIFY_TIME_MAX);
            let answer = asked.await.and_then(|answer| Answer::read(&voter.endpoint, answer));
            match answer {
                Ok(answer) => Some(answer),
                Err(error) => {
                    tracing::debug!(voter = voter.node_id, %error, "no answer");
                    None
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn check_answer(&self, answer: &Answer) -> Result<(), StartError> {
        let own = &self.own;
        match answer.members.iter().find(|member| member.node_id == own.node_id) {
            Some(known) if known.peer.dir_id != own.peer.dir_id => Err(StartError::AnotherDisk {
                node_id: own.node_id,
                known: known.peer.dir_id,
                found: own.peer.dir_id,
                told_by: format!("node {} at {}", answer.member.node_id, answer.endpoint),
            }),
            _ => Ok(()),
        }
    }

    /// All first voters with their disks, if it is for this member to make the quorum, now.
    fn voters_to_begin_with(&self, first: &[Voter], answers: &[Answer]) -> Option<Vec<Member>> {
        let lowest = first.iter().map(|voter| voter.node_id).min()?;
        if lowest != self.own.node_id {
            return None;
        }
        let voters = first.iter().map(|voter| {
            if voter.node_id == self.own.node_id {
                return Some(self.own.clone());
            }
            let answer = answers.iter().find(|answer| answer.endpoint == voter.endpoint)?;
            if answer.member.node_id != voter.node_id {
                tracing::error!(
                    endpoint = answer.endpoint,
                    listed = voter.node_id,
                    found = answer.member.node_id,
                    "another controller answers there than the list of voters says"
                );
                return None;
            }
            let peer = crate::types::Peer {
                endpoint: voter.endpoint.clone(),
                ..answer.member.peer.clone()
            };
            (!answer.initialised && !peer.dir_id.is_zero())
                .then_some(Member { node_id: voter.node_id, peer })
        });
        voters.collect()
    }
}

impl Answer {
    pub(super) fn read(
        endpoint: &str,
        answer: proto::IdentifyResponse,
    ) -> Result<Self, TransportError> {
        let failed = |error: &dyn std::fmt::Display| TransportError::Failed(error.to_string());
        let read = |peer: &proto::Peer| {
            let (node_id, peer) = peer_from_proto(peer).map_err(|error| failed(&error))?;
            Ok(Member { node_id, peer })
        };
        let own = proto::Peer {
            node_id: answer.node_id,
            dir_id: answer.dir_id,
            endpoint: endpoint.to_owned(),
        };
        let members = answer.membership.unwrap_or_default().peers;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            member: read(&own)?,
            initialised: answer.initialised,
            members: members.iter().map(read).collect::<Result<_, _>>()?,
        })
    }
}
