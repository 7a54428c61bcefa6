//! One listener of one party, as the others see it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Fault, Network, Party};

/// Bytes of one direction that are under way at a time.
const UNDER_WAY_BYTES: usize = 64 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The address that others are told. Closed when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Proxy(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    network: Network,
    target: Party,
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The port is taken and nobody listens: the system refuses connections.
    Closed(TcpSocket),
    Open(JoinHandle<()>),
    /// Between the two.
    Changing,
}

/// Why bytes are not carried on.
enum Broken {
    /// A fault broke the connection.
    Cut,
    /// One end did.
    Io,
}

impl Proxy {
    pub(super) fn new(network: Network, target: Party) -> Self {
        let (socket, address) = {
            let _runtime = network.runtime().enter();
            let socket = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let address = socket.local_addr().expect("it is bound");
            (socket, address)
        };
        let state = Mutex::new(State::Closed(socket));
        Self(Arc::new(Shared { network, target, address, state }))
    }

    /// Where others connect.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Carries connections to `target` from now on.
    ///
    /// # Panics
    /// When the port cannot be listened on.
    pub fn open(&self, target: SocketAddr) {
        self.close();
        let mut state = self.0.state.lock();
        let State::Closed(socket) = std::mem::replace(&mut *state, State::Changing) else {
            unreachable!("it was closed just now, and its owner is the only one to open it");
        };
        let _runtime = self.0.network.runtime().enter();
        let listener = socket.listen(BACKLOG).expect("the port is ours");
        let (network, party, address) = (self.0.network.clone(), self.0.target, self.0.address);
        *state = State::Open(tokio::spawn(accept(listener, network, party, address, target)));
    }

    /// Refuses connections from now on. Those that are there end with their target.
    ///
    /// # Panics
    /// When the port is lost to somebody else.
    pub fn close(&self) {
        let mut state = self.0.state.lock();
        if let State::Open(accepting) = &*state {
            let _runtime = self.0.network.runtime().enter();
            // The port is taken again before it is let go of.
            let socket = reserve(self.0.address);
            accepting.abort();
            // Two that listen on one port would share its connections.
            while !accepting.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            *state = State::Closed(socket);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let State::Open(accepting) = &*self.state.lock() {
            accepting.abort();
        }
    }
}

/// Takes a port without listening on it.
fn reserve(address: SocketAddr) -> TcpSocket {
    let taken = || -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        // For the moment in which the next socket takes the port over.
        socket.set_reuseport(true)?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    };
    taken().unwrap_or_else(|error| panic!("{address}: {error}"))
}

async fn accept(
    listener: TcpListener,
    network: Network,
    party: Party,
    address: SocketAddr,
    target: SocketAddr,
) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let network = network.clone();
        tokio::spawn(async move {
            let asked = network.clone();
            let found = tokio::task::spawn_blocking(move || asked.party_at(peer, address)).await;
            let source = found.unwrap_or(Party::Clients);
            carry(stream, target, &network, source, party).await;
        });
    }
}

/// Both ways until one end closes or a fault cuts it.
async fn carry(
    mut near: TcpStream,
    target: SocketAddr,
    network: &Network,
    source: Party,
    party: Party,
) {
    let _ = near.set_nodelay(true);
    let outcome = async {
        if network.fault(source, party) == Some(Fault::Cut) {
            return Err(Broken::Cut);
        }
        let mut far = TcpStream::connect(target).await.map_err(|_| Broken::Io)?;
        let _ = far.set_nodelay(true);
        let outcome = {
            let (near_read, near_write) = near.split();
            let (far_read, far_write) = far.split();
            let there = pump(near_read, far_write, network, (source, party));
            let back = pump(far_read, near_write, network, (party, source));
            tokio::try_join!(there, back)
        };
        if outcome.is_err() {
            reset(&far);
        }
        outcome.map(|_| ())
    };
    if outcome.await.is_err() {
        reset(&near);
    }
}

/// The next close says that the connection is broken, not that it is over.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One direction, to the end of its source.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    network: &Network,
    way: (Party, Party),
) -> Result<(), Broken> {
    let mut versions = network.versions();
    let mut buffer = vec![0; UNDER_WAY_BYTES];
    loop {
        let count = tokio::select! {
            count = from.read(&mut buffer) => count.map_err(|_| Broken::Io)?,
            _ = versions.changed() => match network.fault(way.0, way.1) {
                Some(Fault::Cut) => return Err(Broken::Cut),
                _ => continue,
            },
        };
        pass(network, way, &mut versions).await?;
        if count == 0 {
            return to.shutdown().await.map_err(|_| Broken::Io);
        }
        to.write_all(&buffer[..count]).await.map_err(|_| Broken::Io)?;
    }
}

/// Waits until what has arrived may go on.
async fn pass(
    network: &Network,
    (from, to): (Party, Party),
    versions: &mut watch::Receiver<u64>,
) -> Result<(), Broken> {
    let arrived = Instant::now();
    loop {
        versions.mark_unchanged();
        match network.fault(from, to) {
            None => return Ok(()),
            Some(Fault::Cut) => return Err(Broken::Cut),
            Some(Fault::Delay(time)) if arrived.elapsed() >= time => return Ok(()),
            Some(Fault::Delay(time)) => {
                let _ = tokio::time::timeout_at(arrived + time, versions.changed()).await;
            }
            Some(Fault::Hold) => {
                let _ = versions.changed().await;
            }
        }
    }
}
