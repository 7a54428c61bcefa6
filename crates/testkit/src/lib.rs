//! Real processes for tests: the server as a user would start it, and the clients that users bring.
//!
//! Nothing in here reaches into the server: a [`Server`] is the compiled program on loopback with a data directory of its own, to be
//! killed and started again; a [`Cluster`] is several of them with a network that can be broken in between; [`Client`] and [`Grpcurl`] are
//! other people's client libraries behind small command-line programs (`clients/README.md`). A tool that is not installed makes its test [skip](skip()) with a recorded reason, or fail where nothing may be
//! skipped.

pub mod checker;
mod client;
pub mod cluster;
pub mod cluster_loop;
pub mod container_run;
pub mod containers;
mod dice;
mod grpcurl;
pub mod history;
mod kill_loop;
mod load;
pub mod members;
pub mod network;
mod node;
mod process;
mod record_line;
mod server;
mod skip;
mod small_disk;

pub use client::{Client, Library, kcat};
pub use cluster::{Cluster, Shape};
pub use cluster_loop::{Plan, cluster_loop};
pub use container_run::{Step, container_run};
pub use grpcurl::Grpcurl;
pub use kill_loop::{Report, kill_loop};
pub use process::{Finished, finish};
pub use record_line::{RecordLine, incompressible, sample};
pub use server::Server;
pub use skip::skip;
pub use small_disk::SmallDisk;
