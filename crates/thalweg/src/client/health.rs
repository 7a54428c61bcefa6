//! `thalweg health`: asks a process of this machine whether it is ready, for whoever restarts or waits for it.
//!
//! The one client command that speaks HTTP: it goes to the operations listener, which every process has, and which answers while the
//! process still waits for the others. An image without a shell needs nothing else for its health check.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Health;

/// More than any readiness answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Prints what the process says of itself. 0: it is well.
pub(crate) fn run(arguments: &Health) -> ExitCode {
    let path = if arguments.live { "/healthz" } else { "/readyz" };
    let patience = Duration::from_secs(u64::from(arguments.timeout));
    match ask(reachable(arguments.http_address), path, patience) {
        Ok(answer) => {
            print!("{}", answer.body);
            if answer.is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("thalweg: {} does not answer: {error}", arguments.http_address);
            ExitCode::FAILURE
        }
    }
}

struct Answer {
    is_well: bool,
    body: String,
}

/// Where a listener on every interface is reached from its own machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr, path: &str, patience: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(unknown)?;
    let status = head.split(' ').nth(1).ok_or_else(unknown)?;
    Ok(Answer { is_well: status == "200", body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one request and gives what was asked.
    fn process(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut asked = [0; 512];
            let length = stream.read(&mut asked).expect("a request");
            stream.write_all(answer.as_bytes()).expect("answered");
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (address, served)
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_the_process_says_is_passed_on() {
        let (address, served) = process("HTTP/1.1 200 OK\r\n\r\nready\n");
        let answer = ask(address, "/readyz", PATIENCE).expect("answered");
        assert!(answer.is_well);
        assert_eq!(answer.body, "ready\n");
        assert!(served.join().expect("served").starts_with("GET /readyz HTTP/1.0\r\n"));

        let (address, served) = process("HTTP/1.1 503 Service Unavailable\r\n\r\nno controller\n");
        let answer = ask(address, "/readyz", PATIENCE).expect("answered");
        assert!(!answer.is_well);
        assert_eq!(answer.body, "no controller\n");
        served.join().expect("served");
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        let (address, served) = process("thalweg");
        assert!(ask(address, "/readyz", PATIENCE).is_err());
        served.join().expect("served");
    }

    #[test]
    fn every_interface_is_reached_by_loopback() {
        let at = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(at("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(at("[::]:8080"), "[::1]:8080");
        assert_eq!(at("10.1.2.3:8080"), "10.1.2.3:8080");
    }
}
