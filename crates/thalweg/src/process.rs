//! `thalweg standalone | controller | broker | coordinator | gateway | edge`: the services, all in one process or each in its own.
//!
//! | read | for |
//! |---|---|
//! | `composition` | what every process does: settings, logs, signals, exit code |
//! | `standalone`, `controller`, `broker`, `coordinator`, `gateway`, `edge` | which parts run in it, in which order they start and stop |
//! | the others | the parts: a machine, listeners, data directories |
//!
//! Standard output carries one line for each listener and `ready`, for scripts that start it; everything else is log lines on
//! standard error.

mod broker;
mod broker_port;
mod composition;
mod controller;
mod coordination;
mod coordinator;
mod data_dir;
mod edge;
mod error;
mod gateway;
mod kafka;
mod kafka_metrics;
mod log_dir;
mod machine;
mod operations;
mod standalone;

use std::process::ExitCode;

use crate::cli::services as arguments;

/// Runs until a signal asks to end.
pub(crate) fn standalone(arguments: &arguments::Standalone) -> ExitCode {
    composition::run::<standalone::Standalone>(arguments.layers(), arguments.common.print_config)
}

/// Runs until a signal asks to end.
pub(crate) fn controller(arguments: &arguments::Controller) -> ExitCode {
    composition::run::<controller::Controller>(arguments.layers(), arguments.common.print_config)
}

/// Runs until a signal asks to end.
pub(crate) fn broker(arguments: &arguments::Broker) -> ExitCode {
    composition::run::<broker::Broker>(arguments.layers(), arguments.common.print_config)
}

/// Runs until a signal asks to end.
pub(crate) fn coordinator(arguments: &arguments::Coordinator) -> ExitCode {
    composition::run::<coordinator::Coordinator>(arguments.layers(), arguments.common.print_config)
}

/// Runs until a signal asks to end.
pub(crate) fn gateway(arguments: &arguments::Gateway) -> ExitCode {
    composition::run::<gateway::Gateway>(arguments.layers(), arguments.common.print_config)
}

/// Runs until a signal asks to end.
pub(crate) fn edge(arguments: &arguments::Edge) -> ExitCode {
    composition::run::<edge::Edge>(arguments.layers(), arguments.common.print_config)
}
