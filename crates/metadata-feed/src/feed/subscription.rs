//! Changes of the image, one after the other, for those who must act on each.

use std::sync::Arc;

use thalweg_metadata_core::{Image, Record};
use thalweg_types::{LogIndex, TopicId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Applied, Feed, FeedStopped};

/// One step from an image to a newer one.
#[derive(Debug, Clone)]
pub enum Change {
    /// Look at all of it: the first image, or one that is several steps newer than the last.
    Replaced {
        image: Arc<Image>,
        /// Topics that were deleted in these steps, as far as they are known; they are known unless the feed itself was given an image.
        deleted: Vec<TopicId>,
    },
    /// The facts of one entry, and the image they led to.
    Applied { image: Arc<Image>, records: Arc<[Record]> },
}

/// A reader of changes. A slow one misses steps, never the result: it is then given the whole image.
#[derive(Debug)]
pub struct Subscription {
    feed: Feed,
    changes: Option<broadcast::Receiver<Arc<Applied>>>,
    seen: Option<LogIndex>,
}

impl Subscription {
    pub(super) fn new(feed: &Feed) -> Self {
        let changes = feed.shared.changes.upgrade().map(|changes| changes.subscribe());
        Self { feed: feed.clone(), changes, seen: None }
    }

    /// The next change; the first time the image as it is. An error when the feed has ended.
    pub async fn next(&mut self) -> Result<Change, FeedStopped> {
        if self.seen.is_none() {
            return Ok(self.whole_image());
        }
        loop {
            let changes = self.changes.as_mut().ok_or(FeedStopped)?;
            match changes.recv().await {
                Ok(applied) => {
                    if let Some(change) = self.step(&applied) {
                        return Ok(change);
                    }
                }
                Err(RecvError::Lagged(_)) => return Ok(self.whole_image()),
                Err(RecvError::Closed) => return Err(FeedStopped),
            }
        }
    }

    fn whole_image(&mut self) -> Change {
        let image = self.feed.image();
        let index = image.position().index;
        let before = self.seen.replace(index);
        // Nobody has acted on a topic that was deleted before the first look.
        let deleted = before.map_or_else(Vec::new, |before| {
            let deletions = self.feed.shared.deletions.lock();
            let missed = deletions.iter().filter(|(at, _)| *at > before && *at <= index);
            missed.map(|(_, topic_id)| *topic_id).collect()
        });
        Change::Replaced { image, deleted }
    }

    /// `None` for what an image given out before held already.
    fn step(&mut self, applied: &Applied) -> Option<Change> {
        let index = applied.image.position().index;
        if self.seen.is_some_and(|seen| index <= seen) {
            return None;
        }
        self.seen = Some(index);
        let image = Arc::clone(&applied.image);
        Some(match &applied.records {
            Some(records) => Change::Applied { image, records: Arc::clone(records) },
            None => Change::Replaced { image, deleted: Vec::new() },
        })
    }
}

impl Change {
    /// The image after the change.
    pub fn image(&self) -> &Arc<Image> {
        match self {
            Self::Replaced { image, .. } | Self::Applied { image, .. } => image,
        }
    }
}
