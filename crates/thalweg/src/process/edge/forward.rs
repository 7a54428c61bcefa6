//! Passing connections on: which gateway, and then bytes both ways.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use thalweg_settings::HostPort;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

/// A gateway is on the same network, or it is not there.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// Time a client waits while no gateway takes connections, such as while the only one is restarted.
const NO_GATEWAY_TIME_MAX: Duration = Duration::from_secs(5);
const NO_GATEWAY_PAUSE: Duration = Duration::from_millis(100);

/// Pause after a failed accept: out of descriptors, as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One way of one connection holds at most so much.
const BUFFER_BYTES: usize = 64 * 1024;

/// What is counted, by listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    open: Family<Listener, Gauge>,
    unreachable: Family<Listener, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "edge_connections_open",
            "Connections passed on to gateways",
            metrics.open.clone(),
        );
        registry.register(
            "edge_connections_unreachable",
            "Connections closed because no gateway took them",
            metrics.unreachable.clone(),
        );
        metrics
    }
}

/// The gateways behind one listener.
#[derive(Debug)]
pub(super) struct Gateways {
    listener: Listener,
    hosts: Vec<HostPort>,
    /// Connections to each, those being made included.
    open: Mutex<HashMap<SocketAddr, usize>>,
    are_reached: Arc<AtomicBool>,
    metrics: Metrics,
}

/// One connection to a gateway, counted for as long as it lives.
struct Counted {
    gateways: Arc<Gateways>,
    address: SocketAddr,
}

impl Gateways {
    /// `hosts` are looked up for every connection: each stands for as many gateways as it has addresses.
    pub(super) fn new(name: &'static str, hosts: Vec<HostPort>, metrics: Metrics) -> Arc<Self> {
        let are_reached = Arc::new(AtomicBool::new(true));
        let (listener, open) = (Listener { listener: name }, Mutex::default());
        Arc::new(Self { listener, hosts, open, are_reached, metrics })
    }

    /// Whether the last client found one.
    pub(super) fn are_reached(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.are_reached)
    }

    /// Connects to the one with the fewest connections that answers.
    async fn connect(self: &Arc<Self>) -> io::Result<(TcpStream, Counted)> {
        let deadline = Instant::now() + NO_GATEWAY_TIME_MAX;
        loop {
            let error = match self.connect_once().await {
                Ok(connected) => {
                    self.are_reached.store(true, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                self.are_reached.store(false, Ordering::Relaxed);
                self.metrics.unreachable.get_or_create(&self.listener).inc();
                return Err(error);
            }
            sleep(NO_GATEWAY_PAUSE).await;
        }
    }

    async fn connect_once(self: &Arc<Self>) -> io::Result<(TcpStream, Counted)> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no gateway has an address");
        for address in self.by_connections(self.addresses().await?) {
            let counted = self.count(address);
            match timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, counted)),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// Of all hosts; one that cannot be looked up is no reason to do without the others.
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let (mut found, mut failed) = (Vec::new(), None);
        for HostPort { host, port } in &self.hosts {
            match lookup_host((host.as_str(), *port)).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    fn by_connections(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.sort_by_key(|address| open.get(address).copied().unwrap_or(0));
        addresses.dedup();
        addresses
    }

    fn count(self: &Arc<Self>, address: SocketAddr) -> Counted {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default() += 1;
        self.metrics.open.get_or_create(&self.listener).inc();
        Counted { gateways: Arc::clone(self), address }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.gateways.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
        self.gateways.metrics.open.get_or_create(&self.gateways.listener).dec();
    }
}

/// A listener whose connections are passed on, until it is shut down.
pub(super) struct Forwarder {
    stop: oneshot::Sender<()>,
    /// Ends with the connections that are left.
    accepting: JoinHandle<JoinSet<()>>,
}

impl Forwarder {
    /// Of more than `connections_max` at a time, further ones wait to be accepted.
    pub(super) fn start(
        listener: TcpListener,
        gateways: Arc<Gateways>,
        connections_max: usize,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let forever = accept(&listener, &gateways, connections_max, &mut connections);
            tokio::select! {
                () = forever => {}
                _ = stopped => {}
            }
            connections
        });
        Self { stop, accepting }
    }

    /// Takes no more connections, and gives those there are `patience` to end.
    pub(super) async fn shutdown(self, patience: Duration) {
        // It ends by itself only by a panic, which the await tells.
        let _ = self.stop.send(());
        let Ok(mut connections) = self.accepting.await else { return };
        let _ = timeout(patience, async { while connections.join_next().await.is_some() {} }).await;
    }
}

async fn accept(
    listener: &TcpListener,
    gateways: &Arc<Gateways>,
    connections_max: usize,
    connections: &mut JoinSet<()>,
) {
    let room = Arc::new(Semaphore::new(connections_max));
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(%error, listener = gateways.listener.listener, "connection not taken");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let gateways = Arc::clone(gateways);
        connections.spawn(async move {
            if let Err(error) = pass_on(client, &gateways).await {
                tracing::debug!(%error, listener = gateways.listener.listener, "connection ended");
            }
            drop(permit);
        });
    }
}

async fn pass_on(mut client: TcpStream, gateways: &Arc<Gateways>) -> io::Result<()> {
    let (mut gateway, _counted) = gateways.connect().await?;
    // Both ends write whole messages.
    client.set_nodelay(true)?;
    gateway.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut gateway, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
