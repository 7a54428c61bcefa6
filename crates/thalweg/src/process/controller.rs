//! A controller in a process of its own: one of the voters.
//!
//! ```text
//!   address bound ─► metadata log opened ─► served to the other voters ─► quorum found, or made ─► a leader is known
//! ```
//!
//! It is served before it has a part in the quorum, because that is how the voters find each other; who asks it to decide anything
//! meanwhile is sent elsewhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thalweg_controller::{ControllerOptions, Handle, Voter};
use thalweg_metadata_core::StaticConfigs;
use thalweg_rpc::{Routes, Server, ServerHandle, ServerOptions};
use thalweg_settings::{Loaded, Service, Settings};
use thalweg_types::NodeId;
use tokio::net::TcpListener;

use super::composition::Composition;
use super::data_dir;
use super::error::StartError;
use super::machine::Machine;
use super::operations::{Operations, say};

/// Streams of watchers end with the controller; what else is under way is short.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

pub(super) struct Controller {
    controller: Handle,
    internal: ServerHandle,
    operations: Operations,
}

impl Composition for Controller {
    const SERVICE: Service = Service::Controller;

    async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let machine = Machine::real();
        let metadata = data_dir::of_controller(&settings.controller.data_dir)?;
        let address = settings.controller.internal.address;
        let listen = |source| StartError::Listen { what: "internal gRPC", address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let operations = Operations::serve(settings, &machine).await?;
        say(&format!("internal listening on {}", listener.local_addr()?))?;
        operations.say_address()?;

        let configs = StaticConfigs::new(loaded.broker_configs())?;
        let options = one_of_the_voters(settings, options(settings, metadata, &machine, configs));
        let controller = thalweg_controller::Controller::start(options).await?;
        machine.check_quorum(controller.standing());
        let routes = Routes::new().with(controller.service()).with(controller.peer_service());
        let internal = Server::new(ServerOptions {
            drain_time_max: DRAIN_TIME_MAX,
            ..ServerOptions::default()
        })
        .serve_on(listener, routes)?;
        if let Err(refused) = controller.join().await {
            controller.shutdown().await;
            return Err(refused.into());
        }
        Operations::started(&machine);
        Ok(Self { controller, internal, operations })
    }

    async fn shutdown(self) {
        self.operations.stopping();
        // Ends the streams that the server would otherwise wait for.
        self.controller.shutdown().await;
        self.internal.shutdown().await;
        self.operations.shutdown().await;
    }
}

/// What a controller needs in any process.
pub(super) fn options(
    settings: &Settings,
    metadata: PathBuf,
    machine: &Machine,
    configs: StaticConfigs,
) -> ControllerOptions {
    let mut options =
        ControllerOptions::new(metadata, Arc::clone(&machine.fs), Arc::clone(&machine.random));
    options.configs = configs;
    options.clock = Arc::clone(&machine.clock);
    options.session_timeout = Duration::from_millis(settings.broker.session_timeout_ms);
    options.return_timeout = Duration::from_millis(settings.broker.return_timeout_ms);
    options.quorum.snapshot_after_entries = settings.controller.snapshot_after_entries;
    options
}

fn one_of_the_voters(settings: &Settings, options: ControllerOptions) -> ControllerOptions {
    let own = settings.controller.node_id;
    let voter = |voter: &thalweg_settings::Voter| Voter {
        node_id: u64::try_from(voter.node_id).unwrap_or_default(),
        endpoint: voter.endpoint.to_string(),
    };
    let voters: Vec<Voter> = settings.controller.voters.iter().map(voter).collect();
    // The settings were refused if it were none of them.
    let is_own = |voter: &&Voter| u64::try_from(own).is_ok_and(|own| voter.node_id == own);
    let endpoint = voters.iter().find(is_own).map(|voter| voter.endpoint.clone());
    options.one_of(NodeId(own), endpoint.unwrap_or_default(), voters)
}
