//! Too many open files: the listener goes on accepting when there is room again. Alone in its process, whose limit it lowers.

use std::fs::File;
use std::future::{Future, ready};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use thalweg_kafka::listener::{self, ListenerOptions};
use thalweg_kafka::{ApiKey, ApiTable, Backend, Reply, Request, RequestContext};

struct Nothing(ApiTable);

impl Backend for Nothing {
    fn apis(&self) -> &ApiTable {
        &self.0
    }

    fn handle(
        self: &Arc<Self>,
        _context: RequestContext,
        _request: Request,
    ) -> impl Future<Output = Reply> + Send {
        ready(Reply::Close)
    }
}

#[test]
fn accepting_survives_a_lack_of_file_descriptors() {
    let backend = Arc::new(Nothing(ApiTable::of(&[ApiKey::Metadata])));
    let options = ListenerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let handle = listener::start(options, backend).expect("a free port");
    let counters = handle.counters();

    let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).expect("may be lowered");
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    client.connect(&handle.local_addr().into()).expect("the kernel answers for the listener");
    let deadline = Instant::now() + Duration::from_secs(20);
    while counters.accept_errors.load(Ordering::Relaxed) < 2 {
        assert!(Instant::now() < deadline, "accepting fails");
        std::thread::sleep(Duration::from_millis(5));
    }

    drop(hoard);
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    // ApiVersions 0, correlation id 1, no client id.
    client.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).expect("writes");
    let mut answer = [0; 10];
    client.read_exact(&mut answer).expect("the connection was accepted after all");
    assert_eq!(answer[4..], [0, 0, 0, 1, 0, 0]);
    // A back-off of a second at most, whatever the number of failures before.
    assert!(counters.accept_errors.load(Ordering::Relaxed) < 1000);
}
