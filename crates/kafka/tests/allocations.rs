//! How often memory is asked for between a Produce request on the socket and its answer, by the listener alone. A count is the same on a
//! slow, loaded machine, as times are not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use thalweg_kafka::listener::{self, ListenerOptions};
use thalweg_kafka::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, TopicProduceData, TopicProduceResponse,
};
use thalweg_kafka::messages::{ProduceRequest, ProduceResponse, RequestHeader};
use thalweg_kafka::{
    ApiKey, ApiTable, Backend, KafkaString, Reply, Request, RequestContext, Writer,
};

const VERSION: i16 = 9;
const BATCH_BYTES: usize = 64 << 10;
const REQUESTS: u64 = 500;

/// For each request: its buffer, what its topics and partitions are decoded to, the same of the answer, what runs it. 14 were measured.
const ALLOCATIONS_MAX: u64 = 17;

/// Long enough for a slow machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]
// SAFETY: every call goes to the system allocator with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// Acknowledges everything at once.
struct Accepting(ApiTable);

impl Backend for Accepting {
    fn apis(&self) -> &ApiTable {
        &self.0
    }

    async fn handle(self: &Arc<Self>, _context: RequestContext, request: Request) -> Reply {
        let Request::Produce(request) = request else { return Reply::Close };
        let records = &request.topic_data[0].partition_data[0].records;
        assert_eq!(records.as_ref().map(BytesMut::len), Some(BATCH_BYTES));
        let topic = TopicProduceResponse {
            name: request.topic_data[0].name.clone(),
            partition_responses: vec![PartitionProduceResponse::default()],
            ..TopicProduceResponse::default()
        };
        ProduceResponse { responses: vec![topic], ..ProduceResponse::default() }.into()
    }
}

#[test]
fn a_produce_request_is_read_and_answered_with_few_allocations() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let apis = ApiTable::of(&[ApiKey::Produce]);
    let options = ListenerOptions {
        runtimes: 1,
        ..ListenerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    let served = listener::start(options, Arc::new(Accepting(apis))).expect("starts");
    let mut client = TcpStream::connect(served.local_addr()).expect("accepts");
    client.set_read_timeout(Some(PATIENCE)).expect("settable");

    // Neither here nor by the system's part of it is anything allocated meanwhile.
    let (request, mut answer) = (request(), [0; 256]);
    let mut round = || {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..REQUESTS {
            client.write_all(&request).expect("taken");
            client.read_exact(&mut answer[..4]).expect("an answer");
            let length = u32::from_be_bytes([answer[0], answer[1], answer[2], answer[3]]) as usize;
            client.read_exact(&mut answer[..length]).expect("all of the answer");
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    round();
    let counted = round();
    let each = counted as f64 / REQUESTS as f64;
    println!("each request: {each:.2} allocations");
    assert!(counted >= REQUESTS, "{each}: nothing was counted");
    assert!(counted <= ALLOCATIONS_MAX * REQUESTS, "{each}");
    drop(client);
    runtime.block_on(served.shutdown());
}

/// A whole Produce request, its length in front.
fn request() -> Vec<u8> {
    let partition =
        PartitionProduceData { index: 0, records: Some(BytesMut::from(&[7; BATCH_BYTES][..])) };
    let message = ProduceRequest {
        acks: -1,
        timeout_ms: 60_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from("orders"),
            partition_data: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let header = RequestHeader {
        request_api_key: ApiKey::Produce as i16,
        request_api_version: VERSION,
        correlation_id: 1,
        client_id: Some(KafkaString::from("allocations")),
    };
    let mut writer = Writer::frame();
    header.encode(2, &mut writer).expect("encodes");
    message.encode(VERSION, &mut writer).expect("encodes");
    writer.finish_frame().expect("small").to_bytes().to_vec()
}
