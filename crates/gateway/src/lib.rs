//! The gateway service: the public gRPC edge.

pub mod port;
