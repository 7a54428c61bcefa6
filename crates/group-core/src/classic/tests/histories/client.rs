//! A client as it is in histories: it does what the protocol says, as far as it knows.

use bytes::Bytes;

use thalweg_types::{ErrorCode, GenerationId, InstanceId, MemberId};

use crate::request::{Heartbeat, Join, Leave, LeavingMember, Sync};
use crate::response::Joined;
use crate::testing::{GROUP, commit, join, sync};
use crate::{Request, Response};

/// Partitions that are shared; each is a byte in a share.
pub(super) const PARTITIONS: u8 = 7;

#[derive(Debug)]
pub(super) struct Actor {
    instance: Option<InstanceId>,
    /// Rises with every restart: answers to a former life are not heard.
    pub(super) life: u32,
    id: MemberId,
    pub(super) generation: i32,
    phase: Phase,
    waits: bool,
    pub(super) share: Vec<u8>,
}

#[derive(Debug)]
enum Phase {
    Out,
    /// Told of a generation; fetches its share next.
    Joined(Box<Joined>),
    In,
}

impl Actor {
    pub(super) fn new(number: usize, is_static: bool) -> Self {
        Self {
            instance: is_static.then(|| format!("static-{number}").into()),
            life: 0,
            id: MemberId::default(),
            generation: -1,
            phase: Phase::Out,
            waits: false,
            share: Vec::new(),
        }
    }

    pub(super) fn is_in(&self) -> bool {
        matches!(self.phase, Phase::In)
    }

    /// Dies, and is there again: knows nothing but its configuration.
    pub(super) fn restart(&mut self) {
        let (instance, life) = (self.instance.clone(), self.life + 1);
        *self = Self { instance, life, ..Self::new(0, false) };
    }

    /// The connection broke: asks again, whatever it was.
    pub(super) fn hear_nothing(&mut self) {
        self.waits = false;
    }

    /// What it asks next; nothing while it waits.
    pub(super) fn next(&mut self) -> Option<Request> {
        if std::mem::replace(&mut self.waits, true) {
            return None;
        }
        Some(match &self.phase {
            Phase::Out => Request::Join(Join {
                instance: self.instance.clone(),
                session_timeout_ms: 6_000,
                rebalance_timeout_ms: 3_000,
                ..join(self.id.as_str())
            }),
            Phase::Joined(joined) => Request::Sync(Sync {
                instance: self.instance.clone(),
                ..sync(self.id.as_str(), joined.generation, shares(joined))
            }),
            Phase::In => Request::Heartbeat(Heartbeat {
                group: GROUP.into(),
                member: self.id.clone(),
                instance: self.instance.clone(),
                generation: GenerationId(self.generation),
            }),
        })
    }

    /// A commit of the generation that it takes itself to be in.
    pub(super) fn commit(&self, partition: i32, offset: i64) -> Option<Request> {
        if self.generation < 0 {
            return None;
        }
        let mut commit = commit(self.id.as_str(), self.generation, "t", partition, offset);
        commit.instance = self.instance.clone();
        Some(Request::CommitOffsets(commit))
    }

    pub(super) fn leave(&mut self) -> Option<Request> {
        if self.id.is_empty() {
            return None;
        }
        let leaving = LeavingMember { member: self.id.clone(), instance: None, reason: None };
        self.restart();
        Some(Request::Leave(Leave { group: GROUP.into(), members: vec![leaving] }))
    }

    pub(super) fn hear(&mut self, request: &Request, answer: Response) {
        match answer {
            Response::Join(joined) => {
                self.waits = false;
                self.hear_join(joined);
            }
            Response::Sync(synced) => {
                self.waits = false;
                self.share = synced.assignment.to_vec();
                self.hear_error(synced.error);
                if synced.error == ErrorCode::None {
                    self.phase = Phase::In;
                }
            }
            Response::Heartbeat(error) => {
                self.waits = false;
                self.hear_error(error);
            }
            Response::CommitOffsets(_) | Response::Leave(_) => {}
            other => panic!("{other:?} to {request:?}"),
        }
    }

    fn hear_join(&mut self, joined: Joined) {
        match joined.error {
            ErrorCode::None => {
                self.id = joined.member.clone();
                self.generation = joined.generation.0;
                self.phase = Phase::Joined(Box::new(joined));
            }
            ErrorCode::MemberIdRequired => self.id = joined.member,
            error => self.hear_error(error),
        }
    }

    fn hear_error(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => self.phase = Phase::Out,
            ErrorCode::IllegalGeneration => {
                self.phase = Phase::Out;
                self.generation = -1;
            }
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => self.restart(),
            other => panic!("{other:?} for {self:?}"),
        }
    }
}

/// Everything, dealt to everybody in turn; nothing if somebody else leads, or it need not.
fn shares(joined: &Joined) -> Vec<(MemberId, Bytes)> {
    if joined.leader != joined.member || joined.skips_assignment {
        return Vec::new();
    }
    let count = joined.members.len();
    let share = |(position, member): (usize, &crate::response::JoinedMember)| {
        let share: Vec<u8> = (0..PARTITIONS)
            .filter(|partition| usize::from(*partition) % count == position)
            .collect();
        (member.member.clone(), Bytes::from(share))
    };
    joined.members.iter().enumerate().map(share).collect()
}
