//! The Kafka wire protocol: schemas, generated codec, framing, listener.
