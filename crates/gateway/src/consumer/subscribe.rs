//! One Subscribe: a member of a group on behalf of a client.
//!
//! ```text
//!  coordinator ◄── heartbeats ── membership ── changes ──┐
//!                                     ▲                  ▼
//!                                     └─ given up ── session ◄── acks, pauses, seeks, credit ── client
//!  brokers ─────────── records ───────────────────────►  └────── records, notices ────────────►
//! ```
//!
//! The session is one task: it hears the client and the membership, asks the brokers, sends, commits. It holds one fetch at most and the records
//! of one batch, as FetchStream does, and a few notices.

mod commits;
mod membership;
mod options;
mod positions;
mod session;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::ErrorCode;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::stream::unreadable;
use crate::port::BrokerPort;
use crate::shared::{Shared, stopping_error};
use membership::Membership;
use options::Options;
use proto::subscribe_request::Message;
use session::Session;

/// Messages made but not yet taken by the connection: one on its way, one ready.
const MESSAGES_WAITING_MAX: usize = 2;

/// Longest last commit of a client that has gone.
const LAST_COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);

type Messages = mpsc::Sender<Result<proto::SubscribeResponse, Status>>;

/// The messages of one stream. The member leaves when the stream ends, however it ends.
pub(super) fn records<B: BrokerPort>(
    shared: Arc<Shared<B>>,
    requests: Streaming<proto::SubscribeRequest>,
    deadline: Deadline,
    host: String,
) -> BoxStream<'static, Result<proto::SubscribeResponse, Status>> {
    let (messages, stream) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        if let Err(error) = subscribe(shared, requests, deadline, host, &messages).await {
            // Only fails when the client is gone, and then nobody is interested.
            let _ = messages.send(Err(error.into())).await;
        }
    });
    ReceiverStream::new(stream).boxed()
}

async fn subscribe<B: BrokerPort>(
    shared: Arc<Shared<B>>,
    mut requests: Streaming<proto::SubscribeRequest>,
    deadline: Deadline,
    host: String,
    messages: &Messages,
) -> Result<(), Error> {
    let first = tokio::select! {
        () = messages.closed() => return Ok(()),
        () = shared.stopped() => return Err(stopping_error()),
        () = deadline.passed() => return Err(too_late()),
        first = requests.message() => first.map_err(unreadable)?,
    };
    let Some(first) = first else { return Ok(()) };
    let Some(Message::Start(start)) = first.message else {
        return Err(Error::invalid_request("the first message must be start"));
    };
    let credit_bytes = start.credit_bytes;
    let options = Options::from_wire(start, host)?;
    let membership = Membership::start(Arc::clone(&shared), options.joining());
    let mut session = Session::new(Arc::clone(&shared), options, membership);
    session.grant(credit_bytes)?;
    let result = tokio::select! {
        () = messages.closed() => Ok(()),
        () = shared.stopped() => Err(stopping_error()),
        () = deadline.passed() => Err(too_late()),
        result = session.run(&mut requests, messages) => result,
    };
    // What was acknowledged is not lost with the client.
    match timeout(LAST_COMMIT_WAIT_MAX, session.commit(false)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the last commit of a member failed"),
        Err(_) => tracing::debug!("the last commit of a member took too long"),
    }
    session.into_membership().leave().await;
    result
}

fn too_late() -> Error {
    Error::new(ErrorCode::RequestTimedOut, "the stream's deadline has passed").not_applied()
}
