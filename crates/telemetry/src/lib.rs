//! Logs, metrics and the operations listener.
