//! What a produced batch may cost, in things that can be counted: they are the same on a slow, loaded machine, as times are not.
//!
//! A server with small bounds, so that it soon works as it does after hours: journal files and memory used again. Then one connection
//! produces with acks=all, five batches in flight, and the kernel's own accounts of the server process are read before and after.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use thalweg_kafka::messages::produce::{PartitionProduceData, TopicProduceData};
use thalweg_kafka::messages::{ProduceRequest, RequestHeader};
use thalweg_kafka::{KafkaString, Message, Writer};
use thalweg_record::BatchBuilder;
use thalweg_testkit::{Server, skip};
use thalweg_types::{CompressionType, Timestamp};

const TOPIC: &str = "cost";
const VERSION: i16 = 3;
const BATCH_BYTES: usize = 64 << 10;
const IN_FLIGHT: usize = 5;

/// Long enough for a slow machine; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Four times what the server may hold in memory, twice what its journal may take: nothing is done for the first time after that. What is
/// still to be written to segments at either end is small beside what is counted.
const WARM_UP_BATCHES: usize = 1_024;
const BATCHES: usize = 3_072;

const SETTINGS: [(&str, &str); 3] = [
    ("broker.tail_bytes_max", "16777216"),
    ("broker.journal.file_bytes", "8388608"),
    ("broker.journal.space_bytes_max", "33554432"),
];

/// What the kernel has counted for a process so far.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// read, pread, readv, and the like, of files and pipes.
    reads: u64,
    /// write, pwrite, writev, and the like, of files and sockets.
    writes: u64,
    /// Bytes for the disk.
    disk_bytes: u64,
    /// Pages of memory touched for the first time, or again after they were given back.
    faults: u64,
}

impl Account {
    /// `None` where the kernel does not keep or show these figures.
    fn of(process: u32) -> Option<Self> {
        let io = std::fs::read_to_string(format!("/proc/{process}/io")).ok()?;
        let io = |name: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(name));
            line?.trim().parse::<u64>().ok()
        };
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        Some(Self {
            reads: io("syscr:")?,
            writes: io("syscw:")?,
            disk_bytes: io("write_bytes:")?,
            faults: after_name.split_ascii_whitespace().nth(7)?.parse().ok()?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
            disk_bytes: self.disk_bytes - before.disk_bytes,
            faults: self.faults - before.faults,
        }
    }
}

/// Figures for each batch.
struct PerBatch(Account);

impl fmt::Display for PerBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |count: u64| count as f64 / BATCHES as f64;
        write!(
            f,
            "each batch of {BATCH_BYTES} bytes: {:.2} reads, {:.2} writes, {:.0} bytes to the disk, {:.2} pages of new memory",
            each(self.0.reads),
            each(self.0.writes),
            each(self.0.disk_bytes),
            each(self.0.faults)
        )
    }
}

#[test]
fn a_durable_batch_costs_few_system_calls_little_new_memory_and_two_writes_of_its_bytes() {
    const TEST: &str = "the cost of a batch";
    let Some(server) = Server::start_with(TEST, &SETTINGS) else { return };
    if Account::of(server.process_id()).is_none() {
        return skip(TEST, "/proc/PID/io cannot be read here");
    }
    create_topic(&server);
    let mut producer = Producer::connect(&server);
    producer.produce(WARM_UP_BATCHES);

    let account = || Account::of(server.process_id()).expect("as before");
    let before = account();
    let sent = producer.produce(BATCHES);
    let cost = account().since(before);
    let figures = PerBatch(cost);
    println!("{figures}");
    if cost.disk_bytes == 0 {
        return skip(TEST, "the temporary directory is not on a disk");
    }

    let batches = BATCHES as u64;
    // Appending makes no call: frames are staged. A flush writes once, its answers leave in one call and wake their thread by another; a
    // slow disk has all five batches in a flush, a fast one each alone. Segments are written 2 MiB at a time.
    assert!(cost.writes * 2 <= batches * 7, "{figures}");
    // Nothing is read to be written: old contents of journal files and segments are no business of an append. 0.00 was measured.
    assert!(cost.reads <= batches / 10, "{figures}");
    // Once to the journal and once to the segment makes 2.0. A journal block that is not full is written again with the next flush, which
    // is 0.06 when each batch is flushed alone, as much for a file system that writes its inode at each flush, and a little for frames,
    // indexes and checkpoints: 2.06 was measured with a few batches in a flush. A third writing of the bytes is far beyond the bound.
    assert!(cost.disk_bytes >= sent, "a batch is on the disk before it is acknowledged; {figures}");
    assert!(cost.disk_bytes * 10 <= sent * 22, "{figures}");
    // A batch has 16 pages. Buffers are used again, and 0.04 was measured; when they are not, all 16 are new.
    assert!(cost.faults <= batches * 2, "{figures}");
}

fn create_topic(server: &Server) {
    let created = Command::new(server.program())
        .args(["topic", "create", TOPIC, "--partitions", "1"])
        .args(["--bootstrap", &server.grpc().to_string()])
        .output()
        .expect("the program runs");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
}

/// One connection that sends the same request again and again.
struct Producer {
    socket: TcpStream,
    request: Vec<u8>,
}

impl Producer {
    fn connect(server: &Server) -> Self {
        let socket = TcpStream::connect(server.kafka()).expect("the server accepts connections");
        socket.set_nodelay(true).expect("settable");
        socket.set_read_timeout(Some(PATIENCE)).expect("settable");
        let mut producer = Self { socket, request: request() };
        // The partition is led here a moment after the topic is created.
        let begun = Instant::now();
        loop {
            producer.socket.write_all(&producer.request).expect("the server takes it");
            match producer.take_answer() {
                0 => return producer,
                error => assert!(begun.elapsed() < PATIENCE, "refused: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Produces so many batches, every one acknowledged on return; says how many bytes they were.
    fn produce(&mut self, batches: usize) -> u64 {
        let (mut sent, mut answered) = (0, 0);
        while answered < batches {
            if sent < batches && sent - answered < IN_FLIGHT {
                self.socket.write_all(&self.request).expect("the server takes it");
                sent += 1;
            } else {
                assert_eq!(self.take_answer(), 0, "refused");
                answered += 1;
            }
        }
        (sent * BATCH_BYTES) as u64
    }

    /// The error code of the next answer.
    fn take_answer(&mut self) -> i16 {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).expect("an answer");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut answer).expect("all of the answer");
        // Correlation id, one topic with its name, one partition: then its number, and then its error.
        let at = 4 + 4 + 2 + TOPIC.len() + 4 + 4;
        match answer.get(at..at + 2) {
            Some(&[high, low]) => i16::from_be_bytes([high, low]),
            _ => panic!("too short: {answer:?}"),
        }
    }
}

/// A whole Produce request of one batch of exactly [`BATCH_BYTES`].
fn request() -> Vec<u8> {
    let built = |value_bytes: usize| {
        let mut builder = BatchBuilder::new(CompressionType::None);
        builder
            .push(Timestamp(1_000_000), None, Some(&vec![0x5a; value_bytes]), &[])
            .expect("fits");
        builder.finish().expect("has a record")
    };
    let overhead = built(BATCH_BYTES - 100).len() - (BATCH_BYTES - 100);
    let records = built(BATCH_BYTES - overhead);
    assert_eq!(records.len(), BATCH_BYTES);
    let message = ProduceRequest {
        acks: -1,
        timeout_ms: 60_000,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from(TOPIC),
            partition_data: vec![PartitionProduceData { index: 0, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let header = RequestHeader {
        request_api_key: ProduceRequest::API_KEY.expect("a request") as i16,
        request_api_version: VERSION,
        correlation_id: 1,
        client_id: Some(KafkaString::from("cost")),
    };
    let mut writer = Writer::new();
    header.encode(1, &mut writer).expect("encodes");
    message.encode(VERSION, &mut writer).expect("encodes");
    let frame = writer.finish().to_bytes();
    let length = i32::try_from(frame.len()).expect("small").to_be_bytes();
    [&length[..], &frame].concat()
}
