//! The hosts of the quorum: a controller each, on a disk that outlives it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thalweg_controller::{Controller, ControllerOptions, Voter};
use thalweg_env::fs::SimFs;
use thalweg_env::{SeededRandom, simulation};
use thalweg_metadata_feed::Feed;
use thalweg_raft::KvKind;
use thalweg_rpc::{Routes, Server, ServerOptions};
use thalweg_types::NodeId;

use crate::clock::HostClock;
use crate::network;
use crate::trace::Trace;

/// How many vote.
pub(crate) const CONTROLLERS: u64 = 3;

const PORT: u16 = 7000;

/// What the outside sees of the hosts: the image of each, by its name, in its present life.
pub(crate) type Feeds = Arc<Mutex<BTreeMap<String, Feed>>>;

pub(crate) fn name(id: u64) -> String {
    format!("controller-{id}")
}

pub(crate) fn endpoints() -> Vec<String> {
    (1..=CONTROLLERS).map(|id| format!("{}:{PORT}", name(id))).collect()
}

/// One life of a controller's host. It ends when the host crashes.
pub(crate) async fn live(id: u64, disk: SimFs, feeds: Feeds, trace: Trace) -> turmoil::Result {
    let endpoints = endpoints();
    let voters: Vec<_> = (1..)
        .zip(&endpoints)
        .map(|(node_id, endpoint)| Voter { node_id, endpoint: endpoint.clone() })
        .collect();
    let endpoint = format!("{}:{PORT}", name(id));
    let node_id = NodeId(i32::try_from(id)?);
    let random = Arc::new(SeededRandom::new(simulation::entropy()));
    let mut options = ControllerOptions::new("/metadata", Arc::new(disk), random)
        .one_of(node_id, endpoint, voters);
    options.quorum.kv = KvKind::Memory;
    options.clock = Arc::new(HostClock::new());
    let handle = Controller::start(options).await?;
    feeds.lock().insert(name(id), handle.feed());
    let routes = Routes::new().with(handle.service()).with(handle.peer_service());
    let incoming = network::listen(PORT).await?;
    let _server = Server::new(ServerOptions::default()).serve_incoming(incoming, routes);
    trace.note(format_args!("{} is up", name(id)));
    handle.join().await?;
    trace.note(format_args!("{} knows a leader", name(id)));
    let mut was_active = false;
    loop {
        if handle.is_active() != was_active {
            was_active = !was_active;
            trace.note(format_args!("{} is active: {was_active}", name(id)));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
