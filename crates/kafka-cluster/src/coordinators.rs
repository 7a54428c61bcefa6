//! FindCoordinator: who coordinates a group, as the image says.
//!
//! The topic that holds the groups is made when the first coordinator is asked for. Until it is there, while nobody coordinates the group's
//! partition and while the one who does is about to go, a client is told to ask again.

use thalweg_controller_client::NewTopic;
use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::find_coordinator::Coordinator;
use thalweg_kafka::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use thalweg_types::{ErrorCode, NodeId};

use crate::{Member, View};

/// First version that asks for several coordinators at once (KIP-699).
const MANY_KEYS_SINCE: i16 = 4;

/// The kinds of keys.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Holds the groups.
const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What a client is told when it may ask again.
const NO_COORDINATOR: &str = "no coordinator serves this group at present";
const NO_TRANSACTIONS: &str = "no coordinator serves transactions or share groups in this cluster";

pub(crate) async fn find_coordinator<M: Member>(
    member: &M,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = match version {
        ..MANY_KEYS_SINCE => vec![request.key],
        _ => request.coordinator_keys,
    };
    if request.key_type == GROUP && !keys.is_empty() {
        make_offsets_topic(member).await;
    }
    let image = member.image();
    let view = member.view(&image);
    let mut found = keys.into_iter().map(|key| find(&view, request.key_type, key));
    if version >= MANY_KEYS_SINCE {
        return FindCoordinatorResponse { coordinators: found.collect(), ..Default::default() };
    }
    let found = found.next().unwrap_or_default();
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

/// Once there is somebody to write to it. What fails is answered by the image afterwards: nobody coordinates the group.
async fn make_offsets_topic<M: Member>(member: &M) {
    let image = member.image();
    if image.topic(OFFSETS_TOPIC).is_some() || image.live_coordinators().next().is_none() {
        return;
    }
    let topics = vec![NewTopic::with_defaults(OFFSETS_TOPIC)];
    match member.controller().create_topics(topics, false).await {
        Ok(answer) => {
            // Somebody else may have been faster.
            let refused = answer.items.iter().filter_map(|item| item.as_ref().err());
            for error in refused.filter(|error| error.code != ErrorCode::TopicAlreadyExists) {
                tracing::warn!(%error, topic = OFFSETS_TOPIC, "could not be created");
            }
            member.served(answer.index).await;
        }
        Err(error) => tracing::warn!(%error, topic = OFFSETS_TOPIC, "could not be created"),
    }
}

fn find(view: &View<'_>, key_type: i8, key: KafkaString) -> Coordinator {
    let refused = |key, code: ErrorCode, message: &str| Coordinator {
        key,
        node_id: NodeId::NONE.0,
        port: -1,
        error_code: code.code(),
        error_message: Some(KafkaString::from(message)),
        ..Default::default()
    };
    match key_type {
        GROUP => {}
        TRANSACTION | SHARE => {
            return refused(key, ErrorCode::CoordinatorNotAvailable, NO_TRANSACTIONS);
        }
        _ => return refused(key, ErrorCode::InvalidRequest, "unknown kind of coordinator"),
    }
    let partition = view.image().group_partition(&key);
    let Some(node) = partition.and_then(|partition| view.coordinator(partition)) else {
        return refused(key, ErrorCode::CoordinatorNotAvailable, NO_COORDINATOR);
    };
    Coordinator {
        key,
        node_id: node.id.0,
        host: (&*node.host).into(),
        port: i32::from(node.port),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Listed;
    use crate::sample::{self, coordinator, gateway};

    fn found(view: &View<'_>, group: &str) -> (i32, i16) {
        let found = find(view, GROUP, group.into());
        assert_eq!(&*found.key, group);
        (found.node_id, found.error_code)
    }

    #[test]
    fn a_group_is_sent_to_the_coordinator_of_its_partition() {
        let nodes = [coordinator(7, false), coordinator(8, false)];
        let image = sample::coordinated(50, &nodes);
        let view = View::direct(&image, NodeId(1));
        let mut nodes = BTreeSet::new();
        for group in (0..100).map(|number| format!("group-{number}")) {
            let partition = image.group_partition(&group).unwrap();
            let node = image.coordinator_of(partition).unwrap().node.unwrap();
            assert_eq!(found(&view, &group), (node.0, 0));
            nodes.insert(node);
        }
        assert_eq!(nodes.len(), 2, "both are used");
        let answer = find(&view, GROUP, "g".into());
        assert_eq!((&*answer.host, answer.port), (&*format!("host-{}", answer.node_id), 9092));
    }

    #[test]
    fn through_gateways_a_group_is_sent_to_one_of_them() {
        let nodes = [coordinator(7, false), gateway(8, false), gateway(9, false)];
        let image = sample::coordinated(50, &nodes);
        let me = Listed { id: NodeId(8), host: "me".into(), port: 1, rack: None, fenced: false };
        let view = View::through_gateways(&image, me);
        let (node, code) = found(&view, "g");
        assert!([8, 9].contains(&node) && code == 0, "{node} {code}");
    }

    #[test]
    fn who_cannot_be_told_a_coordinator_may_ask_again() {
        let unavailable = ErrorCode::CoordinatorNotAvailable.code();
        let no_topic = sample::with_nodes(&[], &[coordinator(7, false)]);
        assert_eq!(found(&View::direct(&no_topic, NodeId(1)), "g"), (-1, unavailable));
        let nobody = sample::coordinated(50, &[]);
        assert_eq!(found(&View::direct(&nobody, NodeId(1)), "g"), (-1, unavailable));
        let stopping = sample::coordinated(50, &[coordinator(7, true)]);
        assert_eq!(found(&View::direct(&stopping, NodeId(1)), "g"), (-1, unavailable));
        let view = View::direct(&nobody, NodeId(1));
        assert_eq!(find(&view, TRANSACTION, "t".into()).error_code, unavailable);
        assert_eq!(find(&view, 9, "t".into()).error_code, ErrorCode::InvalidRequest.code());
    }
}
