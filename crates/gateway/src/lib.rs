//! The gateway service: the public gRPC edge.
