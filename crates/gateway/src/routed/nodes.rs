//! Connections to brokers, by node: made when they are needed, dropped when the metadata names another address.
//!
//! Appends and reads have connections of their own, so that neither waits behind the other's bytes. Reads have several: one holds at most
//! some thousand calls, and each reader that waits for records is a call.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_metadata_core::{Endpoint, Image};
use thalweg_proto::internal::broker::v1::broker_client::BrokerClient;
use thalweg_rpc::{Error, MESSAGE_BYTES_MAX, channel};
use thalweg_types::NodeId;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::words;

pub(super) type Client = BrokerClient<Channel>;

/// How long a broker that did not answer in time is not waited for.
const SILENCE_REMEMBERED: Duration = Duration::from_secs(5);

/// Connections to one broker for reads, which take turns.
const READ_CONNECTIONS: usize = 4;

#[derive(Debug)]
pub(super) struct Nodes {
    /// Where connections live, whoever needs them first: callers may be on runtimes that end before this one.
    pub(super) runtime: Handle,
    known: Mutex<HashMap<NodeId, Known>>,
}

#[derive(Debug)]
struct Known {
    endpoint: String,
    appends: Client,
    reads: Vec<Client>,
    /// Which of them is next.
    turn: usize,
    silent_until: Option<Instant>,
}

impl Nodes {
    /// Must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        Self { runtime: Handle::current(), known: Mutex::default() }
    }

    /// To append at a broker, and the address behind it.
    pub(super) fn appends(&self, image: &Image, id: NodeId) -> Result<(String, Client), Error> {
        self.with(image, id, |known| (known.endpoint.clone(), known.appends.clone()))
    }

    /// To read from a broker.
    pub(super) fn reads(&self, image: &Image, id: NodeId) -> Result<Client, Error> {
        self.with(image, id, Known::next_for_reads)
    }

    /// The broker did not answer in the time it was given.
    pub(super) fn note_silence(&self, id: NodeId) {
        if let Some(known) = self.known.lock().get_mut(&id) {
            known.silent_until = Some(Instant::now() + SILENCE_REMEMBERED);
        }
    }

    /// The broker answered.
    pub(super) fn note_answer(&self, id: NodeId) {
        if let Some(known) = self.known.lock().get_mut(&id) {
            known.silent_until = None;
        }
    }

    /// Whether it was silent lately.
    pub(super) fn is_silent(&self, id: NodeId) -> bool {
        let known = self.known.lock();
        let silent_until = known.get(&id).and_then(|known| known.silent_until);
        silent_until.is_some_and(|until| Instant::now() < until)
    }

    /// Drops the connections to nodes that are not registered any more.
    pub(super) fn follow(&self, image: &Image) {
        self.known.lock().retain(|id, _| image.node(*id).is_some());
    }

    fn with<T>(
        &self,
        image: &Image,
        id: NodeId,
        take: impl FnOnce(&mut Known) -> T,
    ) -> Result<T, Error> {
        let endpoint = internal_endpoint(image, id)?;
        let mut known = self.known.lock();
        if let Some(known) = known.get_mut(&id).filter(|known| known.endpoint == endpoint) {
            return Ok(take(known));
        }
        let _connections_live_there = self.runtime.enter();
        let mut made = Known::new(endpoint)?;
        let taken = take(&mut made);
        known.insert(id, made);
        Ok(taken)
    }
}

impl Known {
    fn new(endpoint: String) -> Result<Self, Error> {
        let client = || match channel(&endpoint) {
            Ok(channel) => Ok(BrokerClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)),
            Err(invalid) => Err(words::unavailable(invalid.to_string())),
        };
        let reads = (0..READ_CONNECTIONS).map(|_| client()).collect::<Result<_, _>>()?;
        Ok(Self { appends: client()?, reads, turn: 0, endpoint, silent_until: None })
    }

    fn next_for_reads(&mut self) -> Client {
        self.turn = (self.turn + 1) % self.reads.len();
        self.reads[self.turn].clone()
    }
}

pub(super) fn internal_endpoint(image: &Image, id: NodeId) -> Result<String, Error> {
    let node =
        image.node(id).ok_or_else(|| words::unavailable(format!("node {id} is not registered")))?;
    let endpoint = node.endpoint(Endpoint::INTERNAL).ok_or_else(|| {
        words::unavailable(format!(
            "node {id} has no address for other nodes ({})",
            Endpoint::INTERNAL
        ))
    })?;
    Ok(endpoint.address())
}
