//! What followers ask of this partition's leader, and what there is to push to them.
//!
//! For each follower whose handshake was accepted there is a link to the stream it came on. Whatever gives the follower something to be told
//! puts the partition on that stream's list, once; the stream's sender takes it from there when there is room on the wire.

use std::sync::Arc;

use bytes::Bytes;
use thalweg_record::Batches;
use thalweg_replication_core::{
    AlterOutcome, Answer, Fitness, Handshake, PushCursor, Report, ReportRefusal, Role, Verdict,
};
use thalweg_storage::{Chunk, ReadError, ReadSlice};
use thalweg_types::{LeaderEpoch, NodeId, Offset};

use super::settle::{Entered, view_of};
use super::{Inner, Partition};
use crate::replication::FollowerStream;

/// A follower that is pushed to.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) session: u32,
    pub(super) stream: Arc<FollowerStream>,
    /// It is on the stream's list, or what it is to be sent is being read.
    pub(super) is_listed: bool,
}

/// What a stream is to send of a partition.
#[derive(Debug)]
pub(crate) enum NextPush {
    Nothing,
    Ready {
        push: OwnedPush,
        /// There is more already.
        more: bool,
    },
    /// It has to be read from the disk first; [`Partition::finish_push`] follows.
    Cold {
        cursor: PushCursor,
        slice: ReadSlice,
    },
    /// The follower's place in the log is gone: it is to ask anew.
    Closed {
        session: u32,
    },
}

/// A push with the bytes it carries.
#[derive(Debug)]
pub(crate) struct OwnedPush {
    pub(crate) cursor: PushCursor,
    pub(crate) batches: Vec<Bytes>,
    pub(crate) bytes: usize,
}

impl Partition {
    // ---- Inputs ----

    /// A follower asks to be pushed to on `stream`. `None` when a newer stream of that follower is known.
    pub(crate) fn handle_handshake(
        &self,
        handshake: &Handshake,
        stream: &Arc<FollowerStream>,
    ) -> Option<Answer> {
        self.enter(|entered| {
            // A newer stream closes the older one before anything is asked on it.
            if stream.is_closed() {
                return None;
            }
            let (node, now) = (stream.node(), entered.now);
            entered.unlink(node);
            let replica = &mut entered.inner.replica;
            let answer = self
                .log
                .inspect(|core| replica.handle_handshake(node, handshake, view_of(core), now));
            if let Verdict::Accepted { session, .. } = answer.verdict {
                let stream = Arc::clone(stream);
                entered.inner.links.push(Link { node, session, stream, is_listed: false });
            }
            Some(answer)
        })
    }

    /// Progress of a follower.
    ///
    /// # Errors
    ///
    /// The report says what cannot be. One that is only late is no error.
    pub(crate) fn handle_report(
        &self,
        report: &Report,
        stream: &FollowerStream,
    ) -> Result<(), ReportRefusal> {
        self.enter(|entered| {
            let now = entered.now;
            match entered.inner.replica.handle_report(stream.node(), report, now) {
                Err(refusal @ ReportRefusal::InvalidPosition { .. })
                    if entered.inner.has_link(stream.node(), report.session) =>
                {
                    Err(refusal)
                }
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }

    /// The stream is gone.
    pub(crate) fn handle_stream_gone(&self, stream: &Arc<FollowerStream>) {
        self.enter(|entered| {
            let links = &entered.inner.links;
            if links.iter().any(|link| Arc::ptr_eq(&link.stream, stream)) {
                entered.unlink(stream.node());
            }
        });
    }

    /// What became of a proposal.
    pub(crate) fn handle_alter_outcome(&self, attempt: (LeaderEpoch, u32), outcome: &AlterOutcome) {
        self.enter(|entered| {
            let now = entered.now;
            entered.inner.replica.handle_alter_outcome(attempt, outcome, now);
            self.align_durability(&entered.inner);
        });
    }

    /// The log directory has failed: other replicas are better off without this one. A partition that has no other goes on being read.
    pub(crate) fn handle_log_dir_failed(&self) {
        self.enter(|entered| {
            let replica = &mut entered.inner.replica;
            let has_others = match replica.role() {
                Role::Leader(leader) => leader.partition().replicas.len() > 1,
                Role::Follower(_) => true,
                Role::Idle { .. } => false,
            };
            if has_others {
                replica.handle_fitness(Fitness::Suspect);
            }
        });
    }

    // ---- Outputs ----

    /// What to send on `stream` now, of at most `bytes_max` bytes or one batch. The partition is off the stream's list with this, and
    /// comes back when there is more; with [`NextPush::Cold`], after [`Self::finish_push`].
    pub(crate) fn next_push(&self, stream: &Arc<FollowerStream>, bytes_max: usize) -> NextPush {
        let mut inner = self.inner.lock();
        let Some(at) = inner.links.iter().position(|link| Arc::ptr_eq(&link.stream, stream)) else {
            return NextPush::Nothing;
        };
        let Inner { replica, links, .. } = &mut *inner;
        let link = &mut links[at];
        link.is_listed = false;
        let Some(cursor) = replica.next_push(link.node).filter(|c| c.session == link.session)
        else {
            return NextPush::Nothing;
        };
        let slice = match self.log.read(cursor.from, cursor.log_end, bytes_max, true) {
            Ok(slice) => slice,
            Err(ReadError::OutOfRange { .. }) => {
                let Link { node, session, .. } = links.swap_remove(at);
                replica.handle_follower_gone(node, session);
                return NextPush::Closed { session };
            }
            // Looking where to read does not read.
            Err(error) => {
                tracing::error!(partition = %self.name, %error, "cannot read for a follower");
                return NextPush::Nothing;
            }
        };
        let mut batches = Vec::with_capacity(slice.chunks.len());
        for chunk in &slice.chunks {
            match chunk {
                Chunk::Tail(bytes) => batches.push(bytes.clone()),
                Chunk::File(_) => {
                    link.is_listed = true;
                    return NextPush::Cold { cursor, slice };
                }
            }
        }
        let push = OwnedPush::new(cursor, batches);
        replica.pushed(link.node, &cursor, push.end());
        let more = replica.next_push(link.node).is_some();
        link.is_listed = more;
        NextPush::Ready { push, more }
    }

    /// Whether what this follower is pushed can wait: nobody's acknowledgement waits for it.
    pub(crate) fn is_catching_up(&self, node: NodeId) -> bool {
        let inner = self.inner.lock();
        inner.replica.as_leader().is_some_and(|leader| !leader.maximal_isr().any(|id| id == node))
    }

    /// What [`NextPush::Cold`] asked for was read. `None`: the follower is not waiting for it any more. Also says whether there is more.
    pub(crate) fn finish_push(
        &self,
        stream: &Arc<FollowerStream>,
        cursor: PushCursor,
        batches: Vec<Bytes>,
    ) -> Option<(OwnedPush, bool)> {
        let mut inner = self.inner.lock();
        let Inner { replica, links, .. } = &mut *inner;
        let is_it =
            |link: &&mut Link| Arc::ptr_eq(&link.stream, stream) && link.session == cursor.session;
        let link = links.iter_mut().find(is_it)?;
        let push = OwnedPush::new(cursor, batches);
        replica.pushed(link.node, &cursor, push.end());
        link.is_listed = replica.next_push(link.node).is_some();
        Some((push, link.is_listed))
    }

    /// What a follower needs cannot be read: if it is damaged, another replica should lead, which has it whole.
    pub(crate) fn handle_read_failure(&self, stream: &Arc<FollowerStream>, error: &ReadError) {
        tracing::error!(partition = %self.name, %error, "cannot read for a follower");
        self.handle_stream_gone(stream);
        if let ReadError::Corrupt { .. } = error {
            self.enter(|entered| entered.inner.replica.handle_fitness(Fitness::Suspect));
        }
    }

    /// A committed proposal may bring another durability than the log has been told of.
    fn align_durability(&self, inner: &Inner) {
        let config = self.log.config();
        if let Some(durability) = inner.durability()
            && durability != config.durability
        {
            self.log.configure(thalweg_log_core::LogConfig { durability, ..config });
        }
    }
}

impl Inner {
    fn has_link(&self, node: NodeId, session: u32) -> bool {
        self.links.iter().any(|link| link.node == node && link.session == session)
    }
}

impl Entered<'_> {
    /// The follower is not pushed to any more. What it had, it still has.
    fn unlink(&mut self, node: NodeId) {
        let Inner { replica, links, .. } = &mut *self.inner;
        links.retain(|link| {
            if link.node == node {
                replica.handle_follower_gone(node, link.session);
            }
            link.node != node
        });
    }

    /// Puts the partition on the lists of the streams that have something to be told.
    pub(super) fn list_pushes(&mut self) {
        if self.inner.links.is_empty() {
            return;
        }
        let Inner { replica, links, .. } = &mut *self.inner;
        if replica.as_leader().is_none() {
            // Their next handshakes will be refused, and their metadata says whom to ask.
            links.clear();
            return;
        }
        for link in links.iter_mut().filter(|link| !link.is_listed) {
            if replica.next_push(link.node).is_some_and(|cursor| cursor.session == link.session) {
                link.is_listed = true;
                self.due.stream(&link.stream);
            }
        }
    }
}

impl OwnedPush {
    fn new(cursor: PushCursor, batches: Vec<Bytes>) -> Self {
        let bytes = batches.iter().map(Bytes::len).sum();
        Self { cursor, batches, bytes }
    }

    /// Where the pushed batches end.
    fn end(&self) -> Offset {
        let last = self.batches.last().and_then(|bytes| Batches::new(bytes).flatten().last());
        last.map_or(self.cursor.from, |(header, _)| header.next_offset())
    }
}
