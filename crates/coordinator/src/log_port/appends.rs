//! Streams of conditional appends: one to each broker, shared by all partitions it leads.
//!
//! A stream is opened when something is to be sent to a broker, and given up when it breaks or the broker is about to stop. What was sent on it
//! and not answered has an unknown outcome; nothing is ever sent twice, since the condition of a refused append cannot come true again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use thalweg_metadata_core::Image;
use thalweg_proto::internal::broker::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};

use crate::brokers::{Brokers, Client};

#[derive(Debug)]
pub(crate) struct Appends {
    brokers: Brokers,
    links: Mutex<HashMap<NodeId, Link>>,
}

/// The stream to one broker, as those who append see it.
#[derive(Debug)]
struct Link {
    endpoint: String,
    /// Bounded by the partitions, each of which waits for answers before it sends more.
    queue: mpsc::UnboundedSender<Queued>,
    is_closing: Arc<AtomicBool>,
}

type Answer = oneshot::Sender<Result<(), Error>>;

#[derive(Debug)]
struct Queued {
    request: proto::AppendRequest,
    answer: Answer,
}

/// Who waits, by number in the stream.
type Waiting = Arc<Mutex<HashMap<u64, Answer>>>;

impl Appends {
    pub(crate) fn new(brokers: Brokers) -> Self {
        Self { brokers, links: Mutex::default() }
    }

    pub(crate) fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// Sends one append, behind those sent before. The receiver is closed without an answer when the stream ends.
    pub(crate) fn append(
        &self,
        image: &Image,
        node: NodeId,
        request: proto::AppendRequest,
    ) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        let (endpoint, client) = self.brokers.client(image, node)?;
        let (answer, answered) = oneshot::channel();
        let queued = Queued { request, answer };
        let mut links = self.links.lock();
        let queued = match links.get(&node).filter(|link| link.is_open_to(&endpoint)) {
            Some(link) => match link.queue.send(queued) {
                Ok(()) => return Ok(answered),
                Err(ended) => ended.0,
            },
            None => queued,
        };
        let link = Link::open(endpoint, client);
        // The task that takes from the queue has not begun.
        let _ = link.queue.send(queued);
        links.insert(node, link);
        Ok(answered)
    }
}

impl Link {
    fn open(endpoint: String, client: Client) -> Self {
        let (queue, queued) = mpsc::unbounded_channel();
        let is_closing = Arc::new(AtomicBool::new(false));
        tokio::spawn(run(client, queued, Arc::clone(&is_closing)));
        Self { endpoint, queue, is_closing }
    }

    fn is_open_to(&self, endpoint: &str) -> bool {
        self.endpoint == endpoint && !self.is_closing.load(Ordering::Relaxed)
    }
}

/// Keeps the stream until it ends, for whatever reason. Those who still wait then see their answers dropped.
async fn run(client: Client, queued: mpsc::UnboundedReceiver<Queued>, is_closing: Arc<AtomicBool>) {
    let waiting = Waiting::default();
    let result = keep(client, queued, &waiting, &is_closing).await;
    is_closing.store(true, Ordering::Relaxed);
    if let Err(status) = result {
        tracing::debug!(error = status.message(), "a stream of appends has ended");
    }
    waiting.lock().clear();
}

async fn keep(
    mut client: Client,
    queued: mpsc::UnboundedReceiver<Queued>,
    waiting: &Waiting,
    is_closing: &AtomicBool,
) -> Result<(), Status> {
    let sent = Arc::clone(waiting);
    let mut number = 0;
    let requests = UnboundedReceiverStream::new(queued).map(move |queued| {
        sent.lock().insert(number, queued.answer);
        number += 1;
        queued.request
    });
    let mut answers = client.append(requests).await?.into_inner();
    while let Some(message) = answers.message().await? {
        if message.closing {
            is_closing.store(true, Ordering::Relaxed);
        }
        for result in message.results {
            let Some(answer) = waiting.lock().remove(&result.number) else { continue };
            // Whoever has given up waiting has taken it as unknown.
            let _ = answer.send(result.refusal.map_or(Ok(()), |refusal| Err(error(refusal))));
        }
    }
    Ok(())
}

pub(super) fn error(refusal: proto::Refusal) -> Error {
    let status = i32::try_from(refusal.grpc_code).ok().filter(|code| *code != 0).map(Code::from);
    match refusal.detail {
        Some(detail) => Error { status, ..Error::from_detail(detail) },
        None => {
            let message = "a broker refused without saying why";
            Error::new(ErrorCode::UnknownServerError, message).outcome_unknown()
        }
    }
}
