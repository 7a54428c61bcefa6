//! Where processes are reached, and which of them vote: `host:port`, `id@host:port`, and lists of both.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A list longer than this is a mistake: quorums have three or five members.
const ITEMS_MAX: usize = 64;

/// Host and port of a process, as others are told to connect to it. IPv6 addresses stand in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

/// A controller that votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Above 0.
    pub node_id: i32,
    pub endpoint: HostPort,
}

/// A list of endpoints, none of them twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Endpoints(pub(crate) Vec<HostPort>);

/// A list of voters, no id and no endpoint twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Voters(pub(crate) Vec<Voter>);

/// What is wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEndpoint(String);

/// Whether clients can be told to connect to this host: a name, or an IP address without brackets.
pub(crate) fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
        && text.parse::<SocketAddr>().is_err()
        && (text.matches(':').count() != 1)
}

impl FromStr for HostPort {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(format!("{text:?} is not like host:9190"));
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?;
        let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(bare) => bare.parse::<Ipv6Addr>().is_ok().then_some(bare),
            None => (is_host(host) && !host.contains(':')).then_some(host),
        };
        let host = bare.ok_or_else(invalid)?.to_owned();
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Voter {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(format!("{text:?} is not like 1@host:9190"));
        let (id, endpoint) = text.split_once('@').ok_or_else(invalid)?;
        let node_id = id.parse().ok().filter(|id| *id > 0).ok_or_else(invalid)?;
        Ok(Self { node_id, endpoint: endpoint.parse().map_err(|_| invalid())? })
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node_id, self.endpoint)
    }
}

impl FromStr for Endpoints {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let endpoints: Vec<HostPort> = items(text)?;
        each_once(&endpoints, Clone::clone)?;
        Ok(Self(endpoints))
    }
}

impl FromStr for Voters {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let voters: Vec<Voter> = items(text)?;
        each_once(&voters, |voter| voter.node_id)?;
        each_once(&voters, |voter| voter.endpoint.clone())?;
        Ok(Self(voters))
    }
}

fn items<T: FromStr<Err = InvalidEndpoint>>(text: &str) -> Result<Vec<T>, InvalidEndpoint> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.split(',').count() > ITEMS_MAX {
        return Err(InvalidEndpoint(format!("there are more than {ITEMS_MAX}")));
    }
    text.split(',').map(|item| item.trim().parse()).collect()
}

fn each_once<T, K: Ord + fmt::Display>(
    items: &[T],
    key: impl Fn(&T) -> K,
) -> Result<(), InvalidEndpoint> {
    let mut keys: Vec<K> = items.iter().map(key).collect();
    keys.sort_unstable();
    let twice = keys.iter().zip(keys.iter().skip(1)).find(|(one, next)| one == next);
    match twice {
        Some((twice, _)) => Err(InvalidEndpoint(format!("{twice} is there twice"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        for text in ["1@controller-1:9190", "7@127.0.0.1:1", "2147483647@[::1]:65535"] {
            assert_eq!(text.parse::<Voter>().unwrap().to_string(), text);
        }
        let list: Voters = "1@a:1, 2@b:1,3@c:1".parse().unwrap();
        assert_eq!(list.0.len(), 3);
        assert_eq!("".parse::<Endpoints>().unwrap(), Endpoints::default());
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for text in
            ["a", "a:", ":1", "a:0", "a:65536", "a:b", "::1:9190", "[a]:1", "a b:1", "http://a:1"]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
        for text in ["a:1", "0@a:1", "-1@a:1", "2147483648@a:1", "@a:1", "1@", "1@a", "1@2@a:1"] {
            assert!(text.parse::<Voter>().is_err(), "{text}");
        }
    }

    #[test]
    fn lists_name_what_is_twice() {
        let error = |text: &str| text.parse::<Voters>().unwrap_err().to_string();
        assert_eq!(error("1@a:1,1@b:1"), "1 is there twice");
        assert_eq!(error("1@a:1,2@a:1"), "a:1 is there twice");
        assert_eq!(error("1@a:1,,2@b:1"), "\"\" is not like 1@host:9190");
        assert!("a:1,b:1,a:1".parse::<Endpoints>().is_err());
        let long = vec!["a:1"; ITEMS_MAX + 1].join(",");
        assert!(long.parse::<Endpoints>().is_err());
    }
}
