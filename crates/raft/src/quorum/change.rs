//! Who votes: looking at it, adding and removing a voter, handing over the lead.
//!
//! A new member first follows as a learner, and votes only when it has nearly everything; so an empty disk never counts for a majority.
//! One change at a time, and none that would leave the quorum without a majority of voters that answer.

use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use thalweg_types::{DirId, LogIndex, NodeId};

use super::engine::Change;
use super::form::{Answer, IDENTIFY_TIME_MAX};
use super::{Leadership, Quorum, node_id_of};
use crate::network::Member;

/// How long a learner may take until it is a voter. It stays a learner after that, and a second try goes on from there.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(60);

/// Entries a learner may be behind when it is made a voter: a flush or two.
const LAG_ENTRIES_MAX: u64 = 64;

/// How often the learner's progress is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long the next leader may take, in election timeouts.
const TRANSFER_TIMEOUTS: u32 = 4;

/// A change of the membership, or of the lead, did not happen, or it is not known whether it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("this node does not lead the quorum{}", leader.map(|node| format!("; node {node} does")).unwrap_or_default())]
    NotLeader { leader: Option<NodeId> },
    #[error("another change of the membership is under way")]
    UnderWay,
    #[error("the quorum would be without a majority: {cause}")]
    WouldLoseQuorum { cause: String },
    #[error("node {node_id} is not a member of the quorum")]
    Unknown { node_id: u64 },
    #[error("node {node_id} is a voter already")]
    AlreadyVoter { node_id: u64 },
    #[error(
        "node {node_id} is a member with the disk {known}, but at that address its disk is {found}: an id is never used again with another \
         disk. Remove the old voter and add the new one under an id that was never used"
    )]
    AnotherDisk { node_id: u64, known: DirId, found: DirId },
    #[error("node {found} answers at {endpoint}, not node {expected}")]
    AnotherNode { endpoint: String, expected: u64, found: u64 },
    #[error("the node at {endpoint} has been a member of another quorum")]
    AnotherQuorum { endpoint: String },
    #[error("nobody answers at {endpoint}: {cause}")]
    Unreachable { endpoint: String, cause: String },
    #[error(
        "node {node_id} did not catch up in time; it follows as a learner, and adding it again goes on from there"
    )]
    NotCaughtUp { node_id: u64 },
    #[error("the change was refused: {cause}")]
    Refused { cause: String },
    #[error("it is not known whether the change happens: {cause}")]
    OutcomeUnknown { cause: String },
}

/// The quorum as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumState {
    /// The highest term this member has heard of.
    pub term: u64,
    pub leader: Option<NodeId>,
    /// Of that leader; absent while none of its entries is applied here.
    pub epoch: Option<LogIndex>,
    /// Last entry in this member's log.
    pub last: Option<LogIndex>,
    pub committed: Option<LogIndex>,
    pub applied: Option<LogIndex>,
    /// In order of node id, voters and learners.
    pub members: Vec<MemberState>,
}

/// One member. What it has and when it was heard of is known to the leader only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    pub member: Member,
    pub is_voter: bool,
    /// Last entry known to be on its disk.
    pub matched: Option<LogIndex>,
    /// Since it last answered.
    pub last_heard: Option<Duration>,
}

impl Quorum {
    pub fn describe(&self) -> QuorumState {
        let metrics = self.metrics.borrow_watched();
        let index = |id: Option<crate::types::LogId>| id.map(|id| LogIndex(id.index));
        let membership = metrics.membership_config.membership();
        let members = membership.nodes().map(|(id, peer)| {
            let is_own = *id == self.own.node_id;
            let matched = match metrics.replication.as_ref() {
                Some(_) if is_own => metrics.last_log_index.map(LogIndex),
                Some(progress) => index(progress.get(id).copied().flatten()),
                None => None,
            };
            let heard =
                metrics.heartbeat.as_ref().and_then(|heard| heard.get(id).copied().flatten());
            MemberState {
                member: Member { node_id: *id, peer: peer.clone() },
                is_voter: membership.voter_ids().any(|voter| voter == *id),
                matched,
                last_heard: match is_own {
                    true => Some(Duration::ZERO),
                    false => heard.map(|at| at.into_inner().elapsed()),
                },
            }
        });
        QuorumState {
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader.and_then(node_id_of),
            epoch: self.progress.epoch_of(metrics.vote.leader_id),
            last: metrics.last_log_index.map(LogIndex),
            committed: index(metrics.local_committed),
            applied: index(metrics.last_applied),
            members: members.collect(),
        }
    }

    /// Makes the node at `endpoint` a voter, once it has caught up. It must be `node_id`.
    pub async fn add_voter(&self, node_id: u64, endpoint: &str) -> Result<(), ChangeError> {
        let _alone = self.begin_change()?;
        let asked = self.engine.identify(endpoint, IDENTIFY_TIME_MAX).await;
        let answer = asked.and_then(|answer| Answer::read(endpoint, answer)).map_err(|error| {
            ChangeError::Unreachable { endpoint: endpoint.to_owned(), cause: error.to_string() }
        })?;
        let state = self.describe();
        check_new_voter(&state, node_id, &answer)?;
        self.check_majority(&state, |voters| voters.push(true))?;
        if !state.members.iter().any(|known| known.member.node_id == node_id) {
            self.engine.change(Change::AddLearner(answer.member)).await?;
        }
        self.wait_until_caught_up(node_id).await?;
        self.engine.change(Change::Promote(node_id)).await
    }

    /// Takes a member out: a voter, or a learner that never became one.
    pub async fn remove_voter(&self, node_id: u64) -> Result<(), ChangeError> {
        let _alone = self.begin_change()?;
        let state = self.describe();
        let known = state.members.iter().position(|known| known.member.node_id == node_id);
        let known = known.ok_or(ChangeError::Unknown { node_id })?;
        if state.members[known].is_voter {
            let without = QuorumState {
                members: state
                    .members
                    .iter()
                    .filter(|known| known.member.node_id != node_id)
                    .cloned()
                    .collect(),
                ..state
            };
            self.check_majority(&without, |_| {})?;
        }
        self.engine.change(Change::Remove(node_id)).await
    }

    /// Hands the lead over, and returns when this member does not lead any more.
    pub async fn transfer_leadership(&self, target: u64) -> Result<(), ChangeError> {
        let _alone = self.begin_change()?;
        let state = self.describe();
        let is_voter = |known: &MemberState| known.is_voter && known.member.node_id == target;
        if !state.members.iter().any(is_voter) {
            return Err(ChangeError::Unknown { node_id: target });
        }
        if target == self.own.node_id {
            return Ok(());
        }
        self.engine.transfer_leadership(target).await?;
        let mut leadership = self.leadership();
        let gone = leadership.wait_for(|now| !matches!(now, Leadership::Leading { .. }));
        match tokio::time::timeout(self.election_timeout * TRANSFER_TIMEOUTS, gone).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let cause = format!("node {target} has not taken the lead yet");
                Err(ChangeError::OutcomeUnknown { cause })
            }
        }
    }

    /// Tells the quorum where this leader is reached, if it knows it by another address.
    pub async fn announce_endpoint(&self) -> Result<(), ChangeError> {
        let own = &self.own;
        let known = self.describe().members.into_iter().map(|known| known.member);
        match known.into_iter().find(|known| known.node_id == own.node_id) {
            Some(known) if known.peer.dir_id == own.peer.dir_id && known != *own => {
                self.engine.change(Change::Move(own.clone())).await
            }
            _ => Ok(()),
        }
    }

    fn begin_change(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ChangeError> {
        match *self.leadership.borrow() {
            Leadership::Leading { .. } => {}
            Leadership::Following { leader } => {
                return Err(ChangeError::NotLeader { leader: Some(leader) });
            }
            Leadership::Undecided | Leadership::Stopped => {
                return Err(ChangeError::NotLeader { leader: None });
            }
        }
        self.changing.try_acquire().map_err(|_| ChangeError::UnderWay)
    }

    /// Whether the voters, changed by `change`, would have a majority that answers. Each voter is `true` if it does.
    fn check_majority(
        &self,
        state: &QuorumState,
        change: impl FnOnce(&mut Vec<bool>),
    ) -> Result<(), ChangeError> {
        let answers =
            |heard: Option<Duration>| heard.is_some_and(|at| at < self.election_timeout * 2);
        let voters = state.members.iter().filter(|known| known.is_voter);
        let mut voters: Vec<bool> = voters.map(|known| answers(known.last_heard)).collect();
        change(&mut voters);
        let answering_count = voters.iter().filter(|answers| **answers).count();
        if answering_count * 2 > voters.len() {
            Ok(())
        } else {
            let cause = format!("{answering_count} of {} voters would answer", voters.len());
            Err(ChangeError::WouldLoseQuorum { cause })
        }
    }

    async fn wait_until_caught_up(&self, node_id: u64) -> Result<(), ChangeError> {
        let near = async {
            loop {
                let state = self.describe();
                if !matches!(*self.leadership.borrow(), Leadership::Leading { .. }) {
                    return Err(ChangeError::NotLeader { leader: state.leader });
                }
                let learner = state.members.iter().find(|known| known.member.node_id == node_id);
                let matched = learner.and_then(|learner| learner.matched);
                let last = state.last.unwrap_or(LogIndex::ZERO);
                if matched.is_some_and(|matched| matched.0 + LAG_ENTRIES_MAX >= last.0) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(CATCH_UP_TIME_MAX, near).await;
        waited.unwrap_or(Err(ChangeError::NotCaughtUp { node_id }))
    }
}

/// Whether whoever answered may become a voter.
fn check_new_voter(state: &QuorumState, node_id: u64, answer: &Answer) -> Result<(), ChangeError> {
    let (endpoint, found) = (&answer.endpoint, &answer.member);
    if found.node_id != node_id {
        return Err(ChangeError::AnotherNode {
            endpoint: endpoint.clone(),
            expected: node_id,
            found: found.node_id,
        });
    }
    if i32::try_from(node_id).is_err() {
        return Err(ChangeError::Refused { cause: format!("node id {node_id} is too large") });
    }
    if found.peer.dir_id.is_zero() {
        return Err(ChangeError::Refused { cause: "its disk has no identity".to_owned() });
    }
    if let Some(known) = state.members.iter().find(|known| known.member.node_id == node_id) {
        if known.member.peer.dir_id != found.peer.dir_id {
            return Err(ChangeError::AnotherDisk {
                node_id,
                known: known.member.peer.dir_id,
                found: found.peer.dir_id,
            });
        }
        return match known.is_voter {
            true => Err(ChangeError::AlreadyVoter { node_id }),
            false => Ok(()),
        };
    }
    let is_one_of_us = |theirs: &Member| {
        let known = state.members.iter().map(|known| &known.member);
        known
            .into_iter()
            .any(|known| known.node_id == theirs.node_id && known.peer.dir_id == theirs.peer.dir_id)
    };
    if answer.initialised && !answer.members.iter().any(is_one_of_us) {
        return Err(ChangeError::AnotherQuorum { endpoint: endpoint.clone() });
    }
    Ok(())
}
