//! Requests of other nodes and of the gateway, open to the fuzzer: from a message to what the metadata core is asked. Each is understood
//! or refused with a status.

use thalweg_proto::internal::controller::v1 as proto;
use thalweg_types::{TopicId, Uuid};

use super::{replicas, translate, unclean};

pub fn register_node(request: proto::RegisterNodeRequest) {
    let _ = translate::register_node(request);
}

pub fn heartbeat(request: &proto::HeartbeatRequest) {
    let _ = translate::heartbeat(request);
}

pub fn create_topics(request: proto::CreateTopicsRequest) {
    let asked = request.topics.len();
    let topics = translate::new_topics(request.topics, || TopicId(Uuid::from_random_bits(1)));
    assert!(topics.is_err() || topics.is_ok_and(|topics| topics.len() == asked));
}

pub fn delete_topics(request: proto::DeleteTopicsRequest) {
    let asked = request.topics.len();
    let topics = translate::topic_references(request.topics);
    assert!(topics.is_err() || topics.is_ok_and(|topics| topics.len() == asked));
}

pub fn create_partitions(request: proto::CreatePartitionsRequest) {
    let asked = request.topics.len();
    assert_eq!(translate::create_partitions(request).topics.len(), asked);
}

pub fn alter_configs(request: proto::AlterConfigsRequest) {
    let asked = request.resources.len();
    let alterations = translate::alter_configs(request);
    assert!(alterations.is_err() || alterations.is_ok_and(|all| all.resources.len() == asked));
}

pub fn update_features(request: proto::UpdateFeaturesRequest) {
    let asked = request.updates.len();
    let updates = translate::feature_updates(request.updates);
    assert!(updates.is_err() || updates.is_ok_and(|all| all.len() == asked));
}

pub fn alter_partitions(request: proto::AlterPartitionsRequest) {
    let asked = request.proposals.len();
    let proposals = replicas::read_proposals(request);
    assert!(proposals.is_err() || proposals.is_ok_and(|all| all.len() == asked));
}

pub fn report_unfit_replicas(request: proto::ReportUnfitReplicasRequest) {
    let _ = replicas::read_unfit(request);
}

pub fn reassign(request: proto::ReassignRequest) {
    let asked = request.moves.len();
    let moves = replicas::read_moves(request);
    assert!(moves.is_err() || moves.is_ok_and(|all| all.len() == asked));
}

pub fn elect_preferred_leaders(request: proto::ElectPreferredLeadersRequest) {
    let _ = replicas::read_elections(request);
}

pub fn elect_unclean_leaders(request: proto::ElectUncleanLeadersRequest) {
    let asked = request.partitions.len();
    let partitions = unclean::read(request.partitions);
    assert!(partitions.is_err() || partitions.is_ok_and(|all| all.len() == asked));
}
