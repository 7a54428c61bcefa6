//! Many hostile clients at a time, or one with very many requests, and what a well-behaved client beside them notices.
//!
//! B4: a million pipelined requests. A2: clients that begin large requests and stop, and clients that ask for much and do not read.
//! B49: floods of connections. Each crowd is there for a window of time in which the witness goes on with its round trips.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thalweg_kafka::messages::ApiVersionsRequest;
use thalweg_testkit::Server;

use crate::wire::{Arrival, Connection, PATIENCE, frame};
use crate::witness::{VICTIM, Witness};
use crate::words::{FETCH, fetch_request};
use crate::{document, is_updating_documents, with_section};

const MIB: usize = 1024 * 1024;

/// Small enough to be reached within seconds.
const REQUEST_BYTES_MAX: usize = 64 * MIB;
const FRAME_BYTES_MAX: usize = 16 * MIB;
const UNSENT_BYTES_MAX: usize = 64 * MIB;
const TAIL_BYTES_MAX: usize = 32 * MIB;
const CONNECTIONS_MAX: usize = 300;
const CONNECTIONS_PER_IP_MAX: usize = 200;

/// Bytes in the topic that slow readers ask for: more than all limits together.
const VICTIM_BYTES: usize = 160 * MIB;

/// How long a crowd is watched at least.
const WINDOW: Duration = Duration::from_secs(3);

/// Clients of one crowd.
const CROWD: usize = 100;

const PIPELINED: usize = 1_000_000;

/// The witness's median may be this many times what it is without a crowd, or this long, whichever is more: the crowds' clients run on
/// the same processors, and so may anything else.
const SLOWER_MAX: u32 = 50;
const SLOW: Duration = Duration::from_millis(500);

#[test]
fn crowds_keep_to_the_servers_limits_and_leave_room_for_a_well_behaved_client() {
    let settings = [
        ("broker.kafka.request_bytes_max", REQUEST_BYTES_MAX),
        ("broker.kafka.frame_bytes_max", FRAME_BYTES_MAX),
        ("broker.kafka.unsent_bytes_max", UNSENT_BYTES_MAX),
        ("broker.kafka.connections_max", CONNECTIONS_MAX),
        ("broker.kafka.connections_per_ip_max", CONNECTIONS_PER_IP_MAX),
        ("broker.tail_bytes_max", TAIL_BYTES_MAX),
    ];
    let settings = settings.map(|(key, value)| (key, value.to_string()));
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let Some(mut server) = Server::start_with("crowds", &settings) else { return };
    let address = server.kafka();
    let mut witness = Witness::begin(address);
    let value = vec![7; MIB - 200];
    for _ in 0..VICTIM_BYTES / MIB {
        witness.produce(VICTIM, &value);
    }
    witness.take_times();
    // Of which the newest records are a part already.
    let resident_bytes_max = server.resident_bytes_peak() as usize
        + limits(&[REQUEST_BYTES_MAX, FRAME_BYTES_MAX, UNSENT_BYTES_MAX]);

    let quiet = Seen::of(&server, &mut witness, None);
    let mut seen = vec![("nobody".to_owned(), quiet)];
    let crowds: [(String, Begin); 4] = [
        (format!("{CROWD} clients that ask for 100 MB each and do not read"), slow_readers),
        (format!("{CROWD} clients that send half of a 16 MiB request each"), half_requests),
        (format!("a client that pipelines {PIPELINED} requests"), pipelined),
        ("connections opened as fast as they are closed".to_owned(), connection_flood),
    ];
    for (name, begin) in crowds {
        let crowd = begin(address);
        let noticed = Seen::of(&server, &mut witness, Some(&crowd));
        let what = crowd.end();
        println!("{name}: {what}");
        assert!(server.is_running(), "{name}: the server has ended\n{}", server.log());
        assert!(!server.log().contains("panic"), "{name}:\n{}", server.log());
        seen.push((name, noticed));
    }

    let table = table(&seen);
    println!("{table}");
    for (name, Seen { median, resident_bytes, .. }) in &seen {
        let bound = SLOW.max(seen[0].1.median * SLOWER_MAX);
        assert!(*median <= bound, "{name}: {median:?} is more than {bound:?}");
        assert!(
            *resident_bytes <= resident_bytes_max,
            "{name}: {resident_bytes} bytes are more than {resident_bytes_max}"
        );
    }
    if is_updating_documents() {
        let text = std::fs::read_to_string(document()).expect("the document is there");
        std::fs::write(document(), with_section(&text, "crowds", &table)).expect("writable");
    }
}

fn limits(limits: &[usize]) -> usize {
    limits.iter().sum::<usize>() * 11 / 10
}

type Begin = fn(SocketAddr) -> Crowd;

/// What the witness and the machine noticed of a crowd.
struct Seen {
    round_trips: usize,
    median: Duration,
    p99: Duration,
    resident_bytes: usize,
}

impl Seen {
    /// Goes on for a window of time, and until the crowd has done what it came for.
    fn of(server: &Server, witness: &mut Witness, crowd: Option<&Crowd>) -> Self {
        let begin = Instant::now();
        let mut resident_bytes = 0;
        while begin.elapsed() < WINDOW || crowd.is_some_and(|crowd| !crowd.is_done()) {
            assert!(begin.elapsed() < 10 * PATIENCE, "the crowd does not get on");
            witness.works();
            resident_bytes = resident_bytes.max(server.resident_bytes() as usize);
        }
        let times = witness.take_times();
        Self {
            round_trips: times.len(),
            median: times[times.len() / 2],
            p99: times[times.len() * 99 / 100],
            resident_bytes,
        }
    }
}

fn table(seen: &[(String, Seen)]) -> String {
    let mut text = String::from(
        "| Crowd | Round trips | Median | 99 of 100 within | Resident at most |\n|---|---|---|---|---|\n",
    );
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    for (name, Seen { round_trips, median, p99, resident_bytes }) in seen {
        let milliseconds = |time: &Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        writeln!(
            text,
            "| {name} | {round_trips} | {} | {} | {} MiB |",
            milliseconds(median),
            milliseconds(p99),
            resident_bytes >> 20
        )
        .expect("writing to a string");
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    writeln!(
        text,
        "\nOn {processors} processors, shared by server, crowd and witness; {build} build."
    )
    .expect("writing to a string");
    text
}

// ---- crowds ----

/// Hostile clients at work in the background.
struct Crowd {
    /// Connections that only have to be there.
    standing: Vec<Connection>,
    working: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// What came of it so far.
    count: Arc<AtomicUsize>,
    counted: &'static str,
    /// It is over when it is ended, not before.
    is_endless: bool,
}

impl Crowd {
    fn standing(standing: Vec<Connection>) -> Self {
        let count = Arc::new(AtomicUsize::new(standing.len()));
        let stop = Arc::default();
        Self { standing, working: None, stop, count, counted: "connections", is_endless: true }
    }

    fn working(
        counted: &'static str,
        work: impl FnOnce(&AtomicBool, &AtomicUsize) + Send + 'static,
    ) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let working = std::thread::spawn({
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            move || work(&stop, &count)
        });
        let is_endless = false;
        Self { standing: Vec::new(), working: Some(working), stop, count, counted, is_endless }
    }

    /// Whether nothing more will come of it that is worth waiting for.
    fn is_done(&self) -> bool {
        self.is_endless || self.working.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Says how much of it there was.
    fn end(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(working) = self.working {
            working.join().expect("no panic");
        }
        drop(self.standing);
        format!("{} {}", self.count.load(Ordering::Relaxed), self.counted)
    }
}

fn slow_readers(address: SocketAddr) -> Crowd {
    let mut request = fetch_request(VICTIM, 0);
    request.max_bytes = 100_000_000;
    request.topics[0].partitions[0].partition_max_bytes = 100_000_000;
    let request = frame(request, FETCH);
    let reader = |_| {
        let mut connection = Connection::open_from(2, address).expect("accepted");
        connection.send(&request);
        connection
    };
    Crowd::standing((0..CROWD).map(reader).collect())
}

fn half_requests(address: SocketAddr) -> Crowd {
    let length = i32::try_from(FRAME_BYTES_MAX).expect("fits").to_be_bytes();
    let half = [&length[..], &vec![0; FRAME_BYTES_MAX / 2]].concat();
    let sender = |_| {
        let connection = Connection::open_from(2, address).expect("accepted");
        let mut socket = connection.socket();
        // What the server does not take at once it is not given: it takes nothing while others are before this one.
        socket.set_nonblocking(true).expect("settable");
        let mut rest = &half[..];
        while let Ok(bytes) = socket.write(rest) {
            rest = &rest[bytes..];
            if rest.is_empty() {
                break;
            }
        }
        connection
    };
    Crowd::standing((0..CROWD).map(sender).collect())
}

fn pipelined(address: SocketAddr) -> Crowd {
    Crowd::working("answers", move |_, count| {
        let mut connection = Connection::open_from(2, address).expect("accepted");
        let mut writer = connection.socket().try_clone().expect("a second handle");
        let sending = std::thread::spawn(move || {
            let thousand = frame(ApiVersionsRequest::default(), 0).repeat(1000);
            (0..PIPELINED / 1000).try_for_each(|_| writer.write_all(&thousand))
        });
        for _ in 0..PIPELINED {
            assert!(matches!(connection.receive(PATIENCE), Arrival::Frame(_)));
            count.fetch_add(1, Ordering::Relaxed);
        }
        sending.join().expect("no panic").expect("the server took all requests");
    })
}

/// From one address, which may have only so many, each with a request that is never answered because it is never finished.
fn connection_flood(address: SocketAddr) -> Crowd {
    let flood = move |stop: &AtomicBool, count: &AtomicUsize| {
        let mut open = std::collections::VecDeque::new();
        while !stop.load(Ordering::Relaxed) {
            if let Ok(mut connection) = Connection::open_from(3, address) {
                connection.send(&[0, 0, 0, 100, 0]);
                open.push_back(connection);
                count.fetch_add(1, Ordering::Relaxed);
            }
            if open.len() > 2 * CONNECTIONS_PER_IP_MAX {
                open.pop_front();
            }
        }
    };
    Crowd { is_endless: true, ..Crowd::working("connections", flood) }
}
