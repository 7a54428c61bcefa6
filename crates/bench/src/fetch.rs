//! Fetching: one partition from its beginning to the end it had at the start, one request at a time.

use std::fs::File;
use std::io::{BufWriter, Write};

use thalweg_record::{BatchError, Batches, DecompressLimits, records, verify_crc};

use crate::Fetch;
use crate::connection::Connection;
use crate::error::Error;
use crate::figures::{Figures, Meter};
use crate::wire;

/// Reads everything that is there. With an output, each batch's CRC is checked and each value written; without, batches are counted.
pub(crate) fn run(arguments: &Fetch) -> Result<Figures, Error> {
    let place = &arguments.place;
    let mut connection = Connection::open(place.address)?;
    let earliest = wire::list_earliest(&place.topic, place.partition);
    let end = connection.end_of(&place.topic, place.partition)?;
    let mut next = wire::read_offset(connection.call(wire::LIST_OFFSETS, &earliest)?)?;
    let mut output = match &arguments.output {
        Some(path) => Some(BufWriter::with_capacity(1 << 20, File::create(path)?)),
        None => None,
    };
    let (mut record_count, mut bytes) = (0, 0);
    let meter = Meter::start(place.server_pid);
    while next < end {
        let body = wire::fetch(&place.topic, place.partition, next, arguments.fetch_bytes);
        let fetched = wire::read_fetched(connection.call(wire::FETCH, &body)?)?;
        if fetched.high_watermark < end {
            return Err(Error::Malformed("the high watermark went back"));
        }
        let before = next;
        for batch in Batches::new(fetched.records) {
            let (header, batch) = match batch {
                // The answer's size limit may cut the last batch; it comes again.
                Err(BatchError::Truncated { .. }) => break,
                batch => batch?,
            };
            if let Some(output) = &mut output {
                verify_crc(batch, &header)?;
                write_values(batch, next, output)?;
            }
            record_count += u64::from(header.record_count.unsigned_abs());
            bytes += batch.len() as u64;
            next = header.next_offset().0;
        }
        if next == before {
            return Err(Error::Malformed("no whole batch before the end of the partition"));
        }
    }
    if let Some(mut output) = output {
        output.flush()?;
    }
    Ok(meter.end(record_count, bytes))
}

/// Values of the batch's records from offset `from` on, a newline after each.
fn write_values(batch: &[u8], from: i64, output: &mut impl Write) -> Result<(), Error> {
    for record in &records(batch, &DecompressLimits::default())? {
        let record = record?;
        if record.offset.0 >= from {
            output.write_all(record.value.unwrap_or_default())?;
            output.write_all(b"\n")?;
        }
    }
    Ok(())
}
