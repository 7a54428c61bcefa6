//! Lines to record batches.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use memchr::memmem;
use thalweg_record::BatchBuilder;
use thalweg_types::{
    CompressionType, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp,
};
use tokio::sync::mpsc;

use crate::cli::Produce;
use crate::client::Failure;
use crate::client::produce::partitioner;

/// Records between two looks at the clock: a look costs more than encoding a short record.
const RECORDS_PER_CLOCK_READ: u32 = 256;

/// Which partition records go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    One(PartitionIndex),
    /// By the key's hash; records without a key a batch at a time to each in turn.
    Spread {
        partitions: usize,
    },
}

/// Who writes, as the leaders know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
}

/// A finished batch.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) partition: PartitionIndex,
    pub(super) records: u64,
    /// Bytes of the input in it, newlines included.
    pub(super) input_bytes: u64,
    pub(super) batch: Bytes,
}

/// Why packing ended early.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The sending side is gone; it knows why.
    NobodyListens,
    Failed(Failure),
}

/// Gathers records, one open batch for each partition.
pub(super) struct Packer {
    key_separator: Option<memmem::Finder<'static>>,
    compression: CompressionType,
    batch_bytes: usize,
    /// By partition, or the one partition's alone.
    open: Vec<Open>,
    only: Option<PartitionIndex>,
    /// Position in `open` of the batch that keyless records go to.
    keyless: usize,
    identity: Option<Identity>,
    now: Timestamp,
    until_clock_read: u32,
    batches: mpsc::Sender<Packed>,
}

/// A batch that still takes records.
struct Open {
    builder: BatchBuilder,
    input_bytes: u64,
    /// Of its first record, among the partition's.
    base_sequence: Sequence,
}

impl Packer {
    pub(super) fn new(
        arguments: &Produce,
        target: Target,
        identity: Option<Identity>,
        batches: mpsc::Sender<Packed>,
    ) -> Self {
        let (count, only) = match target {
            Target::One(partition) => (1, Some(partition)),
            Target::Spread { partitions } => (partitions, None),
        };
        let separator = arguments.key_separator.as_ref();
        Self {
            key_separator: separator.map(|text| memmem::Finder::new(&text.0).into_owned()),
            compression: arguments.compression,
            batch_bytes: usize::try_from(arguments.batch_bytes).unwrap_or(usize::MAX),
            open: (0..count).map(|_| Open::new(arguments.compression, Sequence::ZERO)).collect(),
            only,
            keyless: 0,
            identity,
            now: Timestamp::NONE,
            until_clock_read: 0,
            batches,
        }
    }

    /// Takes a line that a newline followed.
    pub(super) fn push(&mut self, line: &[u8]) -> Result<(), Stopped> {
        self.add(line, 1)
    }

    /// Takes the last line of an input that does not end in a newline.
    pub(super) fn push_unterminated(&mut self, line: &[u8]) -> Result<(), Stopped> {
        self.add(line, 0)
    }

    /// Sends every batch that has records. The next ones take the time of their own first record.
    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        self.until_clock_read = 0;
        (0..self.open.len()).try_for_each(|position| self.send(position))
    }

    fn add(&mut self, line: &[u8], newline_bytes: u64) -> Result<(), Stopped> {
        let (key, value) = self.split_key(line);
        let position = match key {
            Some(key) if self.open.len() > 1 => partitioner::position(key, self.open.len()),
            _ => self.keyless,
        };
        let now = self.now();
        let builder = &self.open[position].builder;
        if !builder.is_empty() && builder.size_estimate() + line.len() >= self.batch_bytes {
            self.send(position)?;
            if key.is_none() {
                return self.add(line, newline_bytes);
            }
        }
        let open = &mut self.open[position];
        open.builder
            .push(now, key, Some(value), &[])
            .map_err(|error| Stopped::Failed(Failure::Records(error.to_string())))?;
        open.input_bytes += line.len() as u64 + newline_bytes;
        Ok(())
    }

    fn split_key<'a>(&self, line: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        let Some(separator) = &self.key_separator else { return (None, line) };
        let Some(end) = separator.find(line) else { return (None, line) };
        let (key, rest) = line.split_at(end);
        (Some(key), rest.get(separator.needle().len()..).unwrap_or_default())
    }

    /// The time, read anew every few records.
    fn now(&mut self) -> Timestamp {
        if self.until_clock_read == 0 {
            self.until_clock_read = RECORDS_PER_CLOCK_READ;
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.now = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        }
        self.until_clock_read -= 1;
        self.now
    }

    /// Finishes one open batch and hands it over, waiting while enough others are ahead of it.
    fn send(&mut self, position: usize) -> Result<(), Stopped> {
        let partition = match self.only {
            Some(partition) => partition,
            None => PartitionIndex(i32::try_from(position).unwrap_or(i32::MAX)),
        };
        let partition_count = self.open.len();
        let open = &mut self.open[position];
        if open.builder.is_empty() {
            return Ok(());
        }
        let following = open.base_sequence.advanced_by(open.builder.record_count());
        let full = std::mem::replace(open, Open::new(self.compression, following));
        if position == self.keyless {
            self.keyless = (position + 1) % partition_count;
        }
        let records = u64::try_from(full.builder.record_count()).unwrap_or_default();
        let builder = match self.identity {
            Some(Identity { id, epoch }) => full.builder.producer(id, epoch, full.base_sequence),
            None => full.builder,
        };
        let batch = builder
            .finish()
            .map_err(|error| Stopped::Failed(Failure::Records(error.to_string())))?
            .freeze();
        let packed = Packed { partition, records, input_bytes: full.input_bytes, batch };
        self.batches.blocking_send(packed).map_err(|_| Stopped::NobodyListens)
    }
}

impl Open {
    fn new(compression: CompressionType, base_sequence: Sequence) -> Self {
        Self { builder: BatchBuilder::new(compression), input_bytes: 0, base_sequence }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use thalweg_record::{DecompressLimits, check_produced, records};

    use super::*;
    use crate::cli::{Cli, Command};

    fn arguments(line: &str) -> Produce {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Produce(arguments) => arguments,
            other => panic!("not produce: {other:?}"),
        }
    }

    /// (partition, key, value) of every record, in the order of the batches.
    fn pack(line: &str, target: Target, lines: &[&str]) -> Vec<(i32, Option<String>, String)> {
        let (sender, mut receiver) = mpsc::channel(1000);
        let mut packer = Packer::new(&arguments(line), target, None, sender);
        for line in lines {
            packer.push(line.as_bytes()).unwrap();
        }
        packer.flush().unwrap();
        drop(packer);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut out = Vec::new();
        while let Ok(packed) = receiver.try_recv() {
            check_produced(&packed.batch, &thalweg_record::ProduceLimits::default()).unwrap();
            let decoded = records(&packed.batch, &DecompressLimits::default()).unwrap();
            let before = out.len();
            for record in &decoded {
                let record = record.unwrap();
                out.push((packed.partition.0, record.key.map(text), text(record.value.unwrap())));
            }
            assert_eq!(packed.records, (out.len() - before) as u64);
        }
        out
    }

    #[test]
    fn the_key_ends_at_the_first_separator_and_may_be_absent_or_empty() {
        let target = Target::One(PartitionIndex(3));
        let packed =
            pack("thalweg produce t --key-separator ::", target, &["a::b::c", "plain", "::x", ""]);
        let key = |key: &str| Some(key.to_owned());
        assert_eq!(
            packed,
            [
                (3, key("a"), "b::c".to_owned()),
                (3, None, "plain".to_owned()),
                (3, key(""), "x".to_owned()),
                (3, None, String::new()),
            ]
        );
    }

    #[test]
    fn a_full_batch_is_sent_and_keyless_records_move_on_to_the_next_partition() {
        let packed = pack(
            "thalweg produce t --batch-bytes 100 --compression lz4",
            Target::Spread { partitions: 2 },
            &["0123456789012345", "1", "22222222222222222222", "3"],
        );
        let partitions: Vec<i32> = packed.iter().map(|(partition, ..)| *partition).collect();
        assert_eq!(partitions, [0, 0, 1, 1]);
        let values: Vec<usize> = packed.iter().map(|(_, _, value)| value.len()).collect();
        assert_eq!(values, [16, 1, 20, 1]);
    }

    #[test]
    fn equal_keys_go_to_one_partition() {
        let packed = pack(
            "thalweg produce t --key-separator = --batch-bytes 80",
            Target::Spread { partitions: 8 },
            &["a=1", "b=2", "a=3", "c=4", "a=5", "b=6"],
        );
        assert_eq!(packed.len(), 6);
        for (partition, key, _) in &packed {
            let expected = partitioner::position(key.as_deref().unwrap().as_bytes(), 8);
            assert_eq!(usize::try_from(*partition).unwrap(), expected);
        }
    }

    #[test]
    fn sequences_run_through_each_partitions_batches() {
        let (sender, mut receiver) = mpsc::channel(1000);
        let identity = Identity { id: ProducerId(7), epoch: ProducerEpoch(2) };
        let line = arguments("thalweg produce t --batch-bytes 80");
        let target = Target::Spread { partitions: 2 };
        let mut packer = Packer::new(&line, target, Some(identity), sender);
        for line in ["1", "2", "a line too long for one batch", "3", "4", "another line as long"] {
            packer.push(line.as_bytes()).unwrap();
        }
        packer.flush().unwrap();
        let mut next = [Sequence::ZERO; 2];
        let mut batches = 0;
        while let Ok(packed) = receiver.try_recv() {
            let header = thalweg_record::BatchHeader::parse(&packed.batch).unwrap();
            assert_eq!((header.producer_id, header.producer_epoch), (identity.id, identity.epoch));
            let expected = &mut next[usize::try_from(packed.partition.0).unwrap()];
            assert_eq!(header.base_sequence, *expected);
            *expected = expected.advanced_by(header.record_count);
            batches += 1;
        }
        assert!(batches > 2);
        assert!(next.iter().all(|next| next.0 > 0), "{next:?}");
    }
}
