//! Waiting for a position, and what a subscriber sees while it keeps up and when it does not.

use std::time::Duration;

use thalweg_metadata_core::{Image, Position, Record};
use thalweg_types::{ControllerEpoch, LogIndex, ProducerId, TopicId, Uuid};

use super::*;

fn at(index: u64) -> Position {
    Position { index: LogIndex(index), controller_epoch: ControllerEpoch(1) }
}

fn fact(next: i64) -> Record {
    Record::ProducerIdsAllocated { next_producer_id: ProducerId(next) }
}

#[tokio::test]
async fn waiting_for_an_index_returns_an_image_that_has_it() {
    let (feed, publisher) = Feed::manual(Image::default());
    let waiting = tokio::spawn({
        let feed = feed.clone();
        async move { feed.wait_for(LogIndex(2)).await }
    });
    publisher.apply(at(1), vec![fact(1000)]);
    publisher.apply(at(2), vec![fact(2000)]);
    let image = waiting.await.unwrap().unwrap();
    assert_eq!(image.next_producer_id(), ProducerId(2000));
    assert_eq!(feed.image().position(), at(2));
}

#[tokio::test]
async fn waiting_ends_when_the_feed_does() {
    let (feed, publisher) = Feed::manual(Image::default());
    drop(publisher);
    assert_eq!(feed.wait_for(LogIndex(1)).await, Err(FeedStopped));
}

#[tokio::test]
async fn a_subscriber_gets_the_image_and_then_each_step_once() {
    let (feed, publisher) = Feed::manual(Image::default());
    publisher.apply(at(1), vec![fact(1000)]);
    let mut subscription = feed.subscribe();
    // Between subscribing and the first look: part of the first image, not told again.
    publisher.apply(at(2), vec![fact(2000)]);
    let first = subscription.next().await.unwrap();
    assert!(matches!(&first, Change::Replaced { image, .. } if image.position() == at(2)));

    publisher.apply(at(3), vec![fact(3000)]);
    let Change::Applied { image, records } = subscription.next().await.unwrap() else {
        panic!("a step was expected")
    };
    assert_eq!((image.position(), &*records), (at(3), &[fact(3000)][..]));
    drop(publisher);
    assert_eq!(subscription.next().await.err(), Some(FeedStopped));
}

#[tokio::test]
async fn a_subscriber_too_far_behind_gets_the_whole_image() {
    let (feed, publisher) = Feed::manual(Image::default());
    let mut subscription = feed.subscribe();
    subscription.next().await.unwrap();
    let last = CHANGES_KEPT_MAX as u64 + 10;
    for index in 1..=last {
        publisher.apply(at(index), vec![fact(1000)]);
    }
    let change = subscription.next().await.unwrap();
    assert!(matches!(&change, Change::Replaced { image, .. } if image.position() == at(last)));
    let nothing = tokio::time::timeout(Duration::from_millis(20), subscription.next()).await;
    assert!(nothing.is_err(), "steps up to the whole image are not told again");
}

#[tokio::test]
async fn a_subscriber_too_far_behind_still_learns_what_was_deleted_meanwhile() {
    let topic = |byte| TopicId(Uuid::from_bytes([byte; 16]));
    let deleted = |byte| vec![Record::TopicDeleted { topic_id: topic(byte) }];
    let (feed, publisher) = Feed::manual(Image::default());
    publisher.apply(at(1), deleted(1));
    let mut subscription = feed.subscribe();
    let first = subscription.next().await.unwrap();
    assert!(matches!(first, Change::Replaced { deleted, .. } if deleted.is_empty()));
    publisher.apply(at(2), deleted(2));
    subscription.next().await.unwrap();

    publisher.apply(at(3), deleted(3));
    publisher.apply(at(4), [deleted(4), deleted(5)].concat());
    for index in 5..=5 + CHANGES_KEPT_MAX as u64 {
        publisher.apply(at(index), vec![fact(1000)]);
    }
    let Change::Replaced { deleted, .. } = subscription.next().await.unwrap() else {
        panic!("the whole image was expected")
    };
    assert_eq!(deleted, [topic(3), topic(4), topic(5)]);
}

#[tokio::test]
async fn deletions_are_kept_within_a_bound() {
    let (feed, publisher) = Feed::manual(Image::default());
    for index in 1..=3_u64 {
        let topic_id = TopicId(Uuid::from_bytes([u8::try_from(index).unwrap(); 16]));
        publisher.apply(at(index), vec![Record::TopicDeleted { topic_id }; DELETIONS_KEPT_MAX / 2]);
    }
    let kept = feed.shared.deletions.lock();
    assert_eq!(kept.len(), DELETIONS_KEPT_MAX);
    assert_eq!(kept.front().map(|(index, _)| *index), Some(LogIndex(2)));
}
