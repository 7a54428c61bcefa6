//! Typed, validated configuration of every service.
