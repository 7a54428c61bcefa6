//! When a caller stops waiting.

use std::time::Duration;

use tokio::time::Instant;

/// The end of a call by its `grpc-timeout`, as a moment of this process. In the extensions of every request that passed the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The caller waits for ever.
    pub const NEVER: Self = Self(None);

    pub fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// Time left; zero when it has passed, [`Duration::MAX`] when there is no end.
    pub fn remaining(self) -> Duration {
        self.0.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// Resolves when the deadline passes; never, if there is none.
    pub async fn passed(self) {
        match self.0 {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// The deadline the stack found in a request; [`Deadline::NEVER`] for a request that did not pass it.
pub fn deadline_of<T>(request: &tonic::Request<T>) -> Deadline {
    request.extensions().get::<Deadline>().copied().unwrap_or(Deadline::NEVER)
}
