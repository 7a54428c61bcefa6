//! What a partition's host asks of the core it hosts.

use bytes::Bytes;
use thalweg_types::{ErrorCode, Moment, Timestamp};

/// Names one call and whoever waits for its answer; given by the shell, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// When something happens: for deadlines, and for what records and people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub moment: Moment,
    pub wall: Timestamp,
}

/// A record of the internal topic. Without a value: what the key names is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What a core has decided, and applied to itself already: records to append, and answers that may leave once these and all earlier
/// records are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effects<R> {
    pub records: Vec<KeyValue>,
    pub answers: Vec<(Token, R)>,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
        Self { records: Vec::new(), answers: Vec::new() }
    }
}

/// A stored record that the core cannot read, though it knows the kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unreadable record: {0}")]
pub struct CorruptRecord(pub String);

/// Everything that is decided about the contents of one partition. Deterministic; a new one is made for every load.
pub trait Core {
    type Request;
    type Response;
    /// What the world tells it beside calls: that topics have changed, for example.
    type Event;

    /// Takes in a stored record. Kinds it does not know are skipped.
    fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), CorruptRecord>;

    /// The replay is over and the partition is this coordinator's.
    fn start(&mut self, now: Now) -> Effects<Self::Response>;

    fn handle(&mut self, token: Token, request: Self::Request, now: Now)
    -> Effects<Self::Response>;

    fn handle_event(&mut self, event: Self::Event, now: Now) -> Effects<Self::Response>;

    fn handle_deadline(&mut self, now: Now) -> Effects<Self::Response>;

    fn next_deadline(&self) -> Option<Moment>;

    /// Nobody waits for this answer any more.
    fn cancel(&mut self, token: Token);

    /// Whether the answer must show everything that any coordinator has answered before the request came. Otherwise an answer that is
    /// older by less than a lease will do. Asked for calls that turn out to need no record.
    fn must_be_current(request: &Self::Request) -> bool;
}

/// Why a call was not, or not surely, served by the core. Whoever repeats it later is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("another coordinator serves this partition")]
    NotCoordinator,
    #[error("the partition is being loaded")]
    Loading,
    #[error("too many calls wait for the log")]
    Busy,
    #[error("what is to be stored is larger than the log takes in one record")]
    TooLarge,
}

impl Refusal {
    pub fn code(self) -> ErrorCode {
        match self {
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::Loading => ErrorCode::CoordinatorLoadInProgress,
            Self::Busy => ErrorCode::CoordinatorNotAvailable,
            Self::TooLarge => ErrorCode::UnknownServerError,
        }
    }
}
