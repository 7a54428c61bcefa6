//! Typed, validated configuration of every service.
//!
//! Four layers, each stronger than the one before: built-in defaults, a TOML file, environment variables
//! (`THALWEG__BROKER__LOG__SEGMENT_BYTES` is `broker.log.segment_bytes`), command-line flags. Every key is declared once, in
//! [`catalogue`], with its default, its allowed range and its meaning; loading, checking, printing and the reference in
//! docs/configuration.md all read that one table, and the typed [`Settings`] are filled from it without a second set of defaults.
//!
//! A key the table does not know and a value outside its range are errors that name key, value, origin and what is allowed; all
//! problems are reported at once.

pub mod catalogue;

mod advertised;
mod check;
mod documentation;
mod endpoint;
mod error;
mod layers;
mod print;
mod sections;

pub use catalogue::Service;
pub use documentation::reference;
pub use endpoint::{HostPort, InvalidEndpoint, Voter};
pub use error::{Problem, SettingsError};
pub use layers::{Layers, Loaded, Source};
pub use sections::{
    AdvertisedInternal, AdvertisedKafka, Broker, Cluster, Controller, Coordinator, Edge,
    EdgeListener, Gateway, Groups, Grpc, Internal, Journal, Kafka, Log, LogFormat, Operations,
    Settings, Standalone,
};
