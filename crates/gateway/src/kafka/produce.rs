//! Produce: every batch is handed over in the order asked before anything is waited for; then all are awaited together.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{join_all, maybe_done};
use thalweg_kafka::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, TopicProduceResponse,
};
use thalweg_kafka::messages::{ProduceRequest, ProduceResponse};
use thalweg_kafka::{KafkaString, Reply, Response};
use thalweg_metadata_core::Image;
use thalweg_record::BatchHeader;
use thalweg_rpc::Error;
use thalweg_types::{Acks, CompressionType, ErrorCode, Offset, PartitionIndex, TopicName};

use super::KafkaBackend;
use super::words::{TopicRef, produce_code};
use crate::port::{BrokerPort as _, ProduceCall, Produced};

/// First version that may carry zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// First version that names topics by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;

/// Time to find a leader, however short the producer waits for replicas.
const ROUTING_TIME_MIN: Duration = Duration::from_secs(2);

/// Who waits for no replica has the time of Kafka's default, `request.timeout.ms`.
const UNREPLICATED_TIME_MAX: Duration = Duration::from_secs(30);

pub(super) async fn produce(
    backend: &KafkaBackend,
    version: i16,
    request: ProduceRequest,
) -> Reply {
    let Some(acks) = Acks::from_wire(request.acks) else {
        return Reply::Response(Response::Produce(refuse_all(request)));
    };
    let timeout = time_for(acks, request.timeout_ms);
    let image = backend.parts.feed.image();

    let mut answers = Vec::new();
    let mut shapes = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let named = match version >= TOPIC_IDS_SINCE {
            true => TopicRef::Id(topic.topic_id),
            false => TopicRef::Name(&topic.name),
        };
        let name = named.find(&image);
        shapes.push((topic.name.clone(), topic.topic_id, topic.partition_data.len()));
        for data in topic.partition_data {
            let index = data.index;
            let call = check(&image, &name, version, data, (acks, timeout));
            answers.push(async move {
                let result = match call {
                    Ok(call) => backend.parts.brokers.produce(call).await,
                    Err(refused) => Err(refused),
                };
                (index, result)
            });
        }
    }
    drop(image);
    let answers = all_begun_at_once(answers).await;

    if acks == Acks::None {
        // Without an answer, closing the connection is the only way to say that something was refused.
        let refused = answers.iter().any(|(_, result)| result.is_err());
        return if refused { Reply::Close } else { Reply::None };
    }
    let mut answers = answers.into_iter().map(|(index, result)| partition_response(index, result));
    let responses = shapes.into_iter().map(|(name, topic_id, count)| TopicProduceResponse {
        name,
        topic_id,
        partition_responses: answers.by_ref().take(count).collect(),
    });
    let responses = responses.collect();
    Reply::Response(Response::Produce(ProduceResponse { responses, ..Default::default() }))
}

/// Polls all of them in their order before it waits for any: the first poll hands a batch over, and those of this connection's next
/// request must come behind them.
async fn all_begun_at_once<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut begun: Vec<_> = futures.into_iter().map(|one| Box::pin(maybe_done(one))).collect();
    poll_fn(|context| {
        for one in &mut begun {
            // Whether it is done or not is seen below.
            let _ = one.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    join_all(&mut begun).await;
    begun.into_iter().filter_map(|mut one| one.as_mut().take_output()).collect()
}

/// The batch as it is handed on, or why it is not. What is in it is for the broker to judge.
fn check(
    image: &Image,
    topic: &Result<TopicName, ErrorCode>,
    version: i16,
    data: PartitionProduceData,
    (acks, timeout): (Acks, Duration),
) -> Result<ProduceCall, Error> {
    let refused = |code: ErrorCode| Err(Error::from(code).not_applied());
    let topic = match topic {
        Ok(topic) => topic.clone(),
        Err(code) => return refused(*code),
    };
    let partition = PartitionIndex(data.index);
    if image.partition(topic.as_str(), partition).is_none() {
        return refused(ErrorCode::UnknownTopicOrPartition);
    }
    let batch = data.records.unwrap_or_default();
    if version < ZSTD_SINCE && is_zstd(&batch) {
        return refused(ErrorCode::UnsupportedCompressionType);
    }
    Ok(ProduceCall { topic, partition, batch, acks, timeout, expected_offset: None })
}

/// A tenth less than the client's own patience, so that it hears what became of its batches.
fn time_for(acks: Acks, timeout_ms: i32) -> Duration {
    let asked = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    match acks {
        Acks::All => asked - asked / 10,
        Acks::Leader | Acks::None => UNREPLICATED_TIME_MAX.min(asked - asked / 10),
    }
    .max(ROUTING_TIME_MIN)
}

fn is_zstd(batch: &[u8]) -> bool {
    BatchHeader::parse(batch)
        .is_ok_and(|header| header.attributes.compression() == Some(CompressionType::Zstd))
}

fn partition_response(index: i32, result: Result<Produced, Error>) -> PartitionProduceResponse {
    match result {
        Ok(produced) => PartitionProduceResponse {
            index,
            base_offset: produced.base_offset.0,
            log_append_time_ms: produced.log_append_time.map_or(-1, |time| time.0),
            log_start_offset: produced.log_start_offset.0,
            ..Default::default()
        },
        Err(error) => PartitionProduceResponse {
            index,
            error_code: produce_code(&error).code(),
            base_offset: Offset::NONE.0,
            error_message: Some(KafkaString::from(error.message)),
            ..Default::default()
        },
    }
}

fn refuse_all(request: ProduceRequest) -> ProduceResponse {
    let refuse = |data: PartitionProduceData| PartitionProduceResponse {
        index: data.index,
        error_code: ErrorCode::InvalidRequiredAcks.code(),
        base_offset: Offset::NONE.0,
        ..Default::default()
    };
    let topics = request.topic_data.into_iter();
    let responses = topics.map(|topic| TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: topic.partition_data.into_iter().map(refuse).collect(),
    });
    ProduceResponse { responses: responses.collect(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn batches_are_handed_over_in_order_before_anything_is_waited_for() {
        let order = std::cell::RefCell::new(Vec::new());
        let answered = tokio::sync::Semaphore::new(0);
        let one = |number: usize| {
            let (order, answered) = (&order, &answered);
            async move {
                order.borrow_mut().push(number);
                let _answer = answered.acquire().await.unwrap();
                number
            }
        };
        let mut all = Box::pin(all_begun_at_once((0..500).map(one).collect()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(all.as_mut().poll(&mut context).is_pending());
        assert_eq!(*order.borrow(), (0..500).collect::<Vec<_>>());
        answered.add_permits(1);
        assert_eq!(all.await, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_producer_hears_of_its_batches_before_it_gives_up_and_has_time_for_a_leader_in_any_case() {
        assert_eq!(time_for(Acks::All, 30_000), Duration::from_secs(27));
        assert_eq!(time_for(Acks::All, 0), ROUTING_TIME_MIN);
        assert_eq!(time_for(Acks::All, -1), ROUTING_TIME_MIN);
        assert_eq!(time_for(Acks::Leader, i32::MAX), UNREPLICATED_TIME_MAX);
        assert_eq!(time_for(Acks::None, 10), ROUTING_TIME_MIN);
    }
}
