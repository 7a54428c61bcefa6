//! Fetching: partitions from their beginning to the end they had at the start.

use std::fs::File;
use std::io::{BufWriter, Write};

use thalweg_record::{BatchError, Batches, DecompressLimits, records, verify_crc};

use crate::error::Error;
use crate::figures::{Figures, Tally};
use crate::{Fetch, Protocol, connections, grpc, kafka};

/// Reads everything that is there. With an output, each batch's CRC is checked and each value written; without, batches are counted.
pub(crate) fn run(arguments: &Fetch) -> Result<Figures, Error> {
    let place = &arguments.place;
    connections::run(place.connections, place.server_pid, |index, start| {
        let mut partitions = place.share(index);
        if place.connections > place.partitions.unsigned_abs() {
            // A partition is read by the first connection that has it, so that no byte is counted twice.
            partitions.retain(|_| index < place.partitions.unsigned_abs());
        }
        let mut taker = Taker::new(arguments)?;
        match place.protocol {
            Protocol::Kafka => kafka::fetch(arguments, &partitions, &mut taker, start)?,
            Protocol::Grpc => grpc::fetch(arguments, &partitions, &mut taker, start)?,
        }
        taker.finish()
    })
}

/// Takes what was fetched.
pub(crate) struct Taker {
    output: Option<BufWriter<File>>,
    tally: Tally,
}

impl Taker {
    fn new(arguments: &Fetch) -> Result<Self, Error> {
        let output = match &arguments.output {
            Some(path) => Some(BufWriter::with_capacity(1 << 20, File::create(path)?)),
            None => None,
        };
        Ok(Self { output, tally: Tally::default() })
    }

    /// Takes whole batches, and passes over a last one that is cut. Records before offset `from` are in the first batch but were not
    /// asked for. Returns the offset behind the last batch taken, or `from` when there was none.
    pub(crate) fn take(&mut self, fetched: &[u8], from: i64) -> Result<i64, Error> {
        let mut next = from;
        for batch in Batches::new(fetched) {
            let (header, batch) = match batch {
                // The answer's size limit may cut the last batch; it comes again.
                Err(BatchError::Truncated { .. }) => break,
                batch => batch?,
            };
            if let Some(output) = &mut self.output {
                verify_crc(batch, &header)?;
                write_values(batch, next, output)?;
            }
            self.tally.records += u64::from(header.record_count.unsigned_abs());
            self.tally.bytes += batch.len() as u64;
            next = header.next_offset().0;
        }
        Ok(next)
    }

    fn finish(self) -> Result<Tally, Error> {
        if let Some(mut output) = self.output {
            output.flush()?;
        }
        Ok(self.tally)
    }
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
