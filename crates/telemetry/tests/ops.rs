//! The endpoints as a scraper sees them: bytes over a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;
use thalweg_telemetry::{Readiness, Registry, ops};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Status line and body of one request on a connection of its own.
async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("a listener");
    let request = format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn metrics_show_counters_with_our_prefix_and_the_process_with_the_common_one() {
    let registry = Arc::new(Registry::new());
    let batches: Counter = registry.register(|registry| {
        let counter = Counter::default();
        registry.register("broker_batches_in", "Batches", counter.clone());
        counter
    });
    let ops = ops::serve(loopback(), registry, Readiness::new()).await.unwrap();
    batches.inc_by(3);

    let (status, body) = get(ops.local_address(), "/metrics").await;

    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("\nthalweg_broker_batches_in_total 3\n"), "{body}");
    assert!(body.contains("process_cpu_seconds_total "), "{body}");
    assert!(body.contains("process_start_time_seconds "), "{body}");
    for name in ["process_resident_memory_bytes ", "process_open_fds "] {
        let line = body.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        assert!(line.parse::<i64>().unwrap() > 0, "{name}{line}");
    }
    assert!(body.ends_with("# EOF\n"), "{body}");
    ops.shutdown().await;
}

#[tokio::test]
async fn readiness_names_each_condition_and_the_reason_it_does_not_hold() {
    let readiness = Readiness::new();
    let open = Arc::new(AtomicBool::new(false));
    readiness.check("metadata", || Ok(()));
    let seen = Arc::clone(&open);
    readiness.check("logs", move || {
        if seen.load(Ordering::SeqCst) { Ok(()) } else { Err("3 of 9 open".to_owned()) }
    });
    let ops = ops::serve(loopback(), Arc::new(Registry::new()), readiness).await.unwrap();

    let (status, body) = get(ops.local_address(), "/readyz").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, "not ready\nok      metadata\nwaiting logs: 3 of 9 open\n");

    open.store(true, Ordering::SeqCst);
    let (status, body) = get(ops.local_address(), "/readyz").await;
    assert_eq!((status.as_str(), body.lines().next()), ("HTTP/1.1 200 OK", Some("ready")));
    ops.shutdown().await;
}

#[tokio::test]
async fn health_answers_until_shutdown_and_the_port_is_free_afterwards() {
    let ops = ops::serve(loopback(), Arc::new(Registry::new()), Readiness::new()).await.unwrap();
    let address = ops.local_address();
    assert_eq!(get(address, "/healthz").await, ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    assert_eq!(get(address, "/other").await.0, "HTTP/1.1 404 Not Found");

    // An idle keep-alive connection must not hold up the shutdown.
    let _idle = TcpStream::connect(address).await.unwrap();
    ops.shutdown().await;

    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let first = ops::serve(loopback(), Arc::new(Registry::new()), Readiness::new()).await.unwrap();
    let second =
        ops::serve(first.local_address(), Arc::new(Registry::new()), Readiness::new()).await;
    assert!(second.is_err());
}
