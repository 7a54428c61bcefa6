//! What a server of Fetch keeps: sessions (KIP-227), and the memory of answers that are not taken yet.
//!
//! How records are read is the server's own affair: a session holds the server's call ([`Call`]), kept up with what the client changes in it.

mod memory;
#[cfg(test)]
mod sample;
mod session;
mod sessions;

use std::fmt::Debug;
use std::time::Duration;

use thalweg_types::{IsolationLevel, LeaderEpoch, Offset};

pub use memory::{FetchMemory, Lease};
pub use session::{PARTITION_BYTES, Session, Topic};
pub use sessions::{BYTES_MAX, Lent, NEW_SESSION, NO_SESSION, Sessions, WITHOUT_SESSION};

/// What a server reads by: partitions one after the other, and bounds of all of them.
pub trait Call: Debug + Send {
    type Partition: Debug + Send;

    /// Without partitions.
    fn new() -> Self;

    /// A partition that is to be asked for and was not looked up yet.
    fn unresolved() -> Self::Partition;

    fn ask(partition: &mut Self::Partition, wanted: Wanted);

    /// Lets go of what was looked up, until the next request.
    fn release(partition: &mut Self::Partition);

    fn partitions_mut(&mut self) -> &mut Vec<Self::Partition>;

    fn set_bounds(&mut self, bounds: Bounds);

    /// Which partition is looked at first, so that the size limit of answers starves nobody.
    fn first_mut(&mut self) -> &mut usize;
}

/// What a client wants of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub offset: Offset,
    pub max_bytes: usize,
    /// The leader epoch the client believes in; [`LeaderEpoch::NONE`] when it gives none.
    pub reader_epoch: LeaderEpoch,
}

/// What holds for a whole fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// At most `max_bytes`.
    pub min_bytes: usize,
    pub max_bytes: usize,
    pub max_wait: Duration,
    pub isolation: IsolationLevel,
}
