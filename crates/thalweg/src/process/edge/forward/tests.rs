//! Connections that are passed on: to whom, and what becomes of them when one side goes.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Sends back what it gets after a byte of its own, so that clients know who they talk to.
async fn gateway(mark: u8) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                stream.write_all(&[mark]).await.expect("marked");
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    (address, serving)
}

fn host(address: SocketAddr) -> HostPort {
    HostPort { host: address.ip().to_string(), port: address.port() }
}

async fn edge(gateways: &[SocketAddr], connections_max: usize) -> (SocketAddr, Forwarder) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let hosts = gateways.iter().copied().map(host).collect();
    let gateways = Gateways::new("test", hosts, Metrics::default());
    (address, Forwarder::start(listener, gateways, connections_max))
}

/// A connection, and whom it leads to.
async fn client(edge: SocketAddr) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(edge).await.expect("connected");
    let mark = stream.read_u8().await.expect("a gateway's mark");
    (stream, mark)
}

#[tokio::test]
async fn every_byte_goes_both_ways_and_so_does_the_end() {
    let (gateway, _serving) = gateway(b'a').await;
    let (edge, _forwarder) = edge(&[gateway], 10).await;
    let (mut stream, _) = client(edge).await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = stream.split();
    let writing = async {
        write.write_all(&sent).await.expect("written");
        write.shutdown().await.expect("ended");
    };
    let mut received = Vec::new();
    let (_, outcome) = tokio::join!(writing, read.read_to_end(&mut received));
    outcome.expect("read to the end");
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
}

#[tokio::test]
async fn connections_are_spread_and_those_that_ended_are_forgotten() {
    let ((a, _serving_a), (b, _serving_b)) = (gateway(b'a').await, gateway(b'b').await);
    let (edge, _forwarder) = edge(&[a, b], 10).await;
    let ((first, one), (_second, other)) = (client(edge).await, client(edge).await);
    assert_ne!(one, other);
    drop(first);
    // Its end is noticed in a moment; until then the next may lead to either.
    let mut kept = Vec::new();
    let next = loop {
        let (stream, mark) = client(edge).await;
        if mark == one {
            break mark;
        }
        kept.push(stream);
        assert!(kept.len() < 8, "nobody is led to the gateway with the fewest connections");
    };
    assert_eq!(next, one);
}

#[tokio::test]
async fn a_gateway_that_is_gone_is_passed_over() {
    let (a, serving_a) = gateway(b'a').await;
    let (b, _serving_b) = gateway(b'b').await;
    serving_a.abort();
    let _ = serving_a.await;
    let (edge, _forwarder) = edge(&[a, b], 10).await;
    for _ in 0..4 {
        assert_eq!(client(edge).await.1, b'b');
    }
}

#[tokio::test]
async fn without_any_gateway_the_client_is_let_go_and_readiness_tells() {
    let (gone, serving) = gateway(b'a').await;
    serving.abort();
    let _ = serving.await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let edge = listener.local_addr().expect("an address");
    let gateways = Gateways::new("test", vec![host(gone)], Metrics::default());
    let reached = gateways.are_reached();
    let forwarder = Forwarder::start(listener, gateways, 10);
    assert!(reached.load(Ordering::Relaxed));

    let mut stream = TcpStream::connect(edge).await.expect("connected");
    assert_eq!(stream.read(&mut [0; 1]).await.ok().unwrap_or(0), 0, "nobody is there to answer");
    assert!(!reached.load(Ordering::Relaxed));
    forwarder.shutdown(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn no_more_connections_are_taken_than_allowed() {
    let (gateway, _serving) = gateway(b'a').await;
    let (edge, forwarder) = edge(&[gateway], 1).await;
    let (first, _) = client(edge).await;
    let mut second = TcpStream::connect(edge).await.expect("in the backlog");
    let waited = timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(waited.is_err(), "the second one was served beside the first");
    drop(first);
    assert_eq!(second.read_u8().await.expect("served now"), b'a');
    forwarder.shutdown(Duration::from_millis(10)).await;
}
