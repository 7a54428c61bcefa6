//! Accepts connections and deals them to the threads. Nothing that can go wrong with one connection, or with the number of open
//! files, ends the loop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::Accepted;
use super::counters::Counters;
use super::places::Places;

/// First and longest pause after a failed accept. Without one, a process out of file descriptors would spin.
const BACK_OFF_MIN: Duration = Duration::from_millis(5);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

pub(super) struct Acceptor {
    pub(super) listener: std::net::TcpListener,
    pub(super) queues: Vec<mpsc::Sender<Accepted>>,
    pub(super) counters: Arc<Counters>,
    pub(super) places: Places,
}

impl Acceptor {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let Self { listener, queues, counters, places } = self;
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the Kafka listener cannot watch its socket");
                return;
            }
        };
        let mut back_off = BACK_OFF_MIN;
        let mut number = 0_u64;
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, ?back_off, "cannot accept Kafka connections");
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                    continue;
                }
            };
            back_off = BACK_OFF_MIN;
            let Some(place) = places.take(peer.ip(), &counters) else {
                continue;
            };
            // Answers are small and awaited; waiting to fill a packet would delay them.
            let prepared = socket.set_nodelay(true).and_then(|()| socket.into_std());
            let Ok(socket) = prepared else {
                continue;
            };
            let turn = usize::try_from(number).unwrap_or_default() % queues.len().max(1);
            number += 1;
            if let Some(queue) = queues.get(turn) {
                // A closed queue belongs to a thread that is stopping, and so are we.
                let _ = queue.send(Accepted { socket, peer, number, place }).await;
            }
        }
    }
}

/// Errors that the connection brought with it; the next one may be accepted at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
