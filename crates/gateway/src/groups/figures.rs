//! The lag of groups as figures: looked up again and again, for so many groups and topics as a monitor can bear.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use thalweg_proto::admin::v1 as proto;
use thalweg_rpc::{Deadline, Error};
use tokio::time::{Instant, sleep};

use super::{describe, lag};
use crate::port::BrokerPort;
use crate::shared::Shared;

/// Groups that are looked at, by the order of their ids, and figures that are shown.
const GROUPS_MAX: usize = 200;
const TOPICS_MAX: usize = 1_000;

const LOOKS_IN_FLIGHT_MAX: usize = 4;
const LOOK_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Labels {
    group: String,
    topic: String,
}

/// What is shown.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    records: Family<Labels, Gauge>,
    seconds: Family<Labels, Gauge<f64, AtomicU64>>,
    left_out: Gauge,
    shown: parking_lot::Mutex<Vec<Labels>>,
}

/// The lag of one group in one topic.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct TopicLag {
    records: i64,
    /// Of the partition that is behind the longest; `None`: not known.
    ms: Option<i64>,
}

impl Figures {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "group_lag_records",
            "Records of a topic that a group has not committed",
            self.records.clone(),
        );
        registry.register_with_unit(
            "group_lag",
            "How long the first record of a topic that a group has not committed has been there",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "group_lag_left_out",
            "Groups whose lag is not shown because there are too many, or because it could not be looked up",
            self.left_out.clone(),
        );
    }

    /// Shows what was found, and nothing of what was shown before.
    fn show(&self, found: BTreeMap<Labels, TopicLag>, left_out: usize) {
        let mut shown = self.shown.lock();
        for labels in shown.iter().filter(|labels| !found.contains_key(*labels)) {
            self.records.remove(labels);
            self.seconds.remove(labels);
        }
        for (labels, lag) in &found {
            self.records.get_or_create(labels).set(lag.records);
            match lag.ms {
                Some(ms) => {
                    self.seconds.get_or_create(labels).set(ms as f64 / 1_000.0);
                }
                None => {
                    self.seconds.remove(labels);
                }
            }
        }
        self.left_out.set(i64::try_from(left_out).unwrap_or(i64::MAX));
        *shown = found.into_keys().collect();
    }
}

/// Looks every `interval` until the gateway stops.
pub(crate) async fn keep<B: BrokerPort>(shared: Arc<Shared<B>>, interval: Duration) {
    loop {
        tokio::select! {
            () = shared.stopped() => return,
            () = sleep(interval) => {}
        }
        let deadline = Deadline::at(Instant::now() + LOOK_TIME_MAX);
        match look(&shared, deadline).await {
            Ok((found, left_out)) => shared.metrics.lag.show(found, left_out),
            Err(error) => tracing::debug!(%error, "the lag of groups could not be looked up"),
        }
    }
}

/// The lag of the first groups, and how many others there are.
async fn look<B: BrokerPort>(
    shared: &Shared<B>,
    deadline: Deadline,
) -> Result<(BTreeMap<Labels, TopicLag>, usize), Error> {
    let listed = describe::list(shared, deadline).await?;
    let ids: Vec<_> = listed.groups.into_iter().map(|group| group.group_id).collect();
    let mut left_out = ids.len().saturating_sub(GROUPS_MAX);
    let looks: Vec<_> = ids
        .into_iter()
        .take(GROUPS_MAX)
        .map(|id| async move { lag::lag(shared, &id, true, deadline).await })
        .collect();
    let mut found = BTreeMap::new();
    let mut looks = stream::iter(looks).buffered(LOOKS_IN_FLIGHT_MAX);
    while let Some(looked) = looks.next().await {
        let topics = looked.map(|lag| by_topic(&lag)).unwrap_or_default();
        match topics.len() {
            count if count > 0 && found.len() + count <= TOPICS_MAX => found.extend(topics),
            _ => left_out += 1,
        }
    }
    Ok((found, left_out))
}

fn by_topic(lag: &proto::GroupLag) -> BTreeMap<Labels, TopicLag> {
    let mut topics: BTreeMap<Labels, TopicLag> = BTreeMap::new();
    for row in &lag.partitions {
        let Some(records) = row.lag_records else { continue };
        let labels = Labels { group: lag.group_id.clone(), topic: row.topic.clone() };
        let topic = topics.entry(labels).or_default();
        topic.records = topic.records.saturating_add(records);
        topic.ms = topic.ms.max(row.lag_ms);
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(topic: &str) -> Labels {
        Labels { group: "g".to_owned(), topic: topic.to_owned() }
    }

    fn text(figures: &Figures) -> String {
        let mut registry = Registry::default();
        figures.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn figures_of_topics_that_are_gone_are_not_shown_any_more() {
        let figures = Figures::default();
        let lag = |records, ms| TopicLag { records, ms };
        let found =
            [(labels("a"), lag(3, Some(1_500))), (labels("b"), lag(0, None))].into_iter().collect();
        figures.show(found, 2);
        let shown = text(&figures);
        assert!(shown.contains(r#"group_lag_records{group="g",topic="a"} 3"#), "{shown}");
        assert!(shown.contains(r#"group_lag_seconds{group="g",topic="a"} 1.5"#), "{shown}");
        assert!(!shown.contains(r#"group_lag_seconds{group="g",topic="b"}"#), "{shown}");
        assert!(shown.contains("group_lag_left_out 2"), "{shown}");
        figures.show([(labels("b"), lag(1, None))].into_iter().collect(), 0);
        let shown = text(&figures);
        assert!(!shown.contains(r#"topic="a""#), "{shown}");
        assert!(shown.contains(r#"group_lag_records{group="g",topic="b"} 1"#), "{shown}");
    }

    #[test]
    fn partitions_of_a_topic_are_added_up_and_the_oldest_counts() {
        let row = |topic: &str, lag_records, lag_ms| proto::PartitionLag {
            topic: topic.to_owned(),
            lag_records,
            lag_ms,
            ..Default::default()
        };
        let lag = proto::GroupLag {
            group_id: "g".to_owned(),
            partitions: vec![
                row("a", Some(3), Some(10)),
                row("a", Some(4), Some(70)),
                row("a", None, None),
                row("b", None, None),
            ],
            ..Default::default()
        };
        let expected = TopicLag { records: 7, ms: Some(70) };
        assert_eq!(by_topic(&lag), BTreeMap::from([(labels("a"), expected)]));
    }
}
