//! How many connections there may be, in total and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::counters::{Counters, OpenConnection};

#[derive(Debug)]
pub(super) struct Places {
    total_max: usize,
    per_ip_max: usize,
    /// Open connections by address; an address without any is not in it.
    by_ip: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// An open connection, counted for as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    _open: OpenConnection,
    ip: IpAddr,
    by_ip: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    pub(super) fn new(total_max: usize, per_ip_max: usize) -> Self {
        Self { total_max, per_ip_max, by_ip: Arc::default() }
    }

    /// A place for a connection from `ip`; `None`, counted, when all that it may have are taken.
    pub(super) fn take(&self, ip: IpAddr, counters: &Arc<Counters>) -> Option<Place> {
        // The same machine, whichever way it is written.
        let ip = ip.to_canonical();
        let open = counters.open_connection(self.total_max)?;
        let mut by_ip = self.by_ip.lock();
        let of_ip = by_ip.entry(ip).or_insert(0);
        if *of_ip >= self.per_ip_max {
            counters.refused(open);
            return None;
        }
        *of_ip += 1;
        drop(by_ip);
        Some(Place { _open: open, ip, by_ip: Arc::clone(&self.by_ip) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_ip = self.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_leaves_nothing_behind() {
        let counters = Arc::new(Counters::default());
        let places = Places::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = places.take(ip("10.0.0.1"), &counters).unwrap();
        let second = places.take(ip("::ffff:10.0.0.1"), &counters).unwrap();
        assert!(places.take(ip("10.0.0.1"), &counters).is_none());
        let other = places.take(ip("10.0.0.2"), &counters).unwrap();
        assert!(places.take(ip("10.0.0.3"), &counters).is_none());

        drop(first);
        let again = places.take(ip("10.0.0.1"), &counters).unwrap();
        let counted = counters.snapshot();
        assert_eq!(
            (counted.connections_open, counted.connections_opened, counted.connections_refused),
            (3, 4, 2)
        );
        drop((second, other, again));
        assert!(places.by_ip.lock().is_empty());
        assert_eq!(counters.snapshot().connections_open, 0);
    }
}
