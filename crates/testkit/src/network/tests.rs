//! What the proxies do to a connection between two threads of this process.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use super::*;

const SERVER: Party = Party::Broker(1);

/// Answers every byte with the same one.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn say(mut stream: &TcpStream, byte: u8) -> io::Result<u8> {
    stream.write_all(&[byte])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// Whether nothing arrives for a moment.
fn is_silent(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    matches!(read, Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
}

#[test]
fn a_closed_proxy_refuses_and_an_opened_one_carries_again_and_again() {
    let network = Network::new();
    let proxy = network.proxy(SERVER);
    for _ in 0..3 {
        let refused = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        proxy.open(echo());
        assert_eq!(say(&connect(&proxy), 7).unwrap(), 7);
        proxy.open(echo());
        assert_eq!(say(&connect(&proxy), 8).unwrap(), 8);
        proxy.close();
    }
}

#[test]
fn what_is_held_arrives_when_the_fault_is_over() {
    let network = Network::new();
    let proxy = network.proxy(SERVER);
    proxy.open(echo());
    let mut stream = connect(&proxy);
    assert_eq!(say(&stream, 1).unwrap(), 1);

    for (from, to) in [(Party::Clients, SERVER), (SERVER, Party::Clients)] {
        network.set(from, to, Fault::Hold);
        stream.write_all(&[2]).unwrap();
        assert!(is_silent(&stream), "{from} to {to}");
        network.heal();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [2]);
    }
    network.set(Party::Clients, Party::Broker(2), Fault::Hold);
    assert_eq!(say(&stream, 3).unwrap(), 3);
}

#[test]
fn a_cut_breaks_connections_that_are_there_and_new_ones() {
    let network = Network::new();
    let proxy = network.proxy(SERVER);
    proxy.open(echo());
    let stream = connect(&proxy);
    assert_eq!(say(&stream, 1).unwrap(), 1);

    network.set_between(Party::Clients, SERVER, Fault::Cut);
    assert!(say(&stream, 2).is_err());
    let later = TcpStream::connect(proxy.address()).and_then(|stream| say(&stream, 3));
    assert!(later.is_err());
    network.heal();
    assert_eq!(say(&connect(&proxy), 4).unwrap(), 4);
}

#[test]
fn what_is_delayed_arrives_later_and_in_order() {
    let network = Network::new();
    let proxy = network.proxy(SERVER);
    proxy.open(echo());
    let stream = connect(&proxy);
    assert_eq!(say(&stream, 1).unwrap(), 1);

    network.set(Party::Clients, SERVER, Fault::Delay(Duration::from_millis(150)));
    let begun = Instant::now();
    for byte in 2..4 {
        assert_eq!(say(&stream, byte).unwrap(), byte);
    }
    assert!(begun.elapsed() >= Duration::from_millis(300));
}
