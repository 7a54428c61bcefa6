//! How many partitions the topic of a request has; creates it first if that was asked for.

use std::time::Duration;

use thalweg_proto::internal::controller::v1 as controller;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{ErrorCode, TopicName};

use super::order::Order;
use crate::port::BrokerPort;
use crate::shared::{Shared, on_behalf};

/// Longest time a creation on the way may take.
const CREATE_TIME_MAX: Duration = Duration::from_secs(15);

/// Leave a count to the cluster's default.
const DEFAULT: i32 = -1;

/// Partitions of the topic (at least 1), and whether it was created just now.
pub(super) async fn partition_count<B: BrokerPort>(
    shared: &Shared<B>,
    order: &Order,
    deadline: Deadline,
) -> Result<(u32, bool), Error> {
    let (count, is_new) = match shared.partition_count(&order.topic) {
        Ok(count) => (count, false),
        Err(_) if order.create_topic => {
            create(shared, &order.topic, deadline).await?;
            (shared.partition_count(&order.topic)?, true)
        }
        Err(unknown) => return Err(unknown),
    };
    match order.partition {
        Some(partition) if u32::try_from(partition.0).is_ok_and(|index| index >= count) => {
            let message = format!("topic {} has {count} partitions, not {partition}", order.topic);
            Err(Error::new(ErrorCode::UnknownTopicOrPartition, message))
        }
        _ => Ok((count, is_new)),
    }
}

async fn create<B: BrokerPort>(
    shared: &Shared<B>,
    topic: &TopicName,
    deadline: Deadline,
) -> Result<(), Error> {
    let request = controller::CreateTopicsRequest {
        topics: vec![controller::NewTopic {
            name: topic.to_string(),
            partition_count: DEFAULT,
            replication_factor: DEFAULT,
            ..Default::default()
        }],
        validate_only: false,
    };
    let request = on_behalf(request, deadline, CREATE_TIME_MAX);
    let answer = shared.controller.clone().create_topics(request).await?.into_inner();
    let refused = answer.topics.into_iter().next().and_then(|topic| topic.error);
    match refused.map(Error::from_detail) {
        // Somebody else was faster.
        Some(error) if error.code != ErrorCode::TopicAlreadyExists => return Err(error),
        _ => shared.see(answer.index, deadline).await,
    }
    Ok(())
}
