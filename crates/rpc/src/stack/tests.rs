//! Each layer, on a live server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use thalweg_proto::producer::v1 as producer;
use thalweg_types::{ErrorCode, Outcome};
use tokio::sync::Notify;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tower::ServiceExt as _;

use super::*;
use crate::{Server, ServerHandle, ServerOptions, channel, channel_in_memory, deadline_of};
use producer::producer_client::ProducerClient;
use producer::producer_server::{Producer, ProducerServer};

/// `InitProducer` waits until it is let go; `Produce` answers the milliseconds left of the deadline; the stream stays open.
#[derive(Default)]
struct Probe {
    let_go: Notify,
    dropped: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl Producer for Probe {
    async fn produce(
        &self,
        request: tonic::Request<producer::ProduceRequest>,
    ) -> Result<tonic::Response<producer::ProduceResponse>, Status> {
        let left = deadline_of(&request).remaining().as_millis().to_string();
        Ok(tonic::Response::new(producer::ProduceResponse { topic: left, partitions: vec![] }))
    }

    type ProduceStreamStream = ReceiverStream<Result<producer::ProduceStreamResponse, Status>>;

    async fn produce_stream(
        &self,
        request: tonic::Request<Streaming<producer::ProduceRequest>>,
    ) -> Result<tonic::Response<Self::ProduceStreamStream>, Status> {
        let (answers, stream) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut requests = request.into_inner();
            while let Ok(Some(_)) = requests.message().await {}
            drop(answers);
        });
        Ok(tonic::Response::new(ReceiverStream::new(stream)))
    }

    async fn init_producer(
        &self,
        _: tonic::Request<producer::InitProducerRequest>,
    ) -> Result<tonic::Response<producer::InitProducerResponse>, Status> {
        let _counted = CountDrop(Arc::clone(&self.dropped));
        self.let_go.notified().await;
        Ok(tonic::Response::new(producer::InitProducerResponse::default()))
    }
}

/// Remembers what it is told.
#[derive(Default)]
struct Log {
    started: AtomicUsize,
    finished: Mutex<Vec<(String, Code)>>,
}

impl CallObserver for Log {
    fn started(&self) {
        self.started.fetch_add(1, Ordering::SeqCst);
    }

    fn finished(&self, method: &str, code: Code, _: Duration) {
        self.finished.lock().unwrap().push((method.to_owned(), code));
    }
}

impl Log {
    async fn wait_for(&self, count: usize) -> Vec<(String, Code)> {
        for _ in 0..400 {
            let finished = self.finished.lock().unwrap().clone();
            if finished.len() >= count {
                return finished;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("only {:?} finished", self.finished.lock().unwrap());
    }
}

struct Live {
    server: ServerHandle,
    channel: Channel,
    probe: Arc<Probe>,
    log: Arc<Log>,
}

fn live(options: ServerOptions) -> Live {
    let probe = Arc::new(Probe::default());
    let log = Arc::new(Log::default());
    let routes = Routes::new().with(ProducerServer::from_arc(Arc::clone(&probe)));
    let observer: Arc<dyn CallObserver> = log.clone();
    let server = Server::new(options)
        .observer(observer)
        .serve("127.0.0.1:0".parse().unwrap(), routes)
        .unwrap();
    let channel = channel(&server.local_addr().unwrap().to_string()).unwrap();
    Live { server, channel, probe, log }
}

impl Live {
    fn client(&self) -> ProducerClient<Channel> {
        ProducerClient::new(self.channel.clone())
    }
}

#[tokio::test]
async fn a_call_beyond_the_limit_is_refused_at_once_and_a_place_freed_is_given_again() {
    let live = live(ServerOptions { calls_max: 1, ..ServerOptions::default() });
    let mut waiting = live.client();
    let first =
        tokio::spawn(async move { waiting.init_producer(producer::InitProducerRequest {}).await });
    while live.log.started.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }

    let refused = live.client().init_producer(producer::InitProducerRequest {}).await.unwrap_err();
    let error = Error::from(refused);
    assert_eq!(error.code, ErrorCode::ThrottlingQuotaExceeded);
    assert_eq!((error.outcome, error.retriable), (Outcome::NotApplied, true));

    live.probe.let_go.notify_one();
    first.await.unwrap().unwrap();
    live.log.wait_for(2).await;
    live.probe.let_go.notify_one();
    live.client().init_producer(producer::InitProducerRequest {}).await.unwrap();
}

#[tokio::test]
async fn an_open_stream_keeps_its_place_until_it_ends() {
    let live = live(ServerOptions { calls_max: 1, ..ServerOptions::default() });
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    let stream = live.client().produce_stream(ReceiverStream::new(outgoing)).await.unwrap();

    let refused = live.client().produce(producer::ProduceRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);

    drop(requests);
    assert!(stream.into_inner().message().await.unwrap().is_none());
    live.log.wait_for(2).await;
    live.client().produce(producer::ProduceRequest::default()).await.unwrap();
}

#[tokio::test]
async fn the_callers_deadline_reaches_the_service_and_ends_a_call_that_waits() {
    let live = live(ServerOptions::default());
    let mut request = tonic::Request::new(producer::ProduceRequest::default());
    request.set_timeout(Duration::from_secs(20));
    let left: u128 =
        live.client().produce(request).await.unwrap().into_inner().topic.parse().unwrap();
    assert!((10_000..=20_000).contains(&left), "{left} ms left of 20 s");

    let started = tokio::time::Instant::now();
    let (error, probe) = init_producer_within("40m").await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!((error.code, error.outcome), (ErrorCode::RequestTimedOut, Outcome::Unknown));
    assert_eq!(probe.dropped.load(Ordering::SeqCst), 1, "the call was ended, not forgotten");
}

#[tokio::test]
async fn a_deadline_of_zero_is_refused_before_anything_is_tried() {
    let (error, probe) = init_producer_within("0m").await;
    assert_eq!((error.code, error.outcome), (ErrorCode::RequestTimedOut, Outcome::NotApplied));
    assert_eq!(probe.dropped.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_malformed_deadline_is_an_invalid_request() {
    let (error, probe) = init_producer_within("soon").await;
    assert_eq!((error.code, error.outcome), (ErrorCode::InvalidRequest, Outcome::NotApplied));
    assert_eq!(probe.dropped.load(Ordering::SeqCst), 0);
}

/// The answer of a bare stack to a call that never ends by itself. Our own client would end it by the same header.
async fn init_producer_within(grpc_timeout: &str) -> (Error, Arc<Probe>) {
    let probe = Arc::new(Probe::default());
    let routes = Routes::new().with(ProducerServer::from_arc(Arc::clone(&probe)));
    let options = StackOptions {
        calls_max: 8,
        call_time_max: Duration::from_secs(60),
        request_bytes_max: 1 << 20,
    };
    let request = Request::post("http://test/thalweg.producer.v1.Producer/InitProducer")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", grpc_timeout)
        // One empty message: not compressed, of length 0.
        .body(Body::new("\0\0\0\0\0".to_owned()))
        .unwrap();
    let stack = around(routes, &options, Arc::new(observe::NoObserver));
    let response = stack.oneshot(request).await.unwrap();
    let status = Status::from_header_map(response.headers()).expect("refused in the head");
    (Error::from(status), probe)
}

#[tokio::test]
async fn a_call_without_deadline_ends_at_the_servers_own_limit() {
    let options =
        ServerOptions { call_time_max: Duration::from_millis(50), ..ServerOptions::default() };
    let live = live(options);
    let failed = live.client().init_producer(producer::InitProducerRequest {}).await.unwrap_err();
    assert_eq!(failed.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn an_unreadable_message_gets_our_detail() {
    // A Produce request sent to InitProducer's path is readable; bytes that are no message are not.
    let live = live(ServerOptions::default());
    let mut grpc = tonic::client::Grpc::new(live.channel.clone());
    grpc.ready().await.unwrap();
    let path = "/thalweg.producer.v1.Producer/Produce".parse().unwrap();
    let request = tonic::Request::new(producer::Record {
        // Field 1 of a ProduceRequest is a string: this is not UTF-8.
        key: Some(vec![0xff, 0xfe].into()),
        ..Default::default()
    });
    let codec = tonic_prost::ProstCodec::<producer::Record, producer::ProduceResponse>::default();
    let status = grpc.unary(request, path, codec).await.unwrap_err();
    assert!(!status.details().is_empty(), "{status:?}");
    let error = Error::from(status);
    assert_eq!((error.code, error.outcome), (ErrorCode::InvalidRequest, Outcome::NotApplied));
}

#[tokio::test]
async fn a_message_over_the_limit_is_too_large_and_not_applied() {
    let live = live(ServerOptions::default());
    // The service keeps the library's limit of 4 MiB here.
    let request = producer::ProduceRequest {
        payload: Some(producer::produce_request::Payload::Batch(vec![0; 5 << 20].into())),
        ..Default::default()
    };
    let error = Error::from(live.client().produce(request).await.unwrap_err());
    assert_eq!((error.code, error.outcome), (ErrorCode::MessageTooLarge, Outcome::NotApplied));
}

#[tokio::test]
async fn large_messages_share_memory_until_they_are_worked_on_and_small_ones_need_none() {
    let live = live(ServerOptions { request_bytes_max: 1 << 20, ..ServerOptions::default() });
    let request = |bytes: usize| producer::ProduceRequest {
        payload: Some(producer::produce_request::Payload::Batch(vec![0; bytes].into())),
        ..Default::default()
    };
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    let stream = live.client().produce_stream(ReceiverStream::new(outgoing)).await.unwrap();
    requests.send(request(400 << 10)).await.unwrap();
    let mut refused = None;
    for _ in 0..400 {
        // The stream's message may still be on its way.
        refused = live.client().produce(request(400 << 10)).await.err();
        if refused.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = Error::from(refused.expect("half of what is left is less"));
    assert_eq!(error.code, ErrorCode::ThrottlingQuotaExceeded);
    assert_eq!((error.outcome, error.retriable), (Outcome::NotApplied, true));
    live.client().produce(request(100 << 10)).await.unwrap();
    live.client().produce(request(1 << 10)).await.unwrap();

    // The stream goes on, and what it had is free again.
    requests.send(request(10)).await.unwrap();
    for attempt in 0.. {
        match live.client().produce(request(400 << 10)).await {
            Ok(_) => break,
            Err(status) => assert!(attempt < 400, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(requests);
    assert!(stream.into_inner().message().await.unwrap().is_none());
}

#[tokio::test]
async fn calls_are_observed_by_method_and_code_and_invented_names_share_one() {
    let live = live(ServerOptions::default());
    live.client().produce(producer::ProduceRequest::default()).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(live.channel.clone());
    for path in ["/no.such.Service/Call", "/thalweg.producer.v1.Producer/NoSuchCall"] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<
            producer::InitProducerRequest,
            producer::InitProducerResponse,
        >::default();
        let request = tonic::Request::new(producer::InitProducerRequest {});
        let error =
            Error::from(grpc.unary(request, path.parse().unwrap(), codec).await.unwrap_err());
        assert_eq!(error.code, ErrorCode::UnsupportedVersion);
        assert_eq!(error.outcome, Outcome::NotApplied);
    }
    let finished = live.log.wait_for(3).await;
    assert_eq!(finished[0], ("/thalweg.producer.v1.Producer/Produce".to_owned(), Code::Ok));
    assert_eq!(finished[1], ("unknown".to_owned(), Code::Unimplemented));
    assert_eq!(finished[2], ("unknown".to_owned(), Code::Unimplemented));
}

#[tokio::test]
async fn a_call_whose_caller_goes_away_is_observed_as_cancelled() {
    let live = live(ServerOptions::default());
    let mut client = live.client();
    let call =
        tokio::spawn(async move { client.init_producer(producer::InitProducerRequest {}).await });
    while live.log.started.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    call.abort();
    let finished = live.log.wait_for(1).await;
    assert_eq!(finished[0].1, Code::Cancelled);
}

#[tokio::test]
async fn a_shutdown_finishes_calls_and_breaks_off_streams_that_do_not_end() {
    let options =
        ServerOptions { drain_time_max: Duration::from_millis(100), ..ServerOptions::default() };
    let live = live(options);
    let (_requests, outgoing) = tokio::sync::mpsc::channel(1);
    let stream = live.client().produce_stream(ReceiverStream::new(outgoing)).await.unwrap();

    let started = tokio::time::Instant::now();
    live.server.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let error = Error::from(stream.into_inner().message().await.unwrap_err());
    assert_eq!(error.outcome, Outcome::Unknown);
}

#[tokio::test]
async fn a_server_in_memory_answers_like_one_on_the_network() {
    let routes = Routes::new().with(ProducerServer::new(Probe::default()));
    let (server, connector) = Server::new(ServerOptions::default()).serve_in_memory(routes);
    let mut client = ProducerClient::new(channel_in_memory(connector));
    client.produce(producer::ProduceRequest::default()).await.unwrap();
    server.shutdown().await;
    let failed = client.produce(producer::ProduceRequest::default()).await.unwrap_err();
    assert!(Error::from(failed).retriable);
}

#[tokio::test]
async fn addresses_that_cannot_be_called_are_refused_by_name() {
    for endpoint in ["", "localhost", "https://localhost:1", "unix:/tmp/x", "a b:1", ":50051"] {
        let error = channel(endpoint).unwrap_err();
        assert!(error.to_string().contains(endpoint), "{error}");
    }
    channel("localhost:50051").unwrap();
    channel("http://[::1]:50051").unwrap();
}
