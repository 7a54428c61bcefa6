//! Clusters of real processes on loopback: how they come up, what they live through, what they refuse.

mod load;
mod quorum;
mod start;
