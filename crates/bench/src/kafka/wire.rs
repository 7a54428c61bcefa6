//! The few requests this client sends and the answers it reads, in versions without tagged fields.
//!
//! Requests name one topic and one partition; answers are read for that one. Numbers are big-endian, strings have a 16-bit length,
//! arrays and records a 32-bit one.

use bytes::{BufMut, BytesMut};

use crate::error::Error;

/// A request's place in the protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) version: i16,
}

pub(crate) const PRODUCE: Api = Api { key: 0, version: 3 };
pub(crate) const FETCH: Api = Api { key: 1, version: 4 };
pub(crate) const LIST_OFFSETS: Api = Api { key: 2, version: 1 };
pub(crate) const CREATE_TOPICS: Api = Api { key: 19, version: 2 };

/// Wait this long for the replicas (Produce) or for records (Fetch).
const TIMEOUT_MS: i32 = 30_000;

const ACKS_ALL: i16 = -1;
const NOT_A_REPLICA: i32 = -1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// What a Fetch of one partition brought.
pub(crate) struct Fetched<'a> {
    pub(crate) high_watermark: i64,
    pub(crate) records: &'a [u8],
}

/// Everything of a Produce request before the records, which follow as they are.
pub(crate) fn produce_head(topic: &str, partition: i32, records_bytes: usize) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i16(-1); // No transactional id.
    body.put_i16(ACKS_ALL);
    body.put_i32(TIMEOUT_MS);
    put_partition(&mut body, topic, partition);
    body.put_i32(i32::try_from(records_bytes).unwrap_or(i32::MAX));
    body
}

/// Base offset that the records got.
pub(crate) fn read_produced(body: &[u8]) -> Result<i64, Error> {
    let mut fields = Fields(body);
    fields.partition()?;
    fields.i64()
}

pub(crate) fn fetch(topic: &str, partition: i32, offset: i64, bytes_max: i32) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(NOT_A_REPLICA);
    body.put_i32(TIMEOUT_MS);
    body.put_i32(1);
    body.put_i32(bytes_max);
    body.put_i8(0); // Read uncommitted.
    put_partition(&mut body, topic, partition);
    body.put_i64(offset);
    body.put_i32(bytes_max);
    body
}

pub(crate) fn read_fetched(body: &[u8]) -> Result<Fetched<'_>, Error> {
    let mut fields = Fields(body);
    fields.i32()?; // Throttle time.
    fields.partition()?;
    let high_watermark = fields.i64()?;
    fields.i64()?; // Last stable offset.
    for _ in 0..fields.i32()?.max(0) {
        fields.take::<16>()?; // An aborted transaction.
    }
    let length = usize::try_from(fields.i32()?).unwrap_or(0);
    let records = fields.0.get(..length).ok_or(Error::Malformed("records beyond the frame"))?;
    Ok(Fetched { high_watermark, records })
}

pub(crate) fn list_earliest(topic: &str, partition: i32) -> BytesMut {
    list_offset(topic, partition, EARLIEST)
}

pub(crate) fn list_latest(topic: &str, partition: i32) -> BytesMut {
    list_offset(topic, partition, LATEST)
}

fn list_offset(topic: &str, partition: i32, at: i64) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(NOT_A_REPLICA);
    put_partition(&mut body, topic, partition);
    body.put_i64(at);
    body
}

pub(crate) fn read_offset(body: &[u8]) -> Result<i64, Error> {
    let mut fields = Fields(body);
    fields.partition()?;
    fields.i64()?; // Timestamp.
    fields.i64()
}

/// One topic with one replica of each partition.
pub(crate) fn create_topic(topic: &str, partitions: i32, configs: &[(&str, &str)]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(1);
    put_string(&mut body, topic);
    body.put_i32(partitions);
    body.put_i16(1); // Replicas of each.
    body.put_i32(0); // No manual assignment.
    body.put_i32(i32::try_from(configs.len()).unwrap_or(i32::MAX));
    for (name, value) in configs {
        put_string(&mut body, name);
        put_string(&mut body, value);
    }
    body.put_i32(TIMEOUT_MS);
    body.put_i8(0); // Not only a check.
    body
}

/// Whether the one topic was made.
pub(crate) fn read_created(body: &[u8]) -> Result<(), Error> {
    let mut fields = Fields(body);
    fields.i32()?; // Throttle time.
    fields.topic()?;
    fields.no_error()
}

/// One topic with one partition, up to the partition's own fields.
fn put_partition(body: &mut BytesMut, topic: &str, partition: i32) {
    body.put_i32(1);
    put_string(body, topic);
    body.put_i32(1);
    body.put_i32(partition);
}

pub(crate) fn put_string(body: &mut BytesMut, text: &str) {
    // A name too long for its length field is cut, and the broker does not know it.
    let length = text.len().min(i16::MAX as usize);
    body.put_i16(i16::try_from(length).expect("cut to fit"));
    body.put_slice(&text.as_bytes()[..length]);
}

/// Takes fields off the front of an answer.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// One topic with one partition, up to the partition's own fields after its error.
    fn partition(&mut self) -> Result<(), Error> {
        self.topic()?;
        if self.i32()? != 1 {
            return Err(Error::Malformed("not one partition"));
        }
        self.i32()?;
        self.no_error()
    }

    /// One topic, up to the fields after its name.
    fn topic(&mut self) -> Result<(), Error> {
        if self.i32()? != 1 {
            return Err(Error::Malformed("not one topic"));
        }
        let name_bytes = usize::try_from(self.i16()?).unwrap_or(0);
        self.0 = self.0.get(name_bytes..).ok_or(Error::Malformed("too short"))?;
        Ok(())
    }

    fn no_error(&mut self) -> Result<(), Error> {
        match self.i16()? {
            0 => Ok(()),
            code => Err(Error::Broker(code)),
        }
    }

    fn i16(&mut self) -> Result<i16, Error> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Error> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Error> {
        self.take().map(i64::from_be_bytes)
    }

    fn take<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Error> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Error::Malformed("too short"))?;
        self.0 = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests;
