//! The feed: one node's image, kept up to date from the controller's stream.
//!
//! Only committed entries arrive, in order; the feed insists on it. An entry that does not follow the last one, or comes from an older
//! controller, ends the stream, and the next one begins where the image stands. An image never goes back.

mod follow;
mod subscription;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thalweg_metadata_core::{Image, Position, Record};
use thalweg_rpc::LeaderChannel;
use thalweg_types::{LogIndex, TopicId};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

pub use subscription::{Change, Subscription};

/// Changes a subscriber may be behind before it is given the whole image instead.
const CHANGES_KEPT_MAX: usize = 256;

/// Deletions of topics that such a subscriber still learns of: an image does not show them. What is older goes unnoticed until the next
/// start. Ids and positions only, a few hundred kilobytes.
const DELETIONS_KEPT_MAX: usize = 10_000;

/// Follows the metadata. Cheap to clone; the last clone's end ends the stream.
#[derive(Debug, Clone)]
pub struct Feed {
    shared: Arc<Shared>,
    /// `None` when somebody else publishes ([`Feed::manual`]).
    _task: Option<Arc<Task>>,
}

/// How the feed deals with a controller that cannot be reached.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// Wait before the first try after a failure; doubled with every further one.
    pub retry_first: Duration,
    pub retry_max: Duration,
}

/// The feed has ended; its image will not change any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the metadata feed has ended")]
pub struct FeedStopped;

/// Writes a feed's image by hand: for tests, and for the node that decides itself.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    applied: watch::Sender<LogIndex>,
    trouble: watch::Sender<Option<String>>,
    changes: broadcast::Sender<Arc<Applied>>,
}

/// Facts of one entry, and the image they led to.
#[derive(Debug)]
struct Applied {
    image: Arc<Image>,
    /// `None`: the whole image was replaced.
    records: Option<Arc<[Record]>>,
}

#[derive(Debug)]
struct Shared {
    image: ArcSwap<Image>,
    applied: watch::Receiver<LogIndex>,
    trouble: watch::Receiver<Option<String>>,
    /// The latest, oldest first.
    deletions: Mutex<VecDeque<(LogIndex, TopicId)>>,
    /// Its sender belongs to the publisher: when that goes, subscribers are told.
    changes: broadcast::WeakSender<Arc<Applied>>,
}

/// Ends with its last owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self { retry_first: Duration::from_millis(20), retry_max: Duration::from_secs(2) }
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Feed
// ---------------------------------------------------------------------------------------------------------------------------------

impl Feed {
    /// Follows the controllers behind `channel`, from now until the last clone is dropped. Must be called within a tokio runtime.
    pub fn start(channel: impl Into<LeaderChannel>, options: FeedOptions) -> Self {
        let (feed, publisher) = Self::manual(Image::default());
        let task = tokio::spawn(follow::run(channel.into(), options, publisher));
        Self { _task: Some(Arc::new(Task(task))), ..feed }
    }

    /// A feed that shows what the publisher says.
    pub fn manual(image: Image) -> (Self, Publisher) {
        let (applied_sender, applied) = watch::channel(image.position().index);
        let (trouble_sender, trouble) = watch::channel(None);
        let (changes_sender, _) = broadcast::channel(CHANGES_KEPT_MAX);
        let shared = Arc::new(Shared {
            image: ArcSwap::from_pointee(image),
            applied,
            trouble,
            deletions: Mutex::default(),
            changes: changes_sender.downgrade(),
        });
        let publisher = Publisher {
            shared: Arc::clone(&shared),
            applied: applied_sender,
            trouble: trouble_sender,
            changes: changes_sender,
        };
        (Self { shared, _task: None }, publisher)
    }

    /// The image as it is now: an atomic load, no lock.
    pub fn image(&self) -> Arc<Image> {
        self.shared.image.load_full()
    }

    /// The last applied log index, now and at every change. [`Self::image`] is at least as new.
    pub fn changed(&self) -> watch::Receiver<LogIndex> {
        self.shared.applied.clone()
    }

    /// Why the metadata is not being followed at present, now and at every change: the last stream has ended, and no new one has begun.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.shared.trouble.clone()
    }

    /// Waits until everything up to `index` is applied, and returns an image that new.
    pub async fn wait_for(&self, index: LogIndex) -> Result<Arc<Image>, FeedStopped> {
        let mut applied = self.changed();
        applied.wait_for(|applied| *applied >= index).await.map_err(|_| FeedStopped)?;
        Ok(self.image())
    }

    /// Every change from now on, beginning with the image as it is.
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(self)
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Publisher
// ---------------------------------------------------------------------------------------------------------------------------------

impl Publisher {
    pub fn image(&self) -> Arc<Image> {
        self.shared.image.load_full()
    }

    /// Takes in the facts of one entry, all of them at once.
    pub fn apply(&self, position: Position, records: Vec<Record>) {
        let mut image = Image::clone(&self.image());
        for record in &records {
            image.apply(position, record);
        }
        image.advance(position);
        self.note_deletions(position.index, &records);
        self.publish(image, Some(records.into()));
    }

    /// Replaces everything.
    pub fn replace(&self, image: Image) {
        self.publish(image, None);
    }

    fn note_deletions(&self, index: LogIndex, records: &[Record]) {
        let deleted = records.iter().filter_map(|record| match record {
            Record::TopicDeleted { topic_id } => Some((index, *topic_id)),
            _ => None,
        });
        let mut deletions = self.shared.deletions.lock();
        deletions.extend(deleted);
        let surplus = deletions.len().saturating_sub(DELETIONS_KEPT_MAX);
        deletions.drain(..surplus);
    }

    fn publish(&self, image: Image, records: Option<Arc<[Record]>>) {
        let image = Arc::new(image);
        let index = image.position().index;
        self.shared.image.store(Arc::clone(&image));
        self.applied.send_replace(index);
        // Nobody listening is fine.
        let _ = self.changes.send(Arc::new(Applied { image, records }));
    }
}

#[cfg(test)]
mod tests;
