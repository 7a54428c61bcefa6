//! A small disk runs full under producers, and has room again, all in one life of the process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use thalweg_testkit::{Server, SmallDisk, finish, kcat};

const TEST: &str = "full disk";
const DISK_BYTES: u64 = 128 << 20;
/// Longest wait for the server to notice something. It looks every second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Small files, so that a small disk holds many of them.
const SETTINGS: [(&str, &str); 5] = [
    ("broker.journal.file_bytes", "4194304"),
    ("broker.journal.space_bytes_max", "16777216"),
    ("broker.log.segment_bytes", "2097152"),
    ("broker.log.retention_check_interval_ms", "1000"),
    ("broker.disk_reserve_bytes", "25165824"),
];

struct Bench {
    server: Server,
    place: tempfile::TempDir,
    /// Files produced so far, whether or not they were acknowledged.
    rounds: usize,
}

impl Bench {
    /// Produces 2 MiB of lines that say which they are; `Err` with kcat's words when not all of it was acknowledged.
    fn produce(&mut self, topic: &str) -> Result<String, String> {
        self.rounds += 1;
        let mut lines = String::new();
        for line in 0..2048 {
            let number = self.rounds;
            lines.push_str(&format!("{number:06}-{line:04} {}\n", "x".repeat(1010)));
        }
        let file = self.place.path().join("lines");
        fs::write(&file, &lines).expect("the temporary directory is writable");
        let file = file.to_str().expect("the path is UTF-8");
        // In one batch after the other: what was acknowledged is a prefix.
        let settings = ["-X", "acks=all", "-X", "message.timeout.ms=4000", "-X", "max.in.flight=1"];
        let mut command = kcat(self.server.kafka(), TEST).expect("it was there before");
        command.args(["-P", "-t", topic, "-p", "0"]).args(settings).args(["-l", file]);
        let finished = finish(&mut command, &[]);
        if finished.status.success() { Ok(lines) } else { Err(finished.stderr) }
    }

    fn consume(&self, topic: &str) -> String {
        let mut command = kcat(self.server.kafka(), TEST).expect("it was there before");
        command.args(["-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q"]);
        finish(&mut command, &[]).expect_success()
    }

    fn topic(&self, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<_> = ["topic"].into_iter().chain(arguments.iter().copied()).collect();
        let finished = finish(&mut self.server.command(&arguments), &[]);
        match finished.status.success() {
            true => Ok(String::from_utf8_lossy(&finished.stdout).into_owned()),
            false => Err(finished.stderr),
        }
    }

    fn metric(&self, name: &str) -> f64 {
        let metrics = get(self.server.http(), "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
    }

    /// Produces until the server refuses. Every line that was acknowledged as a whole file is in the result.
    fn fill(&mut self, topic: &str, acknowledged: &mut String) {
        for _ in 0..100 {
            match self.produce(topic) {
                Ok(lines) => acknowledged.push_str(&lines),
                Err(_) => return,
            }
        }
        panic!("the disk never ran full");
    }

    fn wait_for_full(&self, expected: bool) {
        let begin = Instant::now();
        while (self.metric("thalweg_broker_disk_full") > 0.0) != expected {
            assert!(begin.elapsed() < PATIENCE, "disk_full never became {expected}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Everything acknowledged is there, in order; between may be what was not acknowledged.
    fn check(&self, topic: &str, acknowledged: &str) {
        let read = self.consume(topic);
        let mut found = read.lines();
        for line in acknowledged.lines() {
            let is_there = found.any(|other| other == line);
            assert!(is_there, "{topic}: {} is lost", &line[..11]);
        }
    }

    /// What gRPC clients are told: definite, and for the right reason.
    fn refused_over_grpc(&self, topic: &str) {
        let mut command = self.server.command(&["produce", topic, "--delivery-timeout", "1s"]);
        let error = finish(&mut command, b"no room for this\n").expect_failure();
        assert!(error.contains("disk is full"), "{error}");
    }
}

#[test]
fn a_full_disk_refuses_definitely_reads_on_and_serves_again_when_space_is_freed() {
    let Some(disk) = SmallDisk::mount(TEST, DISK_BYTES) else { return };
    let Some(server) = Server::start_in(TEST, disk.path().join("data"), &SETTINGS) else { return };
    if kcat(server.kafka(), TEST).is_none() {
        return;
    }
    let place = tempfile::tempdir().expect("a temporary directory");
    let mut bench = Bench { server, place, rounds: 0 };
    let mut first = String::new();
    let mut second = String::new();
    for topic in ["first", "second"] {
        bench.topic(&["create", topic]).expect("there is room");
    }
    for _ in 0..8 {
        first.push_str(&bench.produce("first").expect("there is room"));
    }

    // 1. The reserve is reached. What was acknowledged is there, what is new is refused.
    bench.fill("second", &mut second);
    bench.wait_for_full(true);
    assert!(bench.metric("thalweg_broker_disk_available_bytes") > 8e6, "the reserve is kept");
    bench.check("first", &first);
    bench.check("second", &second);
    bench.refused_over_grpc("first");
    let refused = bench.topic(&["create", "third"]).expect_err("there is no room");
    assert!(refused.contains("full"), "{refused}");

    // 2. A deleted topic makes room.
    bench.topic(&["delete", "first"]).expect("deletions go on");
    bench.wait_for_full(false);
    second.push_str(&bench.produce("second").expect("there is room again"));
    bench.topic(&["create", "third"]).expect("there is room again");

    // 3. Another program takes everything, to the last block.
    let ballast = disk.path().join("ballast");
    disk.fill(&ballast);
    bench.wait_for_full(true);
    assert!(bench.produce("second").is_err());
    bench.refused_over_grpc("second");
    bench.check("second", &second);
    assert!(bench.topic(&["create", "fourth"]).is_err());
    let listed = bench.topic(&["list"]).expect("metadata is served");
    assert!(listed.contains("third") && !listed.contains("first"), "{listed}");

    // 4. It gives it back.
    fs::remove_file(&ballast).expect("it is there");
    bench.wait_for_full(false);
    second.push_str(&bench.produce("second").expect("there is room again"));
    bench.topic(&["create", "fourth"]).expect("there is room again");
    bench.check("second", &second);

    // 5. One line at each edge, no failure, and the next life finds everything.
    let log = bench.server.whole_log();
    let count = |text: &str| log.matches(text).count();
    assert_eq!((count("the disk is full"), count("has room again")), (2, 2), "{log}");
    assert!(bench.server.is_running() && bench.metric("thalweg_broker_log_dir_failed") < 0.5);
    bench.server.kill();
    bench.server.restart();
    bench.check("second", &second);
    // Before the disk is unmounted.
    drop(bench);
}

fn get(http: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(http).expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers in UTF-8");
    answer
}
