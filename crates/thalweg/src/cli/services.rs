//! The commands that run services, and which setting each of their flags sets.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use thalweg_settings::Layers;

/// What every process takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Address of the HTTP listener with metrics and health [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http_address: Option<SocketAddr>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the settings in force with the origin of each, and end.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Form of the log lines on standard error [default: text].
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub(crate) log_format: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  thalweg standalone --data-dir /var/lib/thalweg
  thalweg standalone --data-dir ./data --kafka-address 0.0.0.0:9092 --log-format json
  thalweg standalone --data-dir ./data --print-config

Every setting can also come from a TOML file (--config) or from the environment
(THALWEG__BROKER__LOG__SEGMENT_BYTES=536870912); see docs/configuration.md.")]
pub(crate) struct Standalone {
    /// Directory that holds everything the node keeps; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the Kafka listener [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) kafka_address: Option<SocketAddr>,
    /// Address of the gRPC listener [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) grpc_address: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example, on the first of three machines; the list of voters is the same on each:
  thalweg controller --node-id 1 --data-dir /var/lib/thalweg --internal-address 0.0.0.0:9190 \\
      --voters 1@controller-1:9190,2@controller-2:9190,3@controller-3:9190

It is ready when it has a part in the quorum and an active controller is known, which takes a majority of the voters.
Every setting can also come from a TOML file (--config) or from the environment
(THALWEG__CONTROLLER__NODE_ID=1); see docs/configuration.md."
)]
pub(crate) struct Controller {
    /// Which of the voters this is; belongs to its data directory for good.
    #[arg(long, value_name = "ID")]
    pub(crate) node_id: Option<i32>,
    /// All voters, with the addresses where they reach each other.
    #[arg(long, value_name = "ID@HOST:PORT,...")]
    pub(crate) voters: Option<String>,
    /// Directory of the metadata log; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the gRPC listener for the other services [default: 127.0.0.1:9190].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) internal_address: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  thalweg broker --controllers controller-1:9190,controller-2:9190,controller-3:9190 \\
      --data-dir /var/lib/thalweg --internal-address 0.0.0.0:9190 --kafka-address 0.0.0.0:9092

It gets its number from the controllers at its first start and keeps it in its data directory. It is ready when it may
lead partitions and serves those it leads. Every setting can also come from a TOML file (--config) or from the
environment (THALWEG__CLUSTER__CONTROLLERS=controller-1:9190); see docs/configuration.md.")]
pub(crate) struct Broker {
    /// Where controllers are reached, comma-separated; some of them are enough.
    #[arg(long, value_name = "HOST:PORT,...")]
    pub(crate) controllers: Option<String>,
    /// Directory of the partition logs; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the Kafka listener [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) kafka_address: Option<SocketAddr>,
    /// Address of the gRPC listener for the other services [default: 127.0.0.1:9190].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) internal_address: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  thalweg coordinator --controllers controller-1:9190,controller-2:9190,controller-3:9190 \\
      --internal-address 0.0.0.0:9190 --kafka-address 0.0.0.0:9092

It keeps nothing on disk; run two or more, which share the groups and take over from each other. It is ready when the
controllers know it. Every setting can also come from a TOML file (--config) or from the environment
(THALWEG__CLUSTER__CONTROLLERS=controller-1:9190); see docs/configuration.md.")]
pub(crate) struct Coordinator {
    /// Where controllers are reached, comma-separated; some of them are enough.
    #[arg(long, value_name = "HOST:PORT,...")]
    pub(crate) controllers: Option<String>,
    /// Address of the Kafka listener [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) kafka_address: Option<SocketAddr>,
    /// Address of the gRPC listener for gateways [default: 127.0.0.1:9190].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) internal_address: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  thalweg gateway --controllers controller-1:9190,controller-2:9190,controller-3:9190 \\
      --grpc-address 0.0.0.0:50051 --kafka-address 0.0.0.0:9092

It keeps nothing; run as many as there is work for. Kafka clients are told to connect to gateway.kafka.advertised_host,
by default this machine's name. It is ready when it knows the cluster and the cluster knows it. Every setting can also come
from a TOML file (--config) or from the environment (THALWEG__CLUSTER__CONTROLLERS=controller-1:9190); see
docs/configuration.md.")]
pub(crate) struct Gateway {
    /// Where controllers are reached, comma-separated; some of them are enough.
    #[arg(long, value_name = "HOST:PORT,...")]
    pub(crate) controllers: Option<String>,
    /// Address of the Kafka listener [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) kafka_address: Option<SocketAddr>,
    /// Address of the gRPC listener [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) grpc_address: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "Example, where the name gateway stands for the addresses of all gateways:
  thalweg edge --kafka-address 0.0.0.0:9092 --kafka-gateways gateway:9092 \\
      --grpc-address 0.0.0.0:50051 --grpc-gateways gateway:50051

Each connection goes to the gateway that has the fewest; gateways may come and go. Every setting can also come from a
TOML file (--config) or from the environment (THALWEG__EDGE__KAFKA__GATEWAYS=gateway:9092); see docs/configuration.md.")]
pub(crate) struct Edge {
    /// Address for Kafka clients [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) kafka_address: Option<SocketAddr>,
    /// Where gateways serve Kafka clients, comma-separated [default: gateway:9092].
    #[arg(long, value_name = "HOST:PORT,...")]
    pub(crate) kafka_gateways: Option<String>,
    /// Address for gRPC clients [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) grpc_address: Option<SocketAddr>,
    /// Where gateways serve gRPC clients, comma-separated [default: gateway:50051].
    #[arg(long, value_name = "HOST:PORT,...")]
    pub(crate) grpc_gateways: Option<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

impl Common {
    fn layers(&self) -> Layers {
        Layers::new()
            .file(self.config.clone())
            .environment(std::env::vars_os())
            .flag("operations.address", "--http-address", self.http_address)
            .flag("operations.log_format", "--log-format", self.log_format.as_ref())
    }
}

impl Standalone {
    pub(crate) fn layers(&self) -> Layers {
        let data_dir = self.data_dir.as_ref().map(|path| path.display());
        self.common
            .layers()
            .flag("standalone.data_dir", "--data-dir", data_dir)
            .flag("broker.kafka.address", "--kafka-address", self.kafka_address)
            .flag("gateway.grpc.address", "--grpc-address", self.grpc_address)
    }
}

impl Controller {
    pub(crate) fn layers(&self) -> Layers {
        let data_dir = self.data_dir.as_ref().map(|path| path.display());
        self.common
            .layers()
            .flag("controller.node_id", "--node-id", self.node_id)
            .flag("controller.voters", "--voters", self.voters.as_ref())
            .flag("controller.data_dir", "--data-dir", data_dir)
            .flag("controller.internal.address", "--internal-address", self.internal_address)
    }
}

impl Broker {
    pub(crate) fn layers(&self) -> Layers {
        let data_dir = self.data_dir.as_ref().map(|path| path.display());
        self.common
            .layers()
            .flag("cluster.controllers", "--controllers", self.controllers.as_ref())
            .flag("broker.data_dir", "--data-dir", data_dir)
            .flag("broker.kafka.address", "--kafka-address", self.kafka_address)
            .flag("broker.internal.address", "--internal-address", self.internal_address)
    }
}

impl Coordinator {
    pub(crate) fn layers(&self) -> Layers {
        self.common
            .layers()
            .flag("cluster.controllers", "--controllers", self.controllers.as_ref())
            .flag("coordinator.kafka.address", "--kafka-address", self.kafka_address)
            .flag("coordinator.internal.address", "--internal-address", self.internal_address)
    }
}

impl Gateway {
    pub(crate) fn layers(&self) -> Layers {
        self.common
            .layers()
            .flag("cluster.controllers", "--controllers", self.controllers.as_ref())
            .flag("gateway.kafka.address", "--kafka-address", self.kafka_address)
            .flag("gateway.grpc.address", "--grpc-address", self.grpc_address)
    }
}

impl Edge {
    pub(crate) fn layers(&self) -> Layers {
        self.common
            .layers()
            .flag("edge.kafka.address", "--kafka-address", self.kafka_address)
            .flag("edge.kafka.gateways", "--kafka-gateways", self.kafka_gateways.as_ref())
            .flag("edge.grpc.address", "--grpc-address", self.grpc_address)
            .flag("edge.grpc.gateways", "--grpc-gateways", self.grpc_gateways.as_ref())
    }
}
