//! What an internal topic is made of when nobody says otherwise.
//!
//! They are created on first use, by whichever node is asked first; what they look like is decided here, for all of them alike.

use std::borrow::Cow;

use super::{CreateTopic, static_value};
use crate::decide::Policy;
use crate::image::Image;

/// As Kafka's, for topics that have no setting of their own.
const PARTITION_COUNT: i32 = 50;
const REPLICATION_FACTOR: i16 = 3;

/// The last record of every key is what counts, and acknowledged means on disk. Segments are small, so that loading passes over as little
/// as possible that has been replaced since.
const CONFIGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "producer"),
    ("segment.bytes", "104857600"),
    ("thalweg.durability", "fsync"),
];

/// The request, with what it leaves open filled in if its topic is an internal one.
pub(super) fn completed<'a>(
    image: &Image,
    request: &'a CreateTopic,
    policy: &Policy,
) -> Cow<'a, CreateTopic> {
    let Some((partition_count, replication_factor)) = dimensions(&request.name, policy) else {
        return Cow::Borrowed(request);
    };
    let mut request = request.clone();
    if request.assignments.is_empty() {
        if request.partition_count == -1 {
            request.partition_count = partition_count;
        }
        if request.replication_factor == -1 {
            let live = i16::try_from(image.placeable_brokers().count()).unwrap_or(i16::MAX);
            request.replication_factor = replication_factor.min(live).max(1);
        }
    }
    for (name, value) in CONFIGS {
        if request.configs.iter().all(|(given, _)| given != name) {
            request.configs.push((name.to_owned(), Some(value.to_owned())));
        }
    }
    Cow::Owned(request)
}

/// `None`: not an internal topic.
fn dimensions(name: &str, policy: &Policy) -> Option<(i32, i16)> {
    match name {
        "__consumer_offsets" => Some((
            setting(policy, "offsets.topic.num.partitions").unwrap_or(PARTITION_COUNT),
            setting(policy, "offsets.topic.replication.factor").unwrap_or(REPLICATION_FACTOR),
        )),
        "__transaction_state" | "__share_group_state" => {
            Some((PARTITION_COUNT, REPLICATION_FACTOR))
        }
        _ => None,
    }
}

fn setting<T: std::str::FromStr>(policy: &Policy, name: &str) -> Option<T> {
    static_value(policy, name)?.trim().parse().ok()
}
