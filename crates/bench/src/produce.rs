//! Producing: a file's lines, or one batch sent again and again, with several in flight.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::time::Instant;

use bytes::Bytes;

use crate::batches::{self, Batch};
use crate::error::Error;
use crate::figures::{Figures, Tally};
use crate::{Produce, Protocol, connections, grpc, kafka};

/// One connection that batches are sent over. Answers come in the order of the batches; one that is a refusal is an error.
pub(crate) trait Sender {
    fn send(&mut self, partition: i32, batch: &Bytes) -> Result<(), Error>;
    fn take_answer(&mut self) -> Result<(), Error>;
}

/// Sends everything and waits for every answer. A batch that is refused ends the run.
pub(crate) fn run(arguments: &Produce) -> Result<Figures, Error> {
    let place = &arguments.place;
    let generated = match arguments.file {
        Some(_) => None,
        None => Some(batches::generated(
            arguments.compression,
            arguments.batch_bytes,
            arguments.record_bytes,
        )?),
    };
    connections::run(place.connections, place.server_pid, |index, start| {
        let partitions = place.share(index);
        let sender: Box<dyn Sender> = match place.protocol {
            Protocol::Kafka => Box::new(kafka::Producer::open(place, &partitions)?),
            Protocol::Grpc => Box::new(grpc::Producer::open(place, &partitions)?),
        };
        let mut flow = Flow::new(sender, arguments.in_flight as usize);
        start.go();
        match &generated {
            Some(batch) => {
                let count = (arguments.bytes / u64::from(place.connections))
                    .div_ceil(batch.bytes.len() as u64);
                let mut partitions = partitions.iter().cycle();
                for _ in 0..count {
                    flow.send(*partitions.next().unwrap_or(&place.partition), batch)?;
                }
            }
            None => {
                let path = arguments.file.as_ref().ok_or(Error::NothingToSend)?;
                let lines = BufReader::with_capacity(1 << 20, File::open(path)?);
                batches::of_lines(lines, arguments.compression, arguments.batch_bytes, |batch| {
                    flow.send(place.partition, &batch)
                })?;
            }
        }
        flow.finish()
    })
}

/// Keeps a bounded number of batches in flight, and the time each took.
struct Flow {
    sender: Box<dyn Sender>,
    in_flight_max: usize,
    in_flight: VecDeque<Instant>,
    tally: Tally,
}

impl Flow {
    fn new(sender: Box<dyn Sender>, in_flight_max: usize) -> Self {
        Self { sender, in_flight_max, in_flight: VecDeque::new(), tally: Tally::default() }
    }

    fn send(&mut self, partition: i32, batch: &Batch) -> Result<(), Error> {
        while self.in_flight.len() >= self.in_flight_max {
            self.take_answer()?;
        }
        self.in_flight.push_back(Instant::now());
        self.sender.send(partition, &batch.bytes)?;
        self.tally.records += batch.records;
        self.tally.bytes += batch.bytes.len() as u64;
        Ok(())
    }

    fn take_answer(&mut self) -> Result<(), Error> {
        self.sender.take_answer()?;
        if let Some(sent) = self.in_flight.pop_front() {
            let took_us = sent.elapsed().as_micros();
            self.tally.answered_us.push(u32::try_from(took_us).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Tally, Error> {
        while !self.in_flight.is_empty() {
            self.take_answer()?;
        }
        if self.tally.bytes == 0 { Err(Error::NothingToSend) } else { Ok(self.tally) }
    }
}
