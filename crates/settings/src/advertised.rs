//! The host clients are told to connect to when nobody names one.

use std::net::SocketAddr;

/// A single address is advertised as it is: `127.0.0.1`, never `localhost`, which some clients resolve to `::1`. A listener on every
/// interface advertises the machine's host name.
pub(crate) fn host(listening_on: SocketAddr) -> String {
    if listening_on.ip().is_unspecified() {
        host_name().unwrap_or_else(|| "127.0.0.1".to_owned())
    } else {
        listening_on.ip().to_string()
    }
}

fn host_name() -> Option<String> {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    files
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .chain(std::env::var("HOSTNAME"))
        .map(|name| name.trim().to_owned())
        .find(|name| !name.is_empty() && name != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_advertised_as_an_address_and_every_interface_as_a_name() {
        assert_eq!(host("127.0.0.1:9092".parse().unwrap()), "127.0.0.1");
        assert_eq!(host("[::1]:9092".parse().unwrap()), "::1");
        assert_ne!(host("0.0.0.0:9092".parse().unwrap()), "0.0.0.0");
        assert!(!host("[::]:9092".parse().unwrap()).is_empty());
    }
}
