//! An honest little broker: keeps batches, waits for records, checks what the log checks.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use thalweg_gateway::port::{
    BrokerPort, FetchCall, FetchPartition, Fetched, FetchedPartition, ListedOffset, OffsetQuery,
    ProduceCall, Produced,
};
use thalweg_metadata_core::ConfigTarget;
use thalweg_metadata_core::config::{
    Entry, StaticConfigs, describe_all_brokers, describe_broker, describe_topic,
};
use thalweg_metadata_feed::Feed;
use thalweg_record::{BatchHeader, ProduceLimits, check_produced, stamp};
use thalweg_rpc::{Error, LeaderHint};
use thalweg_types::{
    Acks, ErrorCode, IsolationLevel, LeaderEpoch, LogIndex, NodeId, Offset, PartitionIndex,
    ProducerEpoch, ProducerId, Timestamp, TopicName, TopicPartition,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::controller::BROKER;

/// Batches in order, as they were appended.
type Log = Vec<(BatchHeader, Bytes)>;

pub(crate) struct MemoryBroker {
    feed: Feed,
    logs: Mutex<BTreeMap<(TopicName, PartitionIndex), Log>>,
    appended: watch::Sender<u64>,
    /// While false, batches are appended but not acknowledged.
    acknowledges: watch::Sender<bool>,
    next_producer_id: AtomicI64,
    /// Partitions with this number are led by somebody else.
    pub(crate) foreign_partition: Option<PartitionIndex>,
    pub(crate) fetches: AtomicUsize,
}

impl MemoryBroker {
    pub(crate) fn new(feed: Feed) -> Self {
        Self {
            feed,
            logs: Mutex::default(),
            appended: watch::Sender::new(0),
            acknowledges: watch::Sender::new(true),
            next_producer_id: AtomicI64::new(1000),
            foreign_partition: None,
            fetches: AtomicUsize::new(0),
        }
    }

    pub(crate) fn acknowledge(&self, acknowledges: bool) {
        self.acknowledges.send_replace(acknowledges);
    }

    /// Batches of a partition as they lie in the log.
    pub(crate) fn batches(&self, topic: &str, partition: i32) -> Vec<Bytes> {
        let key = (TopicName::new(topic).unwrap(), PartitionIndex(partition));
        let logs = self.logs.lock().unwrap();
        logs.get(&key).into_iter().flatten().map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Waits until a partition holds so many records.
    pub(crate) async fn wait_for_records(&self, topic: &str, partition: i32, count: i64) {
        let name = TopicName::new(topic).unwrap();
        let mut appended = self.appended.subscribe();
        let reached = appended.wait_for(|_| self.end(&name, PartitionIndex(partition)).0 >= count);
        tokio::time::timeout(Duration::from_secs(30), reached).await.expect("in time").unwrap();
    }

    fn end(&self, topic: &TopicName, partition: PartitionIndex) -> Offset {
        let logs = self.logs.lock().unwrap();
        let last = logs.get(&(topic.clone(), partition)).and_then(|log| log.last().cloned());
        last.map_or(Offset::ZERO, |(header, _)| header.next_offset())
    }

    fn check(&self, topic: &TopicName, partition: PartitionIndex) -> Result<(), Error> {
        if self.feed.image().partition(topic.as_str(), partition).is_none() {
            let code = ErrorCode::UnknownTopicOrPartition;
            return Err(Error::new(code, format!("no partition {topic}-{partition}")));
        }
        if self.foreign_partition == Some(partition) {
            let leader = LeaderHint {
                partition: TopicPartition { topic: topic.clone(), partition },
                node_id: NodeId(9),
                leader_epoch: LeaderEpoch(4),
                endpoint: Some("elsewhere:50051".to_owned()),
            };
            return Err(Error::from(ErrorCode::NotLeaderOrFollower).with_leader(leader));
        }
        Ok(())
    }

    fn append(&self, call: ProduceCall) -> Result<Produced, Error> {
        self.check(&call.topic, call.partition)?;
        let mut batch = call.batch;
        check_produced(&batch, &ProduceLimits::default())
            .map_err(|error| Error::new(error.code(), error.to_string()).not_applied())?;
        let base_offset = self.end(&call.topic, call.partition);
        stamp(&mut batch, base_offset, LeaderEpoch(0));
        let header = BatchHeader::parse(&batch).unwrap();
        let key = (call.topic, call.partition);
        self.logs.lock().unwrap().entry(key).or_default().push((header, batch.freeze()));
        self.appended.send_modify(|count| *count += 1);
        Ok(Produced { base_offset, log_append_time: None, log_start_offset: Offset::ZERO })
    }

    fn read(&self, wanted: &FetchPartition, left_bytes: usize) -> Result<Fetched, Error> {
        self.check(&wanted.topic, wanted.partition)?;
        let end = self.end(&wanted.topic, wanted.partition);
        if wanted.offset > end {
            let message = format!("offset {} is beyond the end {end}", wanted.offset);
            return Err(Error::new(ErrorCode::OffsetOutOfRange, message));
        }
        let logs = self.logs.lock().unwrap();
        let log = logs.get(&(wanted.topic.clone(), wanted.partition));
        let mut batches: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        for (header, batch) in log.into_iter().flatten() {
            if header.next_offset() <= wanted.offset {
                continue;
            }
            bytes += batch.len();
            if !batches.is_empty() && bytes > wanted.max_bytes.min(left_bytes) {
                break;
            }
            batches.push(batch.clone());
        }
        Ok(Fetched {
            high_watermark: end,
            last_stable_offset: end,
            log_start_offset: Offset::ZERO,
            batches,
        })
    }

    fn read_all(&self, call: &FetchCall) -> (Vec<FetchedPartition>, usize, bool) {
        let (mut total_bytes, mut has_error) = (0, false);
        let mut answers = Vec::new();
        for wanted in &call.partitions {
            let left_bytes = call.max_bytes.saturating_sub(total_bytes);
            let mut result = self.read(wanted, left_bytes);
            match &mut result {
                Ok(fetched) if left_bytes == 0 => fetched.batches.clear(),
                Ok(fetched) => total_bytes += fetched.batches.iter().map(Bytes::len).sum::<usize>(),
                Err(_) => has_error = true,
            }
            answers.push(FetchedPartition {
                topic: wanted.topic.clone(),
                partition: wanted.partition,
                result,
            });
        }
        (answers, total_bytes, has_error)
    }
}

impl BrokerPort for MemoryBroker {
    async fn produce(&self, call: ProduceCall) -> Result<Produced, Error> {
        let (acks, timeout) = (call.acks, call.timeout);
        let produced = self.append(call)?;
        if acks == Acks::None {
            let nowhere = Offset::NONE;
            return Ok(Produced { base_offset: nowhere, log_start_offset: nowhere, ..produced });
        }
        let mut acknowledges = self.acknowledges.subscribe();
        let acknowledged = acknowledges.wait_for(|yes| *yes);
        match tokio::time::timeout(timeout, acknowledged).await {
            Ok(_) => Ok(produced),
            Err(_) => Err(Error::timed_out(timeout)),
        }
    }

    async fn fetch(&self, call: FetchCall) -> Result<Vec<FetchedPartition>, Error> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let mut appended = self.appended.subscribe();
        let give_up_at = Instant::now() + call.max_wait;
        loop {
            appended.borrow_and_update();
            let (answers, bytes, has_error) = self.read_all(&call);
            if bytes >= call.min_bytes || has_error {
                return Ok(answers);
            }
            if tokio::time::timeout_at(give_up_at, appended.changed()).await.is_err() {
                return Ok(answers);
            }
        }
    }

    async fn list_offset(
        &self,
        topic: TopicName,
        partition: PartitionIndex,
        at: OffsetQuery,
        _: IsolationLevel,
    ) -> Result<Option<ListedOffset>, Error> {
        self.check(&topic, partition)?;
        let end = self.end(&topic, partition);
        let place = |offset| ListedOffset {
            offset,
            timestamp: Timestamp::NONE,
            leader_epoch: LeaderEpoch(0),
        };
        let logs = self.logs.lock().unwrap();
        let log = logs.get(&(topic, partition)).map_or(&[][..], |log| log);
        // Batches of one record are enough here: the first offset of a batch stands for it.
        let found = |(header, _): &(BatchHeader, Bytes)| ListedOffset {
            offset: header.base_offset,
            timestamp: header.max_timestamp,
            leader_epoch: header.leader_epoch,
        };
        Ok(match at {
            OffsetQuery::Earliest => Some(place(Offset::ZERO)),
            OffsetQuery::Latest => Some(place(end)),
            OffsetQuery::MaxTimestamp => {
                log.iter().max_by_key(|(header, _)| header.max_timestamp).map(found)
            }
            OffsetQuery::Timestamp(time) => {
                log.iter().find(|(header, _)| header.max_timestamp >= time).map(found)
            }
        })
    }

    async fn describe_configs(&self, target: ConfigTarget) -> Result<Vec<Entry>, Error> {
        let image = self.feed.image();
        let settings = StaticConfigs::new([("log.retention.hours", "2")]).unwrap();
        let unknown = || Error::from(ErrorCode::UnknownTopicOrPartition);
        match target {
            ConfigTarget::Topic(name) => {
                let topic = image.topic(&name).ok_or_else(unknown)?;
                Ok(describe_topic(&image, topic.id, Some(BROKER), &settings))
            }
            ConfigTarget::Broker(id) if id == BROKER => {
                Ok(describe_broker(&image, Some(BROKER), &settings))
            }
            ConfigTarget::Broker(_) => Err(ErrorCode::InvalidRequest.into()),
            ConfigTarget::Cluster => Ok(describe_all_brokers(&image)),
        }
    }

    async fn served(&self, index: LogIndex) {
        assert!(self.feed.image().position().index >= index, "nothing is hosted here");
    }

    async fn init_producer(&self) -> Result<(ProducerId, ProducerEpoch), Error> {
        let id = self.next_producer_id.fetch_add(1, Ordering::SeqCst);
        Ok((ProducerId(id), ProducerEpoch(0)))
    }
}
