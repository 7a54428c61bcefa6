//! One address in front of several gateways.
//!
//! Connections are passed on as they are, each to the gateway that has the fewest of this process's. It knows no protocol and keeps nothing; gateways may
//! come and go behind a host name that stands for all of them, as container networks and cluster DNS have it.
//!
//! ```text
//!   addresses bound ─► served; a client that comes while no gateway is there waits a little, and is let go
//! ```

mod forward;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thalweg_settings::{EdgeListener, Loaded, Service};
use tokio::net::TcpListener;

use super::composition::Composition;
use super::error::StartError;
use super::machine::Machine;
use super::operations::{Operations, say};
use forward::{Forwarder, Gateways, Metrics};

/// How long connections under way may go on when the process ends. What they do is not known here, so it is a matter of patience alone.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) struct Edge {
    forwarders: Vec<Forwarder>,
    operations: Operations,
}

impl Composition for Edge {
    const SERVICE: Service = Service::Edge;

    async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let machine = Machine::real();
        let edge = &settings.edge;
        let listeners = [
            ("kafka", bind("Kafka", &edge.kafka).await?, &edge.kafka),
            ("grpc", bind("gRPC", &edge.grpc).await?, &edge.grpc),
            ("http", bind("the gateways' HTTP", &edge.http).await?, &edge.http),
        ];
        let operations = Operations::serve(settings, &machine).await?;

        let metrics = machine.registry.register(Metrics::register);
        let mut forwarders = Vec::with_capacity(listeners.len());
        for (name, listener, settings) in listeners {
            say(&format!("{name} listening on {}", listener.local_addr()?))?;
            let gateways = Gateways::new(name, settings.gateways.clone(), metrics.clone());
            check(&machine, name, gateways.are_reached());
            forwarders.push(Forwarder::start(listener, gateways, edge.connections_max));
        }
        operations.say_address()?;
        Operations::started(&machine);
        Ok(Self { forwarders, operations })
    }

    async fn shutdown(self) {
        self.operations.stopping();
        let forwarders = self.forwarders.into_iter().map(|one| one.shutdown(FINISH_TIME_MAX));
        futures_util::future::join_all(forwarders).await;
        self.operations.shutdown().await;
    }
}

async fn bind(what: &'static str, settings: &EdgeListener) -> Result<TcpListener, StartError> {
    let address = settings.address;
    let listen = |source| StartError::Listen { what, address, source };
    TcpListener::bind(address).await.map_err(listen)
}

/// Whether the last client found a gateway.
fn check(machine: &Machine, name: &'static str, reached: Arc<AtomicBool>) {
    machine.readiness.check(name, move || match reached.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("no gateway takes connections; see edge.*.gateways".to_owned()),
    });
}
