//! Builders, fixtures and real-process clusters for tests.
