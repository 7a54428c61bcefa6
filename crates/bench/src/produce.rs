//! Producing: batches of a file's lines, or one batch sent again and again, with several in flight.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::SystemTime;

use thalweg_record::{BatchBuilder, BatchHeader};
use thalweg_types::{CompressionType, Timestamp};

use crate::Produce;
use crate::connection::Connection;
use crate::error::Error;
use crate::figures::{Figures, Meter};
use crate::wire;

/// Bytes of a record beside its value, at most: length, timestamp and offset deltas, no key, no headers.
const RECORD_OVERHEAD_BYTES: usize = 24;

/// Sends everything and waits for every answer. A batch that is refused ends the run.
pub(crate) fn run(arguments: &Produce) -> Result<Figures, Error> {
    let mut sender = Sender {
        connection: Connection::open(arguments.place.address)?,
        arguments,
        records: 0,
        bytes: 0,
    };
    sender.connection.end_of(&arguments.place.topic, arguments.place.partition)?;
    let meter = Meter::start(arguments.place.server_pid);
    match &arguments.file {
        Some(path) => {
            send_lines(&mut sender, BufReader::with_capacity(1 << 20, File::open(path)?))?
        }
        None => send_generated(&mut sender)?,
    }
    while sender.connection.in_flight() > 0 {
        sender.take_answer()?;
    }
    Ok(meter.end(sender.records, sender.bytes))
}

struct Sender<'a> {
    connection: Connection,
    arguments: &'a Produce,
    records: u64,
    bytes: u64,
}

impl Sender<'_> {
    fn send(&mut self, batch: &[u8], records: u64) -> Result<(), Error> {
        while self.connection.in_flight().unsigned_abs() >= self.arguments.in_flight {
            self.take_answer()?;
        }
        let place = &self.arguments.place;
        let head = wire::produce_head(&place.topic, place.partition, batch.len());
        self.connection.send(wire::PRODUCE, &head, batch)?;
        self.records += records;
        self.bytes += batch.len() as u64;
        Ok(())
    }

    fn take_answer(&mut self) -> Result<(), Error> {
        wire::read_produced(self.connection.receive()?).map(|_offset| ())
    }
}

fn send_lines(sender: &mut Sender<'_>, mut lines: impl BufRead) -> Result<(), Error> {
    let compression = sender.arguments.compression;
    let mut batch = BatchBuilder::new(compression);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let value = line.strip_suffix(b"\n").unwrap_or(&line);
        let grown = batch.size_estimate() + value.len() + RECORD_OVERHEAD_BYTES;
        if !batch.is_empty() && grown > sender.arguments.batch_bytes as usize {
            send_built(sender, std::mem::replace(&mut batch, BatchBuilder::new(compression)))?;
        }
        batch.push(now(), None, Some(value), &[])?;
        line.clear();
    }
    if batch.is_empty() { Ok(()) } else { send_built(sender, batch) }
}

fn send_built(sender: &mut Sender<'_>, batch: BatchBuilder) -> Result<(), Error> {
    let records = u64::from(batch.record_count().unsigned_abs());
    sender.send(&batch.finish()?, records)
}

fn send_generated(sender: &mut Sender<'_>) -> Result<(), Error> {
    let arguments = sender.arguments;
    let batch = generated(arguments.compression, arguments.batch_bytes, arguments.record_bytes)?;
    let records = u64::from(BatchHeader::parse(&batch)?.record_count.unsigned_abs());
    for _ in 0..arguments.bytes.div_ceil(batch.len() as u64) {
        sender.send(&batch, records)?;
    }
    if sender.bytes == 0 { Err(Error::NothingToSend) } else { Ok(()) }
}

/// One batch as full as its limit allows, of at least one record. The values do not compress well, as payloads that are worth
/// measuring do not.
fn generated(
    compression: CompressionType,
    batch_bytes: u32,
    record_bytes: u32,
) -> Result<Vec<u8>, Error> {
    let mut builder = BatchBuilder::new(compression);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut value = vec![0; record_bytes as usize];
    loop {
        for byte in &mut value {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *byte = state.to_be_bytes()[0];
        }
        builder.push(now(), None, Some(&value), &[])?;
        let grown = builder.size_estimate() + value.len() + RECORD_OVERHEAD_BYTES;
        if grown > batch_bytes as usize {
            return Ok(builder.finish()?.to_vec());
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_batch_fills_its_limit_and_is_valid() {
        let batch = generated(CompressionType::None, 65_536, 1024).expect("built");
        let header = BatchHeader::parse(&batch).expect("a batch");
        thalweg_record::verify_crc(&batch, &header).expect("its CRC is right");
        assert_eq!(header.size_bytes(), batch.len());
        assert!(batch.len() <= 65_536 && batch.len() > 65_536 - 1024 - RECORD_OVERHEAD_BYTES);
        let one = generated(CompressionType::None, 1, 1024).expect("built");
        assert_eq!(BatchHeader::parse(&one).expect("a batch").record_count, 1);
    }
}
