//! One member of a group.

use std::sync::Arc;

use bytes::Bytes;

use thalweg_types::{InstanceId, MemberId, Moment, Uuid};

use crate::effects::Token;
use crate::request::{Client, Join, Protocol};

/// How much of a client's own text becomes part of its member id.
const ID_PREFIX_BYTES_MAX: usize = 255;

#[derive(Debug)]
pub(super) struct Member {
    /// Static members have one.
    pub(super) instance: Option<InstanceId>,
    pub(super) client: Client,
    /// Its favourite first, each name once.
    pub(super) protocols: Vec<Protocol>,
    pub(super) session_timeout_ms: u64,
    pub(super) rebalance_timeout_ms: u64,
    /// Its share of this generation, or of the one before while a new one is made.
    pub(super) assignment: Bytes,
    /// Has joined the coming generation, and waits for it to begin.
    pub(super) joining: Option<Token>,
    /// Waits for its share.
    pub(super) syncing: Option<Token>,
    /// Was never in a generation. Such a one is not known to be there by its waiting alone, for nobody may be waiting any more.
    pub(super) is_new: bool,
    /// It was given its id before it joined. Who was not learns it from the answer only, and cannot come back when that gets lost.
    pub(super) knows_its_id: bool,
    /// When its silence has lasted too long.
    pub(super) expires_at: Moment,
}

impl Member {
    pub(super) fn new(client: Client, join: &Join) -> Self {
        let mut member = Self {
            instance: join.instance.clone(),
            client,
            protocols: Vec::new(),
            session_timeout_ms: 0,
            rebalance_timeout_ms: 0,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            is_new: true,
            knows_its_id: !join.member.is_empty(),
            expires_at: Moment(u64::MAX),
        };
        member.update(join);
        member
    }

    /// Takes over what the member says when it joins again.
    pub(super) fn update(&mut self, join: &Join) {
        self.protocols = join.protocols.clone();
        self.session_timeout_ms = join.session_timeout_ms.max(0) as u64;
        self.rebalance_timeout_ms = join.rebalance_timeout_ms.max(0) as u64;
    }

    pub(super) fn is_static(&self) -> bool {
        self.instance.is_some()
    }

    /// Whether silence ends its membership at this moment. Who waits for us cannot speak.
    pub(super) fn is_expired(&self, now: Moment) -> bool {
        let waits = !self.is_new && (self.joining.is_some() || self.syncing.is_some());
        self.expires_at <= now && !waits
    }

    /// Whether it offers the same as before, down to the metadata.
    pub(super) fn offers(&self, protocols: &[Protocol]) -> bool {
        self.protocols == protocols
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let offered = self.protocols.iter().find(|offered| *offered.name == *protocol);
        offered.map(|offered| offered.metadata.clone()).unwrap_or_default()
    }

    pub(super) fn metadata_bytes(&self) -> usize {
        metadata_bytes(&self.protocols)
    }
}

/// What the protocols of a member take.
pub(super) fn metadata_bytes(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

/// Each name once, where it came first.
pub(super) fn unique(protocols: &[Protocol]) -> Vec<Protocol> {
    let mut unique: Vec<Protocol> = Vec::with_capacity(protocols.len());
    for protocol in protocols {
        if unique.iter().all(|known| known.name != protocol.name) {
            // Its own copy: metadata must not keep the whole request in memory.
            let metadata = Bytes::copy_from_slice(&protocol.metadata);
            unique.push(Protocol { name: Arc::clone(&protocol.name), metadata });
        }
    }
    unique
}

/// An id that nobody had before, in Kafka's form: a word that people recognise, and randomness.
pub(super) fn make_id(client: &Client, instance: Option<&InstanceId>, fresh: Uuid) -> MemberId {
    let word: Arc<str> = instance.map_or_else(|| Arc::clone(&client.id), InstanceId::shared);
    let mut end = word.len().min(ID_PREFIX_BYTES_MAX);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    MemberId::from(format!("{}-{fresh}", &word[..end]))
}
