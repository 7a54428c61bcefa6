//! Ends a call when its caller has stopped waiting.
//!
//! The caller's `grpc-timeout` bounds the time until the answer begins; so does a cap of the server's own, also for callers that
//! name no end. Streams answer at once and may then go on: they find the caller's deadline in the request's extensions
//! ([`crate::deadline_of`]) and end by it themselves. A deadline that has passed on arrival refuses the call before anything is
//! tried, so that its outcome is certain.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, timeout};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt as _};

use super::{Answer, CallService, refusal};
use crate::deadline::Deadline;
use crate::error::Error;

/// The header's value: at most this many digits, and a unit.
const TIMEOUT_DIGITS_MAX: usize = 8;

#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    call_time_max: Duration,
}

/// Bounds the time of the service below.
#[derive(Debug, Clone)]
pub struct DeadlineBound<S> {
    inner: S,
    call_time_max: Duration,
}

impl DeadlineLayer {
    /// `call_time_max`: longest time until an answer must have begun.
    pub fn new(call_time_max: Duration) -> Self {
        Self { call_time_max }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineBound<S>;

    fn layer(&self, inner: S) -> DeadlineBound<S> {
        DeadlineBound { inner, call_time_max: self.call_time_max }
    }
}

impl<S: CallService> Service<Request<Body>> for DeadlineBound<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let (deadline, limit) = match grpc_timeout(request.headers()) {
            Err(error) => return Box::pin(std::future::ready(Ok(refusal(error)))),
            Ok(Some(Duration::ZERO)) => {
                let error = Error::expired_before_start();
                return Box::pin(std::future::ready(Ok(refusal(error))));
            }
            // At most 99,999,999 hours, which an `Instant` can hold.
            Ok(Some(left)) => (Deadline::at(Instant::now() + left), left.min(self.call_time_max)),
            Ok(None) => (Deadline::NEVER, self.call_time_max),
        };
        request.extensions_mut().insert(deadline);
        let inner = self.inner.clone();
        Box::pin(async move {
            match timeout(limit, inner.oneshot(request)).await {
                Ok(answer) => answer,
                Err(_) => Ok(refusal(Error::timed_out(limit))),
            }
        })
    }
}

/// The caller's patience, by the gRPC protocol's notation: digits and one of H M S m u n.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    value.to_str().ok().and_then(parse_timeout).map(Some).ok_or_else(|| {
        Error::invalid_request(format!(
            "grpc-timeout must be 1 to {TIMEOUT_DIGITS_MAX} digits and one of H, M, S, m, u, n, \
             not {value:?}"
        ))
    })
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let well_formed = (1..=TIMEOUT_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !well_formed {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse_timeout("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("1u"), Some(Duration::from_micros(1)));
        assert_eq!(parse_timeout("0n"), Some(Duration::ZERO));
    }

    #[test]
    fn malformed_timeouts_are_refused() {
        for text in ["", "S", "5", "-1S", "+1S", "1.5S", "123456789S", "1s", "1Sä", "ä"] {
            assert_eq!(parse_timeout(text), None, "{text:?}");
        }
    }
}
