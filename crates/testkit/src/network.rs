//! A network that can be broken: every listener of a cluster is reached through a proxy, and what one party sends another can be cut, held
//! or delayed, each way by itself.
//!
//! ```text
//!   broker 2 ──► proxy of controller 1's listener ──► controller 1
//!            ◄──                                   ◄──
//! ```
//!
//! A proxy has its port for as long as the network lives, so nothing that is advertised changes when a process starts again on another
//! port, and no port is given to somebody else meanwhile. Who connects is found out from the system (`source`), so the processes need to know
//! nothing of all this. While a process is down, its proxies refuse connections as the system would.

mod proxy;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub use proxy::Proxy;

/// Who can be kept from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Controller(usize),
    Broker(usize),
    Coordinator(usize),
    Gateway(usize),
    /// Everybody who is no process of the cluster.
    Clients,
}

/// What happens to bytes one party sends another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing arrives, and nobody is told: a black hole. What was sent arrives when the fault is over, if the connection is still there.
    Hold,
    /// Connections break, and new ones break at once.
    Cut,
    /// Everything arrives this much later.
    Delay(Duration),
}

/// The proxies of a cluster and the faults between its parties. Ends with the last clone.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

struct Shared {
    faults: Mutex<BTreeMap<(Party, Party), Fault>>,
    /// Changed with every fault that begins or ends.
    version: watch::Sender<u64>,
    /// Processes by number, to tell who connects.
    processes: Mutex<BTreeMap<Party, u32>>,
    /// `Some` until the end.
    runtime: Option<Runtime>,
}

impl Network {
    /// # Panics
    /// When the system gives no thread.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("network")
            .enable_all()
            .build();
        Self(Arc::new(Shared {
            faults: Mutex::default(),
            version: watch::channel(0).0,
            processes: Mutex::default(),
            runtime: Some(runtime.expect("a runtime of one thread")),
        }))
    }

    /// A proxy on a free port of loopback, refusing connections until it is opened.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn proxy(&self, target: Party) -> Proxy {
        Proxy::new(self.clone(), target)
    }

    /// Which process a party is from now on; `None` for none.
    pub fn set_process(&self, party: Party, process: Option<u32>) {
        let mut processes = self.0.processes.lock();
        match process {
            Some(process) => processes.insert(party, process),
            None => processes.remove(&party),
        };
    }

    /// Breaks one way.
    pub fn set(&self, from: Party, to: Party, fault: Fault) {
        self.0.faults.lock().insert((from, to), fault);
        self.changed();
    }

    /// Breaks both ways between two parties.
    pub fn set_between(&self, one: Party, other: Party, fault: Fault) {
        let mut faults = self.0.faults.lock();
        faults.insert((one, other), fault);
        faults.insert((other, one), fault);
        drop(faults);
        self.changed();
    }

    /// Everything is as it should be again.
    pub fn heal(&self) {
        self.0.faults.lock().clear();
        self.changed();
    }

    fn changed(&self) {
        self.0.version.send_modify(|version| *version += 1);
    }

    fn fault(&self, from: Party, to: Party) -> Option<Fault> {
        self.0.faults.lock().get(&(from, to)).copied()
    }

    fn versions(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// Whose end `peer` of a connection to `proxy` is.
    fn party_at(&self, peer: SocketAddr, proxy: SocketAddr) -> Party {
        let processes = self.0.processes.lock().clone();
        source::owner(peer, proxy, &processes).unwrap_or(Party::Clients)
    }

    fn runtime(&self) -> &Runtime {
        self.0.runtime.as_ref().expect("it is taken by the end only")
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last owner may be one of its own tasks.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("faults", &*self.0.faults.lock()).finish_non_exhaustive()
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(number) => write!(f, "controller-{number}"),
            Self::Broker(number) => write!(f, "broker-{number}"),
            Self::Coordinator(number) => write!(f, "coordinator-{number}"),
            Self::Gateway(number) => write!(f, "gateway-{number}"),
            Self::Clients => f.write_str("clients"),
        }
    }
}

#[cfg(test)]
mod tests;
