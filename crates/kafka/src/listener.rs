//! Serves Kafka clients on one address.
//!
//! ```text
//!             acceptor (on the first thread) ──round robin──►  thread 0..N: one single-threaded runtime each
//!                                                                └─ one task per connection: read ─► handle ─► write
//! ```
//!
//! A connection stays on its thread for life and a request is handled where its bytes arrive, so produce and fetch cross no thread.
//! Everything a client can make grow has a limit in [`ListenerOptions`]. Authentication and TLS are not here yet.

mod accept;
mod connection;
mod counters;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod log_limit;
mod memory;
mod places;
mod requests;
mod unsent;
mod write_queue;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

pub use counters::{Counters, CountersSnapshot};

use crate::backend::Backend;
use log_limit::LogLimit;
use memory::RequestMemory;
use places::Places;
use unsent::Unsent;

/// Connections that wait in the kernel for being accepted.
const ACCEPT_BACKLOG: i32 = 1024;

/// Accepted connections that wait for their thread to take them up. Beyond it the acceptor waits too.
const HANDOVER_MAX: usize = 64;

/// Where to listen, and how much any client may take.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// Port 0 lets the system choose one: see [`ListenerHandle::local_addr`].
    pub address: SocketAddr,
    /// Threads, each with its own event loop; at least one. About as many as there are cores.
    pub runtimes: usize,
    /// Largest request, without its length. A longer one closes the connection before it is read.
    pub frame_bytes_max: usize,
    /// Requests of one connection that may be unanswered at a time; further ones wait in the socket.
    pub in_flight_max: usize,
    /// Bytes of unanswered requests of one connection after which no further one is read.
    pub in_flight_bytes_max: usize,
    /// Bytes of requests of all connections, read in part or unanswered, after which further ones wait in their sockets. At least
    /// `frame_bytes_max`; one request at a time may exceed it.
    pub request_bytes_max: usize,
    /// Bytes of answers not taken by the clients of all connections after which no further request is begun.
    pub unsent_bytes_max: usize,
    /// Connections at a time; further ones are closed at once.
    pub connections_max: usize,
    /// The same, of one IP address.
    pub connections_per_ip_max: usize,
    /// How long a connection may make no progress: no complete request (or 64 KiB of one), no answer byte taken.
    pub idle_timeout: Duration,
    /// The same for a connection that holds memory which others wait for.
    pub stall_timeout: Duration,
    /// How long a shutdown waits for requests that are being handled, and how long they go on for a client that has ended its side.
    pub drain_timeout: Duration,
}

impl ListenerOptions {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            runtimes: std::thread::available_parallelism().map_or(1, usize::from),
            // Kafka's socket.request.max.bytes.
            frame_bytes_max: 100 * 1024 * 1024,
            // Idempotent producers have five batches in flight, replaying ones somewhat more.
            in_flight_max: 16,
            in_flight_bytes_max: 32 * 1024 * 1024,
            request_bytes_max: 256 * 1024 * 1024,
            unsent_bytes_max: 256 * 1024 * 1024,
            connections_max: 16 * 1024,
            connections_per_ip_max: usize::MAX,
            // Kafka's connections.max.idle.ms.
            idle_timeout: Duration::from_secs(600),
            stall_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// The listener could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("cannot start the threads of a listener: {0}")]
    Threads(#[source] io::Error),
}

/// A running listener. Dropping it stops the listener without waiting for its requests.
#[derive(Debug)]
pub struct ListenerHandle {
    local_addr: SocketAddr,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    /// Closed when the last thread has ended.
    ended: mpsc::Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

impl ListenerHandle {
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Stops accepting and reading, answers what has been read (for at most `drain_timeout`), closes.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.ended.recv().await.is_some() {}
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the Kafka listener ended in a panic");
            }
        }
    }
}

/// What all connections of a listener share.
struct Shared<B> {
    backend: Arc<B>,
    options: ListenerOptions,
    counters: Arc<Counters>,
    log_limit: LogLimit,
    memory: Arc<RequestMemory>,
    unsent: Arc<Unsent>,
}

/// A connection on its way to its thread.
struct Accepted {
    socket: TcpStream,
    peer: SocketAddr,
    number: u64,
    place: places::Place,
}

/// Binds the address and starts the threads; returns when clients can connect.
pub fn start<B: Backend>(
    options: ListenerOptions,
    backend: Arc<B>,
) -> Result<ListenerHandle, StartError> {
    Bound::new(options.address)?.start(options, backend)
}

/// An address that is taken but not served yet: for who must know the port before there is anything to serve with. Clients that
/// connect meanwhile wait.
#[derive(Debug)]
pub struct Bound {
    listener: std::net::TcpListener,
    local_addr: SocketAddr,
}

impl Bound {
    pub fn new(address: SocketAddr) -> Result<Self, StartError> {
        let failed = |source| StartError::Bind { address, source };
        let listener = bind(address).map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local_addr })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Starts the threads; `options.address` has been dealt with.
    pub fn start<B: Backend>(
        self,
        options: ListenerOptions,
        backend: Arc<B>,
    ) -> Result<ListenerHandle, StartError> {
        start_threads(self, options, backend)
    }
}

fn start_threads<B: Backend>(
    bound: Bound,
    options: ListenerOptions,
    backend: Arc<B>,
) -> Result<ListenerHandle, StartError> {
    let Bound { listener, local_addr } = bound;
    let (stop, stopped) = watch::channel(false);
    let (ending, ended) = mpsc::channel(1);
    let counters = Arc::new(Counters::default());
    let shared = Arc::new(Shared {
        backend,
        counters: Arc::clone(&counters),
        log_limit: LogLimit::default(),
        memory: Arc::new(RequestMemory::new(
            options.request_bytes_max.max(options.frame_bytes_max),
        )),
        unsent: Arc::new(Unsent::new(options.unsent_bytes_max)),
        options,
    });

    let runtimes = shared.options.runtimes.max(1);
    let (queues, inboxes): (Vec<_>, Vec<_>) =
        (0..runtimes).map(|_| mpsc::channel(HANDOVER_MAX)).unzip();
    let mut acceptor = Some(accept::Acceptor {
        listener,
        queues,
        counters: Arc::clone(&counters),
        places: Places::new(shared.options.connections_max, shared.options.connections_per_ip_max),
    });
    let mut handle = ListenerHandle { local_addr, counters, stop, ended, threads: Vec::new() };
    for (number, inbox) in inboxes.into_iter().enumerate() {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::Threads)?;
        let thread = EventLoop {
            inbox,
            acceptor: acceptor.take(),
            shared: Arc::clone(&shared),
            stopped: stopped.clone(),
            _ending: ending.clone(),
        };
        let spawned = std::thread::Builder::new()
            .name(format!("kafka-{number}"))
            .spawn(move || thread.run(&runtime));
        handle.threads.push(spawned.map_err(StartError::Threads)?);
    }
    Ok(handle)
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the former life to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    Ok(socket.into())
}

/// One thread of the listener.
struct EventLoop<B> {
    inbox: mpsc::Receiver<Accepted>,
    acceptor: Option<accept::Acceptor>,
    shared: Arc<Shared<B>>,
    stopped: watch::Receiver<bool>,
    /// Dropped with the thread: its end.
    _ending: mpsc::Sender<()>,
}

impl<B: Backend> EventLoop<B> {
    fn run(self, runtime: &Runtime) {
        let local = LocalSet::new();
        runtime.block_on(local.run_until(self.serve()));
    }

    async fn serve(mut self) {
        let mut connections = JoinSet::new();
        let mut accepting = JoinSet::new();
        if let Some(acceptor) = self.acceptor.take() {
            accepting.spawn_local(acceptor.run());
        }
        let mut stopped = self.stopped.clone();
        loop {
            tokio::select! {
                // A dropped handle reads as an error, and means the same.
                _ = stopped.wait_for(|stop| *stop) => break,
                Some(accepted) = self.inbox.recv() => {
                    let shared = Arc::clone(&self.shared);
                    connections.spawn_local(connection::serve(accepted, shared, self.stopped.clone()));
                }
                Some(ended) = connections.join_next() => report_panic(ended),
            }
        }
        drop(accepting);
        self.inbox.close();
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                report_panic(ended);
            }
        };
        if tokio::time::timeout(self.shared.options.drain_timeout, drained).await.is_err() {
            tracing::warn!("Kafka requests were still being handled when the listener had to stop");
        }
    }
}

/// A panic in one request ends its connection and is seen; the other connections of the thread go on.
fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a Kafka connection ended in a panic");
    }
}
