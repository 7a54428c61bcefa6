//! The listener over real sockets on loopback: order, overlap, limits, broken clients, shutdown.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use thalweg_kafka::listener::{self, ListenerHandle, ListenerOptions};
use thalweg_kafka::messages::fetch::{FetchableTopicResponse, PartitionData};
use thalweg_kafka::messages::produce::{PartitionProduceData, TopicProduceData};
use thalweg_kafka::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
    MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader,
};
use thalweg_kafka::{
    ApiKey, ApiTable, Backend, KafkaString, Message, Reader, Reply, Request, RequestContext, Writer,
};
use tokio::sync::Semaphore;

/// Long enough for a slow machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Echoes what tells requests apart, and parks fetches until released.
struct Echo {
    apis: ApiTable,
    /// One permit lets one parked fetch go.
    release: Semaphore,
    parked: AtomicUsize,
    handled: AtomicUsize,
}

impl Backend for Echo {
    fn apis(&self) -> &ApiTable {
        &self.apis
    }

    fn handle(
        self: &Arc<Self>,
        context: RequestContext,
        request: Request,
    ) -> impl Future<Output = Reply> + Send {
        let order = self.handled.fetch_add(1, Ordering::SeqCst);
        let echo = Arc::clone(self);
        async move {
            match request {
                Request::Metadata(_) => MetadataResponse {
                    controller_id: i32::try_from(order).expect("few requests"),
                    cluster_id: context.client_software.map(|software| software.name),
                    ..MetadataResponse::default()
                }
                .into(),
                Request::Fetch(fetch) => echo.fetch(fetch).await,
                Request::Produce(produce) if produce.acks == 0 => Reply::None,
                Request::Produce(produce) => {
                    let bytes = produce.topic_data[0].partition_data[0].records.as_ref();
                    let bytes = bytes.map_or(0, BytesMut::len);
                    ProduceResponse {
                        throttle_time_ms: i32::try_from(bytes).expect("small"),
                        ..ProduceResponse::default()
                    }
                    .into()
                }
                Request::FindCoordinator(request) if request.key == "panic" => {
                    panic!("as the test asked")
                }
                // An answer to another call: what a faulty service would do.
                Request::FindCoordinator(_) => MetadataResponse::default().into(),
                _ => Reply::Close,
            }
        }
    }
}

impl Echo {
    async fn fetch(&self, fetch: FetchRequest) -> Reply {
        if fetch.max_wait_ms > 0 {
            self.parked.fetch_add(1, Ordering::SeqCst);
            self.release.acquire().await.expect("never closed").forget();
        }
        let size = usize::try_from(fetch.max_bytes).expect("positive");
        let pieces =
            vec![Bytes::from(vec![7_u8; size / 2]), Bytes::from(vec![8_u8; size - size / 2])];
        let partition = PartitionData { records: pieces, ..PartitionData::default() };
        FetchResponse {
            responses: vec![FetchableTopicResponse {
                partitions: vec![partition],
                ..FetchableTopicResponse::default()
            }],
            ..FetchResponse::default()
        }
        .into()
    }
}

/// A running listener with its backend.
struct Served {
    runtime: tokio::runtime::Runtime,
    handle: ListenerHandle,
    echo: Arc<Echo>,
}

fn serve(change: impl FnOnce(&mut ListenerOptions)) -> Served {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let echo = Arc::new(Echo {
        apis: ApiTable::of(&[
            ApiKey::Produce,
            ApiKey::Fetch,
            ApiKey::Metadata,
            ApiKey::FindCoordinator,
            ApiKey::DescribeCluster,
        ]),
        release: Semaphore::new(0),
        parked: AtomicUsize::new(0),
        handled: AtomicUsize::new(0),
    });
    let mut options = ListenerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.runtimes = 2;
    change(&mut options);
    let handle = listener::start(options, Arc::clone(&echo)).expect("a free port");
    Served { runtime, handle, echo }
}

impl Served {
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.handle.local_addr()).expect("connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("settable");
        socket.set_write_timeout(Some(PATIENCE)).expect("settable");
        socket
    }

    fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The listener is still well: a new connection is answered.
    fn assert_serves(&self) {
        let mut socket = self.connect();
        socket.write_all(&metadata(77)).expect("writes");
        let (correlation_id, _) = answer::<MetadataResponse>(&mut socket, 9, 1);
        assert_eq!(correlation_id, 77);
    }
}

fn frame<M: Message>(message: M, version: i16, correlation_id: i32) -> Vec<u8> {
    let key = M::API_KEY.expect("a request");
    let header = RequestHeader {
        request_api_key: key as i16,
        request_api_version: version,
        correlation_id,
        client_id: Some(KafkaString::from("a test")),
    };
    let mut writer = Writer::frame();
    let header_version = if version >= key.request_flexible_from() { 2 } else { 1 };
    header.encode(header_version, &mut writer).expect("encodes");
    message.encode(version, &mut writer).expect("encodes");
    writer.finish_frame().expect("small").to_bytes().to_vec()
}

fn metadata(correlation_id: i32) -> Vec<u8> {
    frame(MetadataRequest::default(), 9, correlation_id)
}

fn fetch(correlation_id: i32, max_wait_ms: i32, max_bytes: i32) -> Vec<u8> {
    let request = FetchRequest { max_wait_ms, max_bytes, ..FetchRequest::default() };
    frame(request, 12, correlation_id)
}

fn produce(correlation_id: i32, acks: i16, bytes: usize) -> Vec<u8> {
    let records = Some(BytesMut::from(&vec![5_u8; bytes][..]));
    let partition_data = vec![PartitionProduceData { index: 0, records }];
    let topic_data = vec![TopicProduceData { partition_data, ..TopicProduceData::default() }];
    frame(ProduceRequest { acks, topic_data, ..ProduceRequest::default() }, 7, correlation_id)
}

fn raw_answer(socket: &mut TcpStream) -> BytesMut {
    let mut length = [0; 4];
    socket.read_exact(&mut length).expect("an answer");
    let length = usize::try_from(i32::from_be_bytes(length)).expect("positive");
    let mut body = BytesMut::zeroed(length);
    socket.read_exact(&mut body).expect("all of the answer");
    body
}

fn answer<M: Message>(socket: &mut TcpStream, version: i16, header: i16) -> (i32, M) {
    let mut reader = Reader::new(raw_answer(socket));
    let header = ResponseHeader::decode(header, &mut reader).expect("a header");
    let message = M::decode(version, &mut reader).expect("an answer");
    reader.finish().expect("nothing more");
    (header.correlation_id, message)
}

/// Nothing more comes, not even an answer.
fn assert_closed(socket: &mut TcpStream) {
    let mut byte = [0];
    match socket.read(&mut byte) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

// ---- order and overlap ----

#[test]
fn pipelined_answers_come_in_the_order_of_their_requests() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    let requests = [fetch(1, 1000, 10), metadata(2), produce(3, 1, 100), metadata(4)].concat();
    socket.write_all(&requests).expect("writes");
    served.wait_until("all four have begun", |served| {
        served.echo.handled.load(Ordering::SeqCst) == 4
    });
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("settable");
    let early = socket.read(&mut [0]).expect_err("the parked fetch holds back the others");
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    socket.set_read_timeout(Some(PATIENCE)).expect("settable");
    served.echo.release.add_permits(1);
    assert_eq!(answer::<FetchResponse>(&mut socket, 12, 1).0, 1);
    assert_eq!(answer::<MetadataResponse>(&mut socket, 9, 1).0, 2);
    let (id, produced) = answer::<ProduceResponse>(&mut socket, 7, 0);
    assert_eq!((id, produced.throttle_time_ms), (3, 100));
    assert_eq!(answer::<MetadataResponse>(&mut socket, 9, 1).0, 4);
}

#[test]
fn a_parked_request_holds_up_no_other_connection() {
    // One thread: both connections share an event loop.
    let served = serve(|options| options.runtimes = 1);
    let mut parked = served.connect();
    parked.write_all(&fetch(1, 1000, 10)).expect("writes");
    served.wait_until("it is parked", |served| served.echo.parked.load(Ordering::SeqCst) == 1);
    served.assert_serves();
    served.echo.release.add_permits(1);
    assert_eq!(answer::<FetchResponse>(&mut parked, 12, 1).0, 1);
}

#[test]
fn a_parked_request_does_not_keep_the_connection_of_a_client_that_left() {
    let served = serve(|options| options.drain_timeout = Duration::from_millis(200));
    for _ in 0..10 {
        let mut leaving = served.connect();
        leaving.write_all(&fetch(1, i32::MAX, 10)).expect("writes");
    }
    let mut staying = served.connect();
    staying.write_all(&fetch(1, i32::MAX, 10)).expect("writes");
    served.wait_until("all are parked", |served| served.echo.parked.load(Ordering::SeqCst) == 11);
    served.wait_until("only who stays is connected", |served| {
        served.handle.counters().snapshot().connections_open == 1
    });
    served.echo.release.add_permits(11);
    assert_eq!(answer::<FetchResponse>(&mut staying, 12, 1).0, 1);
}

#[test]
fn requests_begin_in_order_and_wait_in_the_socket_beyond_the_limit() {
    let served = serve(|options| options.in_flight_max = 4);
    let mut socket = served.connect();
    let requests: Vec<u8> = (0..10).flat_map(|id| fetch(id, 1000, 10)).collect();
    socket.write_all(&requests).expect("writes");
    served.wait_until("four are parked", |served| served.echo.parked.load(Ordering::SeqCst) == 4);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(served.echo.parked.load(Ordering::SeqCst), 4);
    served.echo.release.add_permits(10);
    for id in 0..10 {
        assert_eq!(answer::<FetchResponse>(&mut socket, 12, 1).0, id);
    }
}

#[test]
fn requests_wait_in_the_socket_beyond_the_byte_limit() {
    let served = serve(|options| options.in_flight_bytes_max = 1);
    let mut socket = served.connect();
    socket.write_all(&[fetch(1, 1000, 10), fetch(2, 1000, 10)].concat()).expect("writes");
    served.wait_until("one is parked", |served| served.echo.parked.load(Ordering::SeqCst) == 1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(served.echo.parked.load(Ordering::SeqCst), 1);
    served.echo.release.add_permits(2);
    assert_eq!(answer::<FetchResponse>(&mut socket, 12, 1).0, 1);
    assert_eq!(answer::<FetchResponse>(&mut socket, 12, 1).0, 2);
}

#[test]
fn ten_thousand_tiny_pipelined_requests_are_all_answered_in_order() {
    const COUNT: i32 = 10_000;
    let served = serve(|_| {});
    let mut socket = served.connect();
    let mut writer = socket.try_clone().expect("a second handle");
    let sending = std::thread::spawn(move || {
        let all: Vec<u8> = (0..COUNT).flat_map(metadata).collect();
        writer.write_all(&all).expect("writes");
    });
    for id in 0..COUNT {
        let (answered, response) = answer::<MetadataResponse>(&mut socket, 9, 1);
        assert_eq!((answered, response.controller_id), (id, id));
    }
    sending.join().expect("all sent");
    assert_eq!(served.handle.counters().requests(ApiKey::Metadata), 10_000);
}

#[test]
fn produce_without_acks_is_not_answered() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    let requests = [produce(1, 0, 10), produce(2, 0, 10), produce(3, -1, 20)].concat();
    socket.write_all(&requests).expect("writes");
    let (id, response) = answer::<ProduceResponse>(&mut socket, 7, 0);
    assert_eq!((id, response.throttle_time_ms), (3, 20));
}

// ---- limits that all connections share ----

const MIB: usize = 1024 * 1024;

#[test]
fn requests_of_many_connections_share_a_budget_and_all_are_answered() {
    // A sixteenth of what the clients send at a time: they wait for each other, most of them in the middle of a request.
    let served = serve(|options| {
        options.frame_bytes_max = 2 * MIB;
        options.request_bytes_max = 2 * MIB;
    });
    let send = |id: i32| {
        let mut socket = served.connect();
        std::thread::spawn(move || {
            let request = produce(id, 1, MIB + MIB / 2);
            for piece in request.chunks(100_000) {
                socket.write_all(piece).expect("the server takes all of it in the end");
            }
            answer::<ProduceResponse>(&mut socket, 7, 0).1.throttle_time_ms
        })
    };
    let clients: Vec<_> = (0..32).map(send).collect();
    for client in clients {
        assert_eq!(usize::try_from(client.join().expect("answered")), Ok(MIB + MIB / 2));
    }
    assert_eq!(served.handle.counters().snapshot().connections_idle, 0);
}

#[test]
fn whoever_holds_memory_and_sends_nothing_gives_way_to_those_who_wait() {
    let served = serve(|options| {
        options.frame_bytes_max = MIB;
        options.request_bytes_max = MIB;
        options.stall_timeout = Duration::from_millis(300);
    });
    // Eight halves take half of the budget at once and the other half as they arrive, and one more goes over it.
    let mut stalled: Vec<_> = (0..9).map(|_| served.connect()).collect();
    let request = produce(1, 1, MIB - 1000);
    for socket in &mut stalled {
        socket.set_nonblocking(true).expect("settable");
        let mut sent = 0;
        while sent < request.len() / 2 {
            match socket.write(&request[sent..request.len() / 2]) {
                Ok(bytes) => sent += bytes,
                // The server takes no more of it.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
    }
    for id in 0..4 {
        let mut socket = served.connect();
        socket.write_all(&produce(id, 1, MIB / 2)).expect("taken in the end");
        assert_eq!(answer::<ProduceResponse>(&mut socket, 7, 0).0, id);
    }
    assert!(served.handle.counters().snapshot().connections_idle > 0);
    // Small requests never wait for any of this.
    served.assert_serves();
}

#[test]
fn answers_that_nobody_takes_hold_up_further_requests_until_their_connections_are_closed() {
    let served = serve(|options| {
        options.unsent_bytes_max = 60 * MIB;
        options.stall_timeout = Duration::from_millis(300);
    });
    let mut deaf: Vec<_> = (0..4).map(|_| served.connect()).collect();
    for socket in &mut deaf {
        socket.write_all(&fetch(1, 0, 48 * MIB as i32)).expect("writes");
        std::thread::sleep(Duration::from_millis(20));
    }
    // At the limit after the second: the others have not even begun.
    assert!(served.echo.handled.load(Ordering::SeqCst) < 4);

    let mut socket = served.connect();
    socket.write_all(&metadata(5)).expect("writes");
    assert_eq!(answer::<MetadataResponse>(&mut socket, 9, 1).0, 5);
    assert!(served.handle.counters().snapshot().connections_idle > 0);
}

#[test]
fn slow_readers_are_left_alone_while_nobody_needs_their_memory() {
    let served = serve(|options| options.stall_timeout = Duration::from_millis(50));
    let mut socket = served.connect();
    socket.write_all(&fetch(1, 0, 16 * MIB as i32)).expect("writes");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(answer::<FetchResponse>(&mut socket, 12, 1).0, 1);
}

#[test]
fn one_address_cannot_take_all_connections() {
    let served = serve(|options| options.connections_per_ip_max = 3);
    let mut open: Vec<_> = (0..3).map(|_| served.connect()).collect();
    for (id, socket) in (0..).zip(&mut open) {
        socket.write_all(&metadata(id)).expect("writes");
        assert_eq!(answer::<MetadataResponse>(socket, 9, 1).0, id);
    }
    assert_closed(&mut served.connect());
    drop(open);
    served.wait_until("they are gone", |served| {
        served.handle.counters().snapshot().connections_open == 0
    });
    served.assert_serves();
}

// ---- frames ----

#[test]
fn requests_may_arrive_byte_by_byte() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    socket.set_nodelay(true).expect("settable");
    for byte in [metadata(1), produce(2, 1, 30)].concat() {
        socket.write_all(&[byte]).expect("writes");
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(answer::<MetadataResponse>(&mut socket, 9, 1).0, 1);
    assert_eq!(answer::<ProduceResponse>(&mut socket, 7, 0).1.throttle_time_ms, 30);
}

#[test]
fn frames_of_every_size_around_the_buffers_arrive_whole() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    let mut writer = socket.try_clone().expect("a second handle");
    let around = |middle: usize| middle - 70..middle + 5;
    let mut sizes: Vec<usize> = (0..20).chain(around(512)).chain(around(1024)).collect();
    sizes.extend([64 * 1024, 1024 * 1024 - 48, 1024 * 1024, 1024 * 1024 + 1, 3_500_000]);
    let frames: Vec<_> = sizes.iter().map(|size| produce(0, 1, *size)).collect();
    let sending = std::thread::spawn(move || {
        // Two requests in one write now and then, and cuts in odd places.
        let all = frames.concat();
        for chunk in all.chunks(77_777) {
            writer.write_all(chunk).expect("writes");
        }
    });
    for size in sizes {
        let (_, response) = answer::<ProduceResponse>(&mut socket, 7, 0);
        assert_eq!(usize::try_from(response.throttle_time_ms), Ok(size));
    }
    sending.join().expect("all sent");
}

#[test]
fn large_answers_reach_a_client_that_reads_slowly() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    let requests: Vec<u8> = (0..8).flat_map(|id| fetch(id, 0, 3_000_001)).collect();
    socket.write_all(&requests).expect("writes");
    for id in 0..8 {
        std::thread::sleep(Duration::from_millis(5));
        let (answered, response) = answer::<FetchResponse>(&mut socket, 12, 1);
        assert_eq!(answered, id);
        let records = &response.responses[0].partitions[0].records[0];
        assert_eq!(records.len(), 3_000_001);
        assert!(records[..1_500_000].iter().all(|byte| *byte == 7));
        assert!(records[1_500_000..].iter().all(|byte| *byte == 8));
    }
}

#[test]
fn lengths_out_of_bounds_close_the_connection() {
    let served = serve(|options| options.frame_bytes_max = 10_000);
    for length in [-1, i32::MIN, 0, 1, 7, 10_001, i32::MAX] {
        let mut socket = served.connect();
        socket.write_all(&i32::to_be_bytes(length)).expect("writes");
        assert_closed(&mut socket);
    }
    assert_eq!(served.handle.counters().snapshot().requests_malformed, 7);
    served.assert_serves();
}

#[test]
fn other_protocols_and_noise_close_the_connection() {
    let served = serve(|_| {});
    let noise: Vec<u8> = (0..4096_u32).map(|number| (number * 7919 % 251) as u8 | 0x80).collect();
    let inputs: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &noise,
    ];
    for input in inputs {
        let mut socket = served.connect();
        // The listener may close before all of it is written.
        let _ = socket.write_all(input);
        assert_closed(&mut socket);
    }
    served.assert_serves();
}

// ---- requests that cannot be served ----

/// A frame of these header fields and this rest.
fn raw(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let mut body = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 9], rest].concat();
    let length = i32::try_from(body.len()).expect("small").to_be_bytes();
    body.splice(0..0, length);
    body
}

#[test]
fn unknown_calls_and_versions_close_the_connection_after_earlier_answers() {
    let served = serve(|_| {});
    let calls =
        [(9999, 0), (-1, 0), (i16::MAX, 0), (22, 0), (3, -1), (3, 14), (0, 2), (3, i16::MAX)];
    for (key, version) in calls {
        let mut socket = served.connect();
        let bad = raw(key, version, &[0xff, 0xff, 0, 0, 0, 0]);
        socket.write_all(&[metadata(1), bad, metadata(2)].concat()).expect("writes");
        assert_eq!(answer::<MetadataResponse>(&mut socket, 9, 1).0, 1);
        assert_closed(&mut socket);
    }
    assert_eq!(served.handle.counters().snapshot().requests_unsupported, 8);
}

#[test]
fn malformed_requests_close_the_connection() {
    let served = serve(|_| {});
    let client_id_too_long = [&[0x7f, 0xff][..], &[b'x'; 100]].concat();
    let bodies: [(i16, &[u8]); 5] = [
        (0, &[]),
        (0, &client_id_too_long),
        // More topics than the frame can hold.
        (0, &[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        // Left over bytes.
        (0, &[0xff, 0xff, 0, 0, 0, 0, 0]),
        // Header of version 1 where version 2 is due: its tagged fields are missing.
        (9, &[0xff, 0xff, 1, 0, 0]),
    ];
    for (version, body) in bodies {
        let mut socket = served.connect();
        socket.write_all(&raw(3, version, body)).expect("writes");
        assert_closed(&mut socket);
    }
    assert_eq!(served.handle.counters().snapshot().requests_malformed, 5);
    served.assert_serves();
}

#[test]
fn api_versions_lists_produce_from_version_0_and_survives_unknown_versions() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    for version in [-1, 5, i16::MAX] {
        socket.write_all(&raw(18, version, &[1, 2, 3])).expect("writes");
        let (id, response) = answer::<ApiVersionsResponse>(&mut socket, 0, 0);
        assert_eq!((id, response.error_code), (9, 35));
        assert!(
            response.api_keys.iter().any(|range| range.api_key == 18 && range.max_version == 4)
        );
    }
    for version in 0..=4 {
        let request = ApiVersionsRequest {
            client_software_name: KafkaString::from("librdkafka"),
            client_software_version: KafkaString::from("2.0.2"),
        };
        socket.write_all(&frame(request, version, 5)).expect("writes");
        let bytes = raw_answer(&mut socket);
        if version >= 3 {
            // Old clients mis-skip tagged fields, so there is none: the last byte says so.
            assert_eq!(bytes.last(), Some(&0));
        }
        let mut reader = Reader::new(bytes);
        ResponseHeader::decode(0, &mut reader).expect("a header of version 0, always");
        let response = ApiVersionsResponse::decode(version, &mut reader).expect("decodes");
        reader.finish().expect("nothing more");
        assert_eq!(response.error_code, 0);
        let keys: Vec<_> = response.api_keys.iter().map(|range| range.api_key).collect();
        assert_eq!(keys, [0, 1, 3, 10, 18, 60]);
        assert_eq!((response.api_keys[0].min_version, response.api_keys[0].max_version), (0, 13));
    }
    socket.write_all(&metadata(6)).expect("writes");
    let (_, response) = answer::<MetadataResponse>(&mut socket, 9, 1);
    assert_eq!(response.cluster_id, Some(KafkaString::from("librdkafka")));
}

#[test]
fn an_impossible_software_name_is_ignored_and_not_fatal() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    let request = ApiVersionsRequest {
        client_software_name: KafkaString::from("bad name\n\u{1b}[31m"),
        client_software_version: KafkaString::from(""),
    };
    socket.write_all(&[frame(request, 3, 1), metadata(2)].concat()).expect("writes");
    let (_, response) = answer::<ApiVersionsResponse>(&mut socket, 3, 0);
    assert_eq!(response.error_code, 0);
    assert_eq!(answer::<MetadataResponse>(&mut socket, 9, 1).1.cluster_id, None);
}

#[test]
fn faults_of_the_service_end_only_the_connection_they_occur_on() {
    let served = serve(|options| options.runtimes = 1);
    for key in ["panic", "another call"] {
        let mut socket = served.connect();
        let request = FindCoordinatorRequest {
            key: KafkaString::from(key),
            ..FindCoordinatorRequest::default()
        };
        socket.write_all(&[metadata(1), frame(request, 2, 2)].concat()).expect("writes");
        if key != "panic" {
            assert_eq!(answer::<MetadataResponse>(&mut socket, 9, 1).0, 1);
        }
        assert_closed(&mut socket);
        served.assert_serves();
    }
    assert_eq!(served.handle.counters().snapshot().responses_failed, 1);
}

// ---- ends ----

#[test]
fn a_client_that_has_closed_its_side_still_gets_its_answers() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    socket.write_all(&[fetch(1, 1000, 10), metadata(2)].concat()).expect("writes");
    socket.shutdown(Shutdown::Write).expect("half-closes");
    served.wait_until("it is parked", |served| served.echo.parked.load(Ordering::SeqCst) == 1);
    served.echo.release.add_permits(1);
    assert_eq!(answer::<FetchResponse>(&mut socket, 12, 1).0, 1);
    assert_eq!(answer::<MetadataResponse>(&mut socket, 9, 1).0, 2);
    assert_closed(&mut socket);
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_frame_leaves_nothing_behind() {
    let served = serve(|_| {});
    for length in [2, 4, 10, 1000] {
        let mut socket = served.connect();
        socket.write_all(&produce(1, 1, 2000)[..length]).expect("writes");
    }
    served.wait_until("all are closed", |served| {
        let counters = served.handle.counters().snapshot();
        counters.connections_opened == 4 && counters.connections_open == 0
    });
    served.assert_serves();
}

#[test]
fn a_connection_without_progress_is_closed_even_when_bytes_dribble_in() {
    let served = serve(|options| options.idle_timeout = Duration::from_millis(200));
    let mut silent = served.connect();
    let mut dribbling = served.connect();
    let begun = Instant::now();
    let frame = produce(1, 1, 60_000);
    for byte in &frame {
        if dribbling.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        assert!(begun.elapsed() < PATIENCE, "a slow sender keeps its connection");
    }
    assert_closed(&mut silent);
    assert_eq!(served.handle.counters().snapshot().connections_idle, 2);
}

#[test]
fn a_request_being_handled_is_not_idleness() {
    let served = serve(|options| options.idle_timeout = Duration::from_millis(50));
    let mut socket = served.connect();
    socket.write_all(&fetch(1, 1000, 10)).expect("writes");
    std::thread::sleep(Duration::from_millis(300));
    served.echo.release.add_permits(1);
    assert_eq!(answer::<FetchResponse>(&mut socket, 12, 1).0, 1);
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let served = serve(|options| options.connections_max = 2);
    let mut sockets: Vec<_> = (0..2).map(|_| served.connect()).collect();
    for socket in &mut sockets {
        socket.write_all(&metadata(1)).expect("writes");
        answer::<MetadataResponse>(socket, 9, 1);
    }
    assert_closed(&mut served.connect());
    assert_eq!(served.handle.counters().snapshot().connections_refused, 1);
    drop(sockets.pop());
    served.wait_until("a place is free", |served| {
        served.handle.counters().snapshot().connections_open == 1
    });
    served.assert_serves();
}

#[test]
fn shutdown_answers_what_was_asked_and_then_closes() {
    let served = serve(|_| {});
    let mut parked = served.connect();
    let mut idle = served.connect();
    parked.write_all(&fetch(1, 1000, 10)).expect("writes");
    served.wait_until("it is parked", |served| served.echo.parked.load(Ordering::SeqCst) == 1);
    let address = served.handle.local_addr();
    let Served { runtime, handle, echo } = served;
    let stopping = std::thread::spawn(move || runtime.block_on(handle.shutdown()));
    assert_closed(&mut idle);
    assert!(!stopping.is_finished(), "a request is still being handled");
    echo.release.add_permits(1);
    assert_eq!(answer::<FetchResponse>(&mut parked, 12, 1).0, 1);
    assert_closed(&mut parked);
    stopping.join().expect("stops");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn shutdown_does_not_wait_for_ever() {
    let served = serve(|options| options.drain_timeout = Duration::from_millis(100));
    let mut parked = served.connect();
    parked.write_all(&fetch(1, 1000, 10)).expect("writes");
    served.wait_until("it is parked", |served| served.echo.parked.load(Ordering::SeqCst) == 1);
    let begun = Instant::now();
    served.runtime.block_on(served.handle.shutdown());
    assert!(begun.elapsed() < PATIENCE);
    assert_closed(&mut parked);
}

#[test]
fn counters_know_what_passed() {
    let served = serve(|_| {});
    let mut socket = served.connect();
    let request = produce(1, 1, 5000);
    socket.write_all(&request).expect("writes");
    let answered = raw_answer(&mut socket).len() + 4;
    let counters = served.handle.counters();
    served.wait_until("counted", |_| counters.snapshot().bytes_out == answered as u64);
    let snapshot = counters.snapshot();
    assert_eq!(snapshot.bytes_in, request.len() as u64);
    assert_eq!(snapshot.requests, [(ApiKey::Produce, 1)]);
    assert_eq!((snapshot.connections_opened, snapshot.connections_open), (1, 1));
}
