//! gRPC servers and channels: tuning, tower stack, typed errors.
