//! Nodes that stop in good order, are asked to, or are gone.

use thalweg_proto::internal::controller::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId};

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_may_stop_once_every_other_one_knows_who_leads_instead() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 3).await;
    cluster.create(&[&[1, 2, 3]], &[]).await;
    let before = cluster.applied();
    cluster.beat(2, false).await;
    cluster.beat(3, false).await;

    assert!(!cluster.beat(1, true).await.may_shut_down, "nobody knows yet");
    let partition = cluster.partition(0);
    assert_eq!(partition.leader, Some(NodeId(2)));
    assert_eq!(partition.isr, [NodeId(2), NodeId(3)]);
    let told = cluster.applied();
    assert!(told > before);

    cluster.beat_at(2, told, false).await;
    assert!(!cluster.beat(1, true).await.may_shut_down, "broker 3 does not know");
    cluster.beat_at(3, told - 1, false).await;
    assert!(!cluster.beat(1, true).await.may_shut_down, "broker 3 does still not know");
    cluster.beat_at(3, told, false).await;
    let granted = cluster.beat(1, true).await;
    assert!(granted.may_shut_down && granted.fenced);
    assert!(cluster.beat(1, true).await.may_shut_down, "also when the answer was lost");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_stop_reaches_the_session_it_was_meant_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 2).await;
    assert!(!cluster.beat(1, false).await.shutdown_requested);
    let request = proto::RequestShutdownRequest { node_id: 1 };
    let asked = cluster.client.request_shutdown(request).await.unwrap().into_inner();
    assert_eq!(asked.broker_epoch, cluster.epoch(1));
    assert!(!cluster.beat(2, false).await.shutdown_requested);
    assert!(cluster.beat(1, false).await.shutdown_requested);
    assert!(cluster.beat(1, false).await.shutdown_requested, "the first answer may be lost");
    assert!(cluster.beat(1, true).await.may_shut_down || cluster.beat(2, false).await.index > 0);

    cluster.brokers[0] = cluster.register(1, 1).await;
    assert!(!cluster.beat(1, false).await.shutdown_requested, "it has stopped and come back");
    let request = proto::RequestShutdownRequest { node_id: 9 };
    let refused = Error::from(cluster.client.request_shutdown(request).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::BrokerIdNotRegistered);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_node_that_is_gone_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path(), 1).await;
    let unregister = |node_id| proto::UnregisterNodeRequest { node_id };
    let refused = Error::from(cluster.client.unregister_node(unregister(1)).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::InvalidRequest, "it lives");
    assert!(cluster.beat(1, true).await.may_shut_down, "there is no other");
    cluster.client.unregister_node(unregister(1)).await.unwrap();
    let refused = Error::from(cluster.client.unregister_node(unregister(1)).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::BrokerIdNotRegistered);
    let back = cluster.register(1, 2).await;
    assert_eq!(back.node_id, 1, "its id stays its disk's");
    cluster.stop().await;
}
