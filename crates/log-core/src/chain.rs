//! Appends that continue what their author knows: where the log ends, under which leader, and whose the last append was.
//!
//! Within one leader epoch a log end is reached once and never left but by an append, so leader epoch and end say where a log stands. They do
//! not say what it holds: a batch may get lost and another of the same length take its place, upon which a third one, sent behind the first
//! and delayed, would find its end right by chance. Who sends without waiting therefore names the chain it continues; a chain is begun by one
//! append, and ended by any that is not of it and by every change of leader.

use thalweg_types::{LeaderEpoch, Offset};

/// What the author of an append believes of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    pub leader_epoch: LeaderEpoch,
    pub expected_end: Offset,
    /// What was appended last belongs to it. `None`: to any, in checks only.
    pub chain: Option<u64>,
    /// The append may follow upon anything, and begins the chain.
    pub opens_chain: bool,
}

/// The log is not where the author believes it to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContinuationError {
    #[error("leader epoch {given} is older than the current {current}")]
    FencedEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("leader epoch {given} is newer than {current}, the newest known here")]
    UnknownEpoch { given: LeaderEpoch, current: LeaderEpoch },
    #[error("the log ends at {end}, not at {expected}")]
    End { expected: Offset, end: Offset },
    #[error("the log ends where it should, but the last append was another writer's")]
    Chain,
}

/// Whose the last append was, as the leader remembers it; a new one remembers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain(Option<(LeaderEpoch, u64)>);

impl Chain {
    /// Whether the append, or the check, is right about the log of the leader of `epoch`, which ends at `end`.
    pub fn admit(
        &self,
        continuation: &Continuation,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Result<(), ContinuationError> {
        let (given, current) = (continuation.leader_epoch, epoch);
        if given < current {
            return Err(ContinuationError::FencedEpoch { given, current });
        }
        if given > current {
            return Err(ContinuationError::UnknownEpoch { given, current });
        }
        let expected = continuation.expected_end;
        if expected != end {
            return Err(ContinuationError::End { expected, end });
        }
        let follows = match continuation.chain {
            Some(number) => continuation.opens_chain || self.0 == Some((epoch, number)),
            None => true,
        };
        if follows { Ok(()) } else { Err(ContinuationError::Chain) }
    }

    /// The leader of `epoch` has appended a batch of this chain, or of none.
    pub fn appended(&mut self, epoch: LeaderEpoch, chain: Option<u64>) {
        self.0 = chain.map(|number| (epoch, number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn continuation(epoch: i32, end: i64, chain: u64) -> Continuation {
        Continuation {
            leader_epoch: LeaderEpoch(epoch),
            expected_end: Offset(end),
            chain: Some(chain),
            opens_chain: false,
        }
    }

    #[test]
    fn a_chain_goes_on_until_somebody_else_appends_or_leads() {
        let mut chain = Chain::default();
        let admits = |chain: &Chain, asked: Continuation, epoch, end| {
            chain.admit(&asked, LeaderEpoch(epoch), Offset(end))
        };
        let mine = continuation(2, 5, 7);
        assert_eq!(admits(&chain, mine, 2, 5), Err(ContinuationError::Chain));
        assert_eq!(admits(&chain, Continuation { opens_chain: true, ..mine }, 2, 5), Ok(()));
        chain.appended(LeaderEpoch(2), Some(7));
        assert_eq!(admits(&chain, mine, 2, 5), Ok(()));
        let late = ContinuationError::End { expected: Offset(5), end: Offset(6) };
        assert_eq!(admits(&chain, mine, 2, 6), Err(late));
        assert_eq!(admits(&chain, continuation(2, 5, 8), 2, 5), Err(ContinuationError::Chain));
        assert_eq!(admits(&chain, Continuation { chain: None, ..mine }, 2, 5), Ok(()));
        assert!(matches!(admits(&chain, mine, 3, 5), Err(ContinuationError::FencedEpoch { .. })));
        assert!(matches!(admits(&chain, mine, 1, 5), Err(ContinuationError::UnknownEpoch { .. })));
        assert_eq!(admits(&chain, continuation(3, 5, 7), 3, 5), Err(ContinuationError::Chain));
        chain.appended(LeaderEpoch(2), None);
        assert_eq!(admits(&chain, mine, 2, 5), Err(ContinuationError::Chain));
    }
}
