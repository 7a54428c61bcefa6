//! The repository's own checks: layers, tidy.
fn main() {}
