//! All fetch sessions of a server (KIP-227): who has one, which request comes next in it, and who must give way when there is no room.
//!
//! ```text
//!  epoch 0 ──► answered in full, kept under a new id ──► epoch 1, 2, ... each once, in order ──► epoch 0 or -1 closes it
//! ```
//!
//! A session belongs to an id, not to a connection, so that any thread may be asked. While a request works with it, it is lent out,
//! and a second request is told that its epoch is wrong: a client has one fetch in flight (KIP-227). Losing a session costs a client
//! one full fetch and never an error its user sees, which is why sessions may be few and are never waited for.
//!
//! Two bounds: how many there are, and the memory of all of them. When a new session does not fit, it takes the place of one that
//! nobody has used for two minutes; or of the smallest that is that old, if it is larger itself, since sessions save the more the
//! larger they are. Otherwise the client gets none, and works without.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thalweg_env::Random;
use thalweg_types::ErrorCode;

use super::{Call, Session};

/// A session unused for this long gives way to any other, and one this old to a larger one (Kafka's
/// `min.incremental.fetch.session.eviction.ms`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// Memory of all sessions: a thousand consumers of 130 partitions each fit, or one of 130,000.
pub const BYTES_MAX: usize = 32 * 1024 * 1024;

/// No session.
pub const NO_SESSION: i32 = 0;

/// The epoch of a request that asks for a new session, and that of one that wants none.
pub const NEW_SESSION: i32 = 0;
pub const WITHOUT_SESSION: i32 = -1;

#[derive(Debug)]
pub struct Sessions<C: Call> {
    cache: Mutex<Cache<C>>,
    random: Arc<dyn Random>,
}

#[derive(Debug)]
struct Cache<C: Call> {
    slots: HashMap<i32, Slot<C>>,
    /// Of all slots.
    bytes: usize,
    slots_max: usize,
    bytes_max: usize,
}

/// A session's place. What is said of a session here holds while it is lent out, too.
#[derive(Debug)]
struct Slot<C: Call> {
    /// `None` while it is lent out.
    session: Option<Session<C>>,
    /// Of the next request.
    epoch: i32,
    by_id: bool,
    partition_count: usize,
    bytes: usize,
    created: Instant,
    used: Instant,
}

/// A session in the hands of one request, given back when this is dropped, however the request ends.
#[derive(Debug)]
pub struct Lent<'a, C: Call> {
    sessions: &'a Sessions<C>,
    id: i32,
    /// Taken only when the session is given back or closed.
    session: Option<Session<C>>,
}

impl<C: Call> Sessions<C> {
    pub fn new(slots_max: usize, bytes_max: usize, random: Arc<dyn Random>) -> Self {
        let cache = Cache { slots: HashMap::new(), bytes: 0, slots_max, bytes_max };
        Self { cache: Mutex::new(cache), random }
    }

    /// Keeps `session`, whose first answer is about to be sent; returns its id, or [`NO_SESSION`].
    pub fn keep(&self, mut session: Session<C>, by_id: bool, now: Instant) -> i32 {
        session.release();
        let (partition_count, bytes) = (session.partition_count(), session.bytes());
        let mut cache = self.cache.lock();
        if !cache.make_room(partition_count, bytes, now) {
            return NO_SESSION;
        }
        let id = self.new_id(&cache);
        cache.bytes += bytes;
        let session = Some(session);
        let slot =
            Slot { session, epoch: 1, by_id, partition_count, bytes, created: now, used: now };
        cache.slots.insert(id, slot);
        id
    }

    /// Lends the session out to the request of this epoch.
    ///
    /// # Errors
    ///
    /// The code that makes a client begin a new session.
    pub fn lend(
        &self,
        id: i32,
        epoch: i32,
        by_id: bool,
        now: Instant,
    ) -> Result<Lent<'_, C>, ErrorCode> {
        let mut cache = self.cache.lock();
        let slot = cache.slots.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if slot.epoch != epoch || slot.session.is_none() {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if slot.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        slot.epoch = next_epoch(epoch);
        slot.used = now;
        Ok(Lent { sessions: self, id, session: slot.session.take() })
    }

    /// Forgets a session, if there is one.
    pub fn close(&self, id: i32) {
        self.cache.lock().remove(id);
    }

    /// How many sessions there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.cache.lock().slots.len()
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.cache.lock().bytes
    }

    /// Takes a session back from a request; that of a slot which has gone meanwhile goes too.
    fn give_back(&self, id: i32, mut session: Session<C>) {
        session.release();
        let (partition_count, bytes) = (session.partition_count(), session.bytes());
        let mut cache = self.cache.lock();
        let Some(slot) = cache.slots.get_mut(&id) else { return };
        let before = slot.bytes;
        slot.partition_count = partition_count;
        slot.bytes = bytes;
        slot.session = Some(session);
        cache.bytes = cache.bytes - before + bytes;
        if cache.bytes > cache.bytes_max {
            // It was allowed to grow by no more than one request; now it must go.
            cache.remove(id);
        }
    }

    /// Positive, of nobody else, and not to be guessed from the ids of others: a client with an old id should not meet a stranger's.
    fn new_id(&self, cache: &Cache<C>) -> i32 {
        loop {
            let id = (self.random.next_u64() >> 33) as i32;
            if id != NO_SESSION && !cache.slots.contains_key(&id) {
                return id;
            }
        }
    }
}

impl<C: Call> Cache<C> {
    /// Makes room for a session of this size, if its use is worth more than what is in its way. Goes over all slots, of which there are
    /// about a thousand, and only when they are full.
    fn make_room(&mut self, partition_count: usize, bytes: usize, now: Instant) -> bool {
        if bytes > self.bytes_max || self.slots_max == 0 {
            return false;
        }
        while self.slots.len() >= self.slots_max || self.bytes + bytes > self.bytes_max {
            let Some(evicted) = self.least_valuable(partition_count, now) else { return false };
            self.remove(evicted);
        }
        true
    }

    fn least_valuable(&self, partition_count: usize, now: Instant) -> Option<i32> {
        let is_old = |since: Instant| now.saturating_duration_since(since) > EVICTABLE_AFTER;
        let (&id, unused) = self.slots.iter().min_by_key(|(id, slot)| (slot.used, **id))?;
        if is_old(unused.used) {
            return Some(id);
        }
        let old = self.slots.iter().filter(|(_, slot)| is_old(slot.created));
        let (&id, smallest) = old.min_by_key(|(id, slot)| (slot.partition_count, **id))?;
        (smallest.partition_count < partition_count).then_some(id)
    }

    fn remove(&mut self, id: i32) {
        if let Some(slot) = self.slots.remove(&id) {
            self.bytes -= slot.bytes;
        }
    }
}

impl<C: Call> Lent<'_, C> {
    pub fn id(&self) -> i32 {
        self.id
    }

    pub fn session(&mut self) -> &mut Session<C> {
        self.session.as_mut().expect("taken only by drop and close, which end the loan")
    }

    /// Ends the session instead of giving it back.
    pub fn close(mut self) {
        self.session = None;
        self.sessions.close(self.id);
    }
}

impl<C: Call> Drop for Lent<'_, C> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.sessions.give_back(self.id, session);
        }
    }
}

/// 0 and below have other meanings.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests;
