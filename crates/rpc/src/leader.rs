//! A channel that finds the leader: calls go to whichever of several nodes answers them.
//!
//! Of the nodes behind it one decides, and the others say who. The channel remembers where the last call was answered, goes where a refusal
//! points ([`crate::LeaderHint`]), and otherwise asks one node after the other, with growing waits, until the caller's time is over.
//!
//! ```text
//!  refused, surely not applied ──► the node named, or the next one
//!  nobody there                ──► the next one
//!  outcome unknown             ──► the next one if the call may be repeated; otherwise the caller is told so
//!  anything else               ──► the answer
//! ```
//!
//! It stands where a [`Channel`] stands, under a generated client. Only what an answer begins with is looked at: a stream that breaks later
//! is for its reader to open again.

mod body;

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use thalweg_types::{ErrorCode, Outcome};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt as _};

use self::body::{Whole, collect};
use crate::channel::{InvalidEndpoint, channel};
use crate::error::Error;
use crate::stack::deadline::grpc_timeout;

/// Connections kept: those it began with, and where hints have pointed.
const CHANNELS_MAX: usize = 32;

/// A call given up sooner says nothing about the node that was asked.
const SILENCE_MIN: Duration = Duration::from_millis(200);

/// How calls are tried.
#[derive(Debug, Clone, Copy)]
pub struct LeaderOptions {
    /// Whether the method of this path (`/package.Service/Method`) may be carried out twice without harm.
    pub repeatable: fn(&str) -> bool,
    /// Longest time for a call that does not come with a time of its own.
    pub call_time_max: Duration,
    /// Longest time for one try of a call that may be repeated: then another node is asked.
    pub try_time_max: Duration,
    /// Wait after the first failed round of tries; doubled after every further one.
    pub wait_first: Duration,
    pub wait_max: Duration,
}

impl Default for LeaderOptions {
    fn default() -> Self {
        Self {
            repeatable: |_| false,
            call_time_max: Duration::from_secs(15),
            try_time_max: Duration::from_secs(2),
            wait_first: Duration::from_millis(50),
            wait_max: Duration::from_secs(1),
        }
    }
}

/// Cheap to clone: clones share connections and what was learnt.
#[derive(Debug, Clone)]
pub struct LeaderChannel(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// The only node there is: whatever it says is the answer.
    Fixed(Channel),
    Several(Arc<Several>),
}

#[derive(Debug)]
struct Several {
    options: LeaderOptions,
    endpoints: Vec<String>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Where the next call goes.
    current: String,
    /// Which of the endpoints is asked when that does not help.
    next: usize,
    channels: HashMap<String, Channel>,
}

/// No endpoint was given, or one is not an address.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEndpoints {
    #[error("no address is given")]
    Empty,
    #[error(transparent)]
    Invalid(#[from] InvalidEndpoint),
}

/// What one try came to.
enum Tried {
    Answered(Response<Body>),
    /// Nothing was done there; perhaps this node can.
    Elsewhere {
        hint: Option<String>,
        error: Error,
    },
    Unknown(Error),
}

impl LeaderChannel {
    /// Calls whichever of the endpoints (`host:port`) answers. Must be called within a tokio runtime.
    pub fn new(endpoints: Vec<String>, options: LeaderOptions) -> Result<Self, InvalidEndpoints> {
        let current = endpoints.first().cloned().ok_or(InvalidEndpoints::Empty)?;
        let mut channels = HashMap::new();
        for endpoint in &endpoints {
            channels.insert(endpoint.clone(), channel(endpoint)?);
        }
        let known = Mutex::new(Known { current, next: 0, channels });
        Ok(Self(Kind::Several(Arc::new(Several { options, endpoints, known }))))
    }
}

impl From<Channel> for LeaderChannel {
    fn from(channel: Channel) -> Self {
        Self(Kind::Fixed(channel))
    }
}

impl Service<Request<Body>> for LeaderChannel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kind = self.0.clone();
        Box::pin(async move {
            Ok(match kind {
                Kind::Fixed(channel) => match channel.oneshot(request).await {
                    Ok(response) => response,
                    Err(error) => Status::from_error(Box::new(error)).into_http(),
                },
                Kind::Several(several) => several.call(request).await,
            })
        })
    }
}

impl Several {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match collect(body).await {
            Ok(body) => body,
            Err(status) => return status.into_http(),
        };
        let patience = grpc_timeout(&parts.headers).ok().flatten();
        let end = Instant::now() + patience.unwrap_or(self.options.call_time_max);
        let repeatable = (self.options.repeatable)(parts.uri.path());
        let mut wait = self.options.wait_first;
        let mut tries = 0;
        loop {
            let target = self.known.lock().current.clone();
            let until = match repeatable {
                true => end.min(Instant::now() + self.options.try_time_max),
                false => end,
            };
            let mut given_up =
                GivenUp { several: self, target: &target, since: Some(Instant::now()) };
            let tried = self.try_at(&target, &parts, &body, until).await;
            given_up.since = None;
            drop(given_up);
            let (hint, error) = match tried {
                Tried::Answered(response) => return response,
                Tried::Elsewhere { hint, error } => (hint, error),
                Tried::Unknown(error) if repeatable => (None, error),
                Tried::Unknown(error) => return Status::from(error).into_http(),
            };
            tries += 1;
            let was_told = self.turn(&target, hint);
            // A round of tries that led nowhere, or a hint that may be going in circles.
            let pause = match was_told {
                true => tries > 1,
                false => tries % self.endpoints.len() == 0,
            };
            let waited = if pause { jittered(wait) } else { Duration::ZERO };
            if Instant::now() + waited >= end {
                return Status::from(error).into_http();
            }
            if pause {
                sleep(waited).await;
                wait = (wait * 2).min(self.options.wait_max);
                // The wait may have been longer than asked for: a try without time would only make a sure outcome an unknown one.
                if Instant::now() >= end {
                    return Status::from(error).into_http();
                }
            }
        }
    }

    async fn try_at(
        &self,
        target: &str,
        parts: &http::request::Parts,
        body: &Bytes,
        until: Instant,
    ) -> Tried {
        let channel = match self.channel(target) {
            Ok(channel) => channel,
            Err(error) => {
                let error = Error::new(ErrorCode::BrokerNotAvailable, error.to_string());
                return Tried::Elsewhere { hint: None, error: error.not_applied() };
            }
        };
        let mut request = Request::new(Body::new(Whole::new(body.clone())));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.version_mut() = parts.version;
        *request.headers_mut() = parts.headers.clone();
        let began = Instant::now();
        match timeout_at(until, channel.oneshot(request)).await {
            Ok(Ok(response)) => judge(response),
            Ok(Err(error)) => {
                let error = Error::from(Status::from_error(Box::new(error)));
                match error.outcome {
                    Outcome::NotApplied => Tried::Elsewhere { hint: None, error },
                    Outcome::Unknown => Tried::Unknown(error),
                }
            }
            Err(_) => Tried::Unknown(Error::timed_out(began.elapsed()).outcome_unknown()),
        }
    }

    fn channel(&self, endpoint: &str) -> Result<Channel, InvalidEndpoint> {
        let mut known = self.known.lock();
        if let Some(channel) = known.channels.get(endpoint) {
            return Ok(channel.clone());
        }
        if known.channels.len() >= CHANNELS_MAX {
            known.channels.retain(|kept, _| self.endpoints.contains(kept));
        }
        let channel = channel(endpoint)?;
        known.channels.insert(endpoint.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Goes on to where the refusing node points, or to the next one. Whether it was pointed.
    fn turn(&self, from: &str, hint: Option<String>) -> bool {
        let mut known = self.known.lock();
        if let Some(hint) = hint.filter(|hint| hint != from) {
            known.current = hint;
            return true;
        }
        // Unless another call has found a better one meanwhile.
        if known.current == from {
            known.next = (known.next + 1) % self.endpoints.len();
            known.current = self.endpoints[known.next].clone();
        }
        false
    }
}

/// A caller who is not answered may give up before the try does, and call again: not there, or a node that fell silent would be asked for
/// ever.
struct GivenUp<'a> {
    several: &'a Several,
    target: &'a str,
    /// `None` once the try has ended by itself.
    since: Option<Instant>,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() >= SILENCE_MIN) {
            self.several.turn(self.target, None);
        }
    }
}

fn judge(response: Response<Body>) -> Tried {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return Tried::Answered(response);
    };
    if status.code() == tonic::Code::Ok {
        return Tried::Answered(response);
    }
    let error = Error::from(status);
    match (error.code, error.outcome) {
        (ErrorCode::NotController, Outcome::NotApplied) => {
            let hint = error.leader.as_ref().and_then(|leader| leader.endpoint.clone());
            Tried::Elsewhere { hint, error }
        }
        (ErrorCode::RequestTimedOut | ErrorCode::NetworkException, Outcome::Unknown) => {
            Tried::Unknown(error)
        }
        _ => Tried::Answered(response),
    }
}

/// Between half and all of it, so that callers who failed together do not come again together.
fn jittered(wait: Duration) -> Duration {
    let dice = thalweg_env::simulation::entropy() >> 32;
    wait / 2 + wait.mul_f64((dice as f64) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests;
