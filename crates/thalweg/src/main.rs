//! The binary: services and client commands.
fn main() {}
