//! What every gRPC client sees: reflection, health, compression, metrics.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use http_body::Body as _;
use prost::Message as _;
use thalweg_proto::consumer::v1 as consumer;
use thalweg_proto::producer::v1 as producer;
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, Outcome};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt as _;

use crate::rig::{Rig, from, values};

/// The services by reflection, and whether the file of one of their messages is known.
macro_rules! reflected {
    ($version:ident, $rig:expr) => {{
        use reflection::server_reflection_client::ServerReflectionClient;
        use reflection::server_reflection_request::MessageRequest;
        use reflection::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::$version as reflection;
        let ask = |message| reflection::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let questions = vec![
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("thalweg.common.v1.ErrorDetail".to_owned())),
        ];
        let mut client = ServerReflectionClient::new($rig.channel.clone());
        let mut answers = client
            .server_reflection_info(tokio_stream::iter(questions))
            .await
            .unwrap()
            .into_inner();
        let listed = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(listed)) = listed else {
            panic!("{listed:?}")
        };
        let file = answers.message().await.unwrap().unwrap().message_response;
        assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
        let mut names: Vec<String> =
            listed.service.into_iter().map(|service| service.name).collect();
        names.sort();
        names
    }};
}

#[tokio::test]
async fn reflection_lists_the_public_services_in_both_versions() {
    let rig = Rig::start(&[]).await;
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "thalweg.admin.v1.Admin",
        "thalweg.consumer.v1.Consumer",
        "thalweg.producer.v1.Producer",
    ];
    assert_eq!(reflected!(v1, rig), expected);
    assert_eq!(reflected!(v1alpha, rig), expected);
}

#[tokio::test]
async fn health_is_known_for_every_service() {
    let rig = Rig::start(&[]).await;
    let mut client = HealthClient::new(rig.channel.clone());
    for service in ["", "thalweg.producer.v1.Producer", "thalweg.admin.v1.Admin"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let request = HealthCheckRequest { service: "no.such.Service".to_owned() };
    assert!(client.check(request).await.is_err());
}

#[tokio::test]
async fn messages_may_be_compressed_both_ways() {
    let rig = Rig::start(&[("orders", 1)]).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = rig.producer().send_compressed(encoding).accept_compressed(encoding);
        let answer = client.produce(values("orders", &[&"x".repeat(100_000)])).await.unwrap();
        assert_eq!(answer.into_inner().partitions[0].record_count, 1);
    }
}

#[tokio::test]
async fn answers_are_compressed_only_for_clients_that_compress() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(values("orders", &["a"])).await;
    let unary = ("/thalweg.admin.v1.Admin/DescribeCluster", Vec::new());
    let start = consumer::FetchStreamStart {
        partitions: vec![from("orders", 0, 0)],
        credit_bytes: 1,
        ..Default::default()
    };
    let start = consumer::FetchStreamRequest {
        message: Some(consumer::fetch_stream_request::Message::Start(start)),
    };
    let stream = ("/thalweg.consumer.v1.Consumer/FetchStream", start.encode_to_vec());
    for (path, message) in [unary, stream] {
        assert_eq!(first_flag(&rig, path, &message, None).await, 0, "merely could read it");
        assert_eq!(first_flag(&rig, path, &message, Some("gzip")).await, 1);
    }
}

/// Whether the answer to a call is compressed: the first byte of a gRPC message says so.
async fn first_flag(rig: &Rig, path: &str, message: &[u8], encoding: Option<&str>) -> u8 {
    let mut request = http::Request::post(format!("http://gateway{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-accept-encoding", "gzip,zstd");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    // Not compressed itself, which a message may always be; then its length.
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let body = Body::new(String::from_utf8(frame).expect("small numbers and text"));
    let answer = rig.channel.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let mut answer = answer.into_body();
    let frame = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await.unwrap().unwrap();
    frame.into_data().expect("a message comes before the trailers")[0]
}

#[tokio::test]
async fn a_compressed_bomb_is_too_large_and_nothing_is_applied() {
    let rig = Rig::start(&[("orders", 1)]).await;
    let mut client = rig.producer().send_compressed(CompressionEncoding::Zstd);
    let bomb = values("orders", &[&"x".repeat(60 << 20)]);
    let error = Error::from(client.produce(bomb).await.unwrap_err());
    assert_eq!((error.code, error.outcome), (ErrorCode::MessageTooLarge, Outcome::NotApplied));
    assert!(rig.broker.batches("orders", 0).is_empty());
}

#[tokio::test]
async fn a_callers_deadline_ends_a_produce_that_waits() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.broker.acknowledge(false);
    let mut request = tonic::Request::new(values("orders", &["a"]));
    request.set_timeout(Duration::from_millis(500));
    let error = Error::from(rig.producer().produce(request).await.unwrap_err());
    assert_eq!((error.code, error.outcome), (ErrorCode::RequestTimedOut, Outcome::Unknown));
}

#[tokio::test]
async fn calls_and_bytes_are_counted() {
    let rig = Rig::start(&[("orders", 1)]).await;
    rig.produce(values("orders", &["a", "b"])).await;
    let _ = rig.refused(producer::ProduceRequest::default()).await;
    // A call is counted when its last frame is handed over, which may be a moment after the client has it.
    let mut text = String::new();
    for _ in 0..100 {
        text = rig.registry.encode().unwrap();
        if text.contains("INVALID_ARGUMENT") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let method = "method=\"thalweg.producer.v1.Producer/Produce\"";
    for line in [
        "thalweg_gateway_produced_records_total 2".to_owned(),
        format!("thalweg_gateway_calls_total{{{method},code=\"OK\"}} 1"),
        format!("thalweg_gateway_calls_total{{{method},code=\"INVALID_ARGUMENT\"}} 1"),
        "thalweg_gateway_calls_in_flight 0".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} not in\n{text}");
    }
}
