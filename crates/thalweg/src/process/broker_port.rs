//! The gateway's way to the broker in the same process: plain calls, and errors told with outcome and leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thalweg_broker::error::{AppendError, FetchError, ProduceError, Unknown};
use thalweg_broker::fetch::{self, list_offset};
use thalweg_broker::{Broker, Condition, Partition, TopicRef};
use thalweg_gateway::port::{
    BrokerPort, FetchCall, Fetched, FetchedPartition, ListedOffset, OffsetQuery, ProduceCall,
    Produced,
};
use thalweg_metadata_core::config::Entry;
use thalweg_metadata_core::{ConfigTarget, Endpoint};
use thalweg_rpc::Error;
use thalweg_types::{
    Acks, IsolationLevel, LeaderEpoch, LogIndex, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    TopicName, TopicPartition,
};
use tokio::sync::Mutex;

/// A broker as the gateway sees it.
#[derive(Debug)]
pub(super) struct LocalBroker {
    broker: Arc<Broker>,
    /// Who waits for a partition that the metadata gives to this broker and that it has not taken over yet, first come first served.
    newcomers: Mutex<()>,
    newcomer_count: AtomicUsize,
}

impl LocalBroker {
    pub(super) fn new(broker: Arc<Broker>) -> Self {
        Self { broker, newcomers: Mutex::new(()), newcomer_count: AtomicUsize::new(0) }
    }

    /// The partition by name. One that was just made may be in the metadata a moment before the broker serves it; callers wait for it
    /// one behind the other, and newer ones behind them, so that appends keep the order of their calls.
    async fn partition(
        &self,
        topic: &TopicName,
        partition: PartitionIndex,
    ) -> Result<Arc<Partition>, Unknown> {
        let find = || self.broker.partition(&TopicRef::Name(topic.as_str()), partition);
        if self.newcomer_count.load(Ordering::Acquire) == 0 {
            match find() {
                Err(Unknown::Elsewhere { leader, .. }) if leader == self.broker.node_id() => {}
                found => return found,
            }
        }
        let _counted = Counted::new(&self.newcomer_count);
        let _turn = self.newcomers.lock().await;
        match find() {
            Err(Unknown::Elsewhere { leader, .. }) if leader == self.broker.node_id() => {
                self.broker.served(self.broker.image().position().index).await;
                find()
            }
            found => found,
        }
    }

    fn not_produced(&self, error: &ProduceError, at: &TopicPartition) -> Error {
        self.broker.not_produced(error, at, Endpoint::PUBLIC)
    }

    fn unreadable(&self, error: &FetchError, at: &TopicPartition) -> Error {
        self.broker.unreadable(error, at, Endpoint::PUBLIC)
    }
}

impl BrokerPort for LocalBroker {
    async fn produce(&self, call: ProduceCall) -> Result<Produced, Error> {
        let ProduceCall { topic, partition: index, batch, acks, timeout, expected_offset } = call;
        let condition = expected_offset.map(Condition::Offset);
        let at = TopicPartition { topic, partition: index };
        let partition = self
            .partition(&at.topic, index)
            .await
            .map_err(|error| self.not_produced(&AppendError::from(error).into(), &at))?;
        let pending = self
            .broker
            .append_if(&partition, batch, acks, condition.as_ref())
            .await
            .map_err(|error| self.not_produced(&error.into(), &at))?;
        if acks == Acks::None {
            return Ok(Produced {
                base_offset: Offset::NONE,
                log_append_time: None,
                log_start_offset: Offset::NONE,
            });
        }
        let appended = self
            .broker
            .acknowledged(pending, timeout)
            .await
            .map_err(|error| self.not_produced(&error, &at))?;
        Ok(Produced {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
        })
    }

    async fn fetch(&self, call: FetchCall) -> Result<Vec<FetchedPartition>, Error> {
        let mut partitions = Vec::with_capacity(call.partitions.len());
        for wanted in &call.partitions {
            partitions.push(fetch::FetchPartition {
                target: self.partition(&wanted.topic, wanted.partition).await,
                offset: wanted.offset,
                max_bytes: wanted.max_bytes,
                reader_epoch: wanted.current_leader_epoch,
            });
        }
        let broker_call = fetch::FetchCall {
            partitions,
            first: 0,
            min_bytes: call.min_bytes,
            max_bytes: call.max_bytes.min(self.broker.options().fetch_bytes_max),
            max_wait: call.max_wait,
            isolation: call.isolation,
            replicas: fetch::Replicas::default(),
        };
        let results = self.broker.fetch(&broker_call).await;
        let answer = call.partitions.into_iter().zip(results).map(|(wanted, result)| {
            let at = TopicPartition { topic: wanted.topic, partition: wanted.partition };
            let result = match result {
                Ok(fetched) => Ok(Fetched {
                    high_watermark: fetched.high_watermark,
                    last_stable_offset: fetched.last_stable_offset,
                    log_start_offset: fetched.log_start_offset,
                    batches: fetched.batches,
                }),
                Err(error) => Err(self.unreadable(&error, &at)),
            };
            FetchedPartition { topic: at.topic, partition: at.partition, result }
        });
        Ok(answer.collect())
    }

    async fn list_offset(
        &self,
        topic: TopicName,
        partition: PartitionIndex,
        at: OffsetQuery,
        isolation: IsolationLevel,
    ) -> Result<Option<ListedOffset>, Error> {
        let name = TopicPartition { topic, partition };
        let query = match at {
            OffsetQuery::Earliest => fetch::OffsetQuery::Earliest,
            OffsetQuery::Latest => fetch::OffsetQuery::Latest,
            OffsetQuery::MaxTimestamp => fetch::OffsetQuery::MaxTimestamp,
            OffsetQuery::Timestamp(timestamp) => fetch::OffsetQuery::Timestamp(timestamp),
        };
        let found = match self.partition(&name.topic, partition).await {
            Ok(found) => list_offset(&found, query, isolation, LeaderEpoch::NONE).await,
            Err(unknown) => Err(unknown.into()),
        };
        let found = found.map_err(|error| self.unreadable(&error, &name))?;
        Ok(found.map(|found| ListedOffset {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: found.leader_epoch,
        }))
    }

    async fn describe_configs(&self, target: ConfigTarget) -> Result<Vec<Entry>, Error> {
        self.broker
            .describe_configs(&target)
            .map_err(|error| Error::new(error.code(), error.to_string()).not_applied())
    }

    async fn served(&self, index: LogIndex) {
        self.broker.served(index).await;
    }

    async fn init_producer(&self) -> Result<(ProducerId, ProducerEpoch), Error> {
        Ok((self.broker.new_producer_id().await?, ProducerEpoch(0)))
    }
}

/// Counts one for as long as it lives, also when its future is dropped half-way.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
