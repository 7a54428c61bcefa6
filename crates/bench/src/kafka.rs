//! The Kafka protocol, one partition in each request.

mod connection;
mod wire;

use bytes::Bytes;

use crate::connections::Start;
use crate::error::Error;
use crate::fetch::Taker;
use crate::produce::Sender;
use crate::{Fetch, Place};
pub(crate) use connection::Connection;

/// Sends batches over one connection.
pub(crate) struct Producer {
    connection: Connection,
    topic: String,
}

impl Producer {
    /// Ready once all `partitions` are led.
    pub(crate) fn open(place: &Place, partitions: &[i32]) -> Result<Self, Error> {
        let mut connection = Connection::open(place.address())?;
        for partition in partitions {
            connection.end_of(&place.topic, *partition)?;
        }
        Ok(Self { connection, topic: place.topic.clone() })
    }
}

impl Sender for Producer {
    fn send(&mut self, partition: i32, batch: &Bytes) -> Result<(), Error> {
        let head = wire::produce_head(&self.topic, partition, batch.len());
        self.connection.send(wire::PRODUCE, &head, batch)
    }

    fn take_answer(&mut self) -> Result<(), Error> {
        wire::read_produced(self.connection.receive()?).map(|_offset| ())
    }
}

/// Reads `partitions` one after another, one request at a time.
pub(crate) fn fetch(
    arguments: &Fetch,
    partitions: &[i32],
    taker: &mut Taker,
    start: Start<'_>,
) -> Result<(), Error> {
    let topic = &arguments.place.topic;
    let mut connection = Connection::open(arguments.place.address())?;
    let mut ends = Vec::new();
    for partition in partitions {
        let end = connection.end_of(topic, *partition)?;
        let earliest = wire::list_earliest(topic, *partition);
        let first = wire::read_offset(connection.call(wire::LIST_OFFSETS, &earliest)?)?;
        ends.push((*partition, first, end));
    }
    start.go();
    for (partition, first, end) in ends {
        let mut next = first;
        while next < end {
            let body = wire::fetch(topic, partition, next, arguments.fetch_bytes);
            let fetched = wire::read_fetched(connection.call(wire::FETCH, &body)?)?;
            if fetched.high_watermark < end {
                return Err(Error::Malformed("the high watermark went back"));
            }
            let before = next;
            next = taker.take(fetched.records, next)?;
            if next == before {
                return Err(Error::Malformed("no whole batch before the end of the partition"));
            }
        }
    }
    Ok(())
}

/// Makes a topic; one that exists already is an error.
pub(crate) fn create_topic(
    connection: &mut Connection,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Result<(), Error> {
    let body = wire::create_topic(topic, partitions, configs);
    wire::read_created(connection.call(wire::CREATE_TOPICS, &body)?)
}
