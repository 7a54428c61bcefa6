//! Which process a connection comes from, as the system knows it.
//!
//! `/proc/net/tcp` has a line for each socket with both addresses and its inode; `/proc/<pid>/fd` has the inodes a process holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::Party;

/// The party whose process holds the socket at `local` that is connected to `remote`.
pub(super) fn owner(
    local: SocketAddr,
    remote: SocketAddr,
    processes: &BTreeMap<Party, u32>,
) -> Option<Party> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = inode_of(&table, local, remote)?;
    let wanted = format!("socket:[{inode}]");
    let holds = |process: u32| {
        let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
        files.flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|link| link.as_path() == Path::new(&wanted))
        })
    };
    processes.iter().find(|(_, process)| holds(**process)).map(|(party, _)| *party)
}

/// `  sl  local_address rem_address   st tx_queue:rx_queue tr:when retrnsmt uid timeout inode ...`
fn inode_of(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (as_printed(local)?, as_printed(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next()? == local && words.next()? == remote;
        // Behind the addresses: state, queues, timer, retransmissions, user, timeout.
        is_it.then(|| words.nth(6)).flatten()?.parse().ok()
    })
}

/// The address as the kernel prints it: a number in the machine's byte order, in hexadecimal.
fn as_printed(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let number = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{number:08X}:{:04X}", address.port()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn this_very_process_is_found_by_its_connection_and_another_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let stream = TcpStream::connect(remote).unwrap();
        let local = stream.local_addr().unwrap();
        let own = BTreeMap::from([
            (Party::Controller(1), u32::MAX),
            (Party::Broker(1), std::process::id()),
        ]);

        assert_eq!(owner(local, remote, &own), Some(Party::Broker(1)));

        let others = BTreeMap::from([(Party::Controller(1), u32::MAX)]);
        assert_eq!(owner(local, remote, &others), None);
        assert_eq!(owner(remote, remote, &own), None);
    }
}
