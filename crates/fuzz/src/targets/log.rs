//! Sequences of calls on a log dir instead of bytes: produce, repeat, fetch, delete, retire, crash and open again, against a model that
//! remembers every batch. The oracle is what producers and consumers were promised (I1, I8, I9, I17, P1 to P3).

use std::sync::Arc;

use bytes::BytesMut;
use thalweg_env::fs::SimFs;
use thalweg_log_core::{AppendError as Refused, LogConfig, ProducerError};
use thalweg_record::{BatchHeader, ProduceLimits, check_produced, stamp};
use thalweg_storage::{AppendError, Log, LogDir, StorageError};
use thalweg_types::{Durability, LeaderEpoch, Offset, Timestamp};

use super::log_dir::{options, partition, produced, read_all, read_from};
use super::{Choices, numbered};
use crate::{Seeds, peak};

/// Calls of one input.
const CALLS_MAX: usize = 120;

const PRODUCERS: usize = 2;

/// What a whole sequence may hold: the disk, the tail, the model.
const BYTES_MAX: usize = 32 << 20;

pub(super) fn calls(input: &[u8]) {
    peak::within(BYTES_MAX, || {
        let mut world = World::new(input.first().copied().unwrap_or(0));
        let mut choices = Choices::new(input.get(1..).unwrap_or_default());
        for _ in 0..CALLS_MAX {
            if choices.is_empty() {
                break;
            }
            world.call(&mut choices);
        }
        world.crash(true);
        world.crash(false);
    });
}

/// One log and what it has promised.
struct World {
    fs: SimFs,
    dir: LogDir,
    log: Arc<Log>,
    config: LogConfig,
    /// Every batch that is in the log or was, as stored.
    batches: Vec<Vec<u8>>,
    /// The next number of each producer.
    sequences: [i32; PRODUCERS],
    flushed_end: Offset,
    log_start: Offset,
    /// As it was when a flush last ended.
    flushed_log_start: Offset,
    epoch: LeaderEpoch,
}

impl World {
    fn new(seed: u8) -> Self {
        let config = LogConfig {
            segment_bytes: 1_500,
            index_interval_bytes: 200,
            retention_bytes: Some(4_000),
            durability: if seed & 1 == 0 { Durability::Fsync } else { Durability::Replicated },
            ..LogConfig::default()
        };
        let fs = SimFs::new(u64::from(seed));
        let dir = LogDir::open(options(&fs)).expect("an empty disk");
        let (name, id) = partition(0);
        let log = dir.create(name, id.topic_id, config.clone()).expect("an empty dir");
        log.begin_leader_epoch(LeaderEpoch(0)).expect("the first");
        Self {
            fs,
            dir,
            log,
            config,
            batches: Vec::new(),
            sequences: [0; PRODUCERS],
            flushed_end: Offset(0),
            log_start: Offset(0),
            flushed_log_start: Offset(0),
            epoch: LeaderEpoch(0),
        }
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(0), |batch| header(batch).next_offset())
    }

    fn call(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..=4 => self.produce(choices),
            5 => self.repeat(choices),
            6 => self.produce_out_of_order(choices),
            7 => self.fetch(choices),
            8 => self.flush(),
            9 => drop(self.dir.step_write_behind().expect("a sound disk")),
            10 => self.dir.write_all_behind().expect("a sound disk"),
            11 => self.delete_records(choices),
            12 => self.retain(),
            13 => self.begin_epoch(),
            14 => self.crash(choices.below(2) == 0),
            _ => self.fetch_all(),
        }
    }

    /// The next batch of a producer.
    fn produce(&mut self, choices: &mut Choices<'_>) {
        let producer = usize::from(choices.below(2));
        let value = vec![choices.byte(); usize::from(choices.byte())];
        let sent = produced(producer as i64, self.sequences[producer], &value);
        self.append(producer, sent);
    }

    fn append(&mut self, producer: usize, sent: BytesMut) {
        let mut expected = sent.clone();
        stamp(&mut expected, self.end(), self.epoch);
        let sent_header = check_produced(&sent, &ProduceLimits::default()).expect("our own batch");
        match self.log.append_as_leader(sent, &sent_header, self.epoch) {
            Ok(appended) => {
                assert!(!appended.duplicate, "a new batch was taken for a repetition");
                assert_eq!(appended.base_offset, self.end());
                self.batches.push(expected.to_vec());
                self.sequences[producer] += 1;
            }
            Err(AppendError::Throttled) => self.dir.write_all_behind().expect("a sound disk"),
            Err(error) => panic!("a good batch is refused: {error}"),
        }
        assert_eq!(self.log.offsets().log_end(), self.end());
    }

    /// One of the producer's newest batches again: the answer is the one it had, and nothing is appended (P1).
    fn repeat(&mut self, choices: &mut Choices<'_>) {
        let producer = usize::from(choices.below(2));
        let own = |batch: &&Vec<u8>| header(batch).producer_id.0 == producer as i64;
        let newest: Vec<&Vec<u8>> = self.batches.iter().rev().filter(own).take(5).collect();
        let back = usize::from(choices.below(5));
        let Some(stored) = newest.get(back).copied() else { return };
        let original = header(stored);
        let mut sent = BytesMut::from(&stored[..]);
        stamp(&mut sent, Offset(0), LeaderEpoch::NONE);
        let sent_header = check_produced(&sent, &ProduceLimits::default()).expect("our own batch");
        match self.log.append_as_leader(sent, &sent_header, self.epoch) {
            Ok(again) => {
                assert!(again.duplicate, "a repetition was appended");
                assert_eq!(again.base_offset, original.base_offset);
            }
            Err(AppendError::Throttled) => {}
            Err(error) => panic!("a repetition is refused: {error}"),
        }
        assert_eq!(self.log.offsets().log_end(), self.end());
    }

    /// A number beyond the next one is refused (P2).
    fn produce_out_of_order(&mut self, choices: &mut Choices<'_>) {
        let producer = usize::from(choices.below(2));
        let next = self.sequences[producer];
        if next == 0 {
            // A producer that is not known yet may begin anywhere.
            return;
        }
        let gap = 1 + i32::from(choices.below(100));
        let sent = produced(producer as i64, next + gap, b"too early");
        let sent_header = check_produced(&sent, &ProduceLimits::default()).expect("our own batch");
        let refused = self.log.append_as_leader(sent, &sent_header, self.epoch);
        assert!(
            matches!(
                refused,
                Err(AppendError::Refused(Refused::Producer(ProducerError::OutOfOrder { .. })))
            ),
            "{refused:?}"
        );
        assert_eq!(self.log.offsets().log_end(), self.end());
    }

    fn flush(&mut self) {
        self.dir.step_flush().expect("a sound disk");
        let offsets = self.log.offsets();
        assert_eq!(offsets.durable_end(), self.end());
        self.flushed_end = self.end();
        self.flushed_log_start = self.log_start;
        self.log.advance_high_watermark(offsets.durable_end());
    }

    /// A fetch from anywhere: whole batches that were written there, from the one that holds the offset on.
    fn fetch(&mut self, choices: &mut Choices<'_>) {
        let span = u8::try_from(self.end().0 + 2).unwrap_or(u8::MAX);
        let from = Offset(i64::from(choices.below(span)));
        let bytes_max = usize::from(choices.byte()) * 8;
        let read = read_from(&self.log, from, bytes_max);
        if from < self.log_start || from > self.end() {
            assert!(read.is_err(), "{from} is outside {} to {}", self.log_start, self.end());
            return;
        }
        let read = read.expect("a sound disk");
        let expected: Vec<u8> = self
            .batches
            .iter()
            .filter(|batch| header(batch).next_offset() > from)
            .flatten()
            .copied()
            .collect();
        assert!(expected.starts_with(&read), "other bytes than were written from {from} on");
        assert_eq!(read.is_empty(), expected.is_empty(), "from {from}");
    }

    fn fetch_all(&self) {
        let stored = |batch: &Vec<u8>| (header(batch).base_offset, batch.clone());
        let is_left = |batch: &&Vec<u8>| header(batch).next_offset() > self.log_start;
        let expected: Vec<_> = self.batches.iter().filter(is_left).map(stored).collect();
        assert_eq!(read_all(&self.log, self.log_start).expect("a sound disk"), expected);
    }

    fn delete_records(&mut self, choices: &mut Choices<'_>) {
        let offsets = self.log.offsets();
        let span = offsets.high_watermark().records_since(offsets.log_start()) + 2;
        let to = Offset(
            offsets.log_start().0 + i64::from(choices.below(u8::try_from(span).unwrap_or(u8::MAX))),
        );
        match self.log.delete_records(to) {
            Ok(_) => {
                assert!(to <= offsets.high_watermark(), "deleted what is not committed");
                self.log_start = self.log_start.max(to);
            }
            Err(StorageError::LogStart(_)) => assert!(to > offsets.high_watermark()),
            Err(StorageError::Throttled) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(self.log.offsets().log_start(), self.log_start);
    }

    /// Retention takes whole segments off the front, nothing above the high watermark (I17).
    fn retain(&mut self) {
        let before = self.log.offsets();
        match self.log.apply_retention(Timestamp(1_000_000)) {
            Ok(_) | Err(StorageError::Throttled) => {}
            Err(error) => panic!("{error}"),
        }
        let after = self.log.offsets();
        assert!(after.log_start() >= before.log_start());
        assert!(after.log_start() <= before.high_watermark());
        self.log_start = after.log_start();
    }

    fn begin_epoch(&mut self) {
        let next = LeaderEpoch(self.epoch.0 + 1);
        match self.log.begin_leader_epoch(next) {
            Ok(()) => self.epoch = next,
            Err(AppendError::Throttled) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The process dies, or the power goes with it; the dir opens again. What was durable is there (I1), nothing else than what was
    /// written is (I8), and the producers' memory follows from the log (P3).
    fn crash(&mut self, power: bool) {
        // On a replicated topic a batch is acknowledged before the flush, and survives the process.
        let survives = !power && self.config.durability == Durability::Replicated;
        let must_have = if survives { self.end() } else { self.flushed_end };
        if power {
            self.fs.restart_after_power_cut();
        } else {
            self.fs.restart_after_kill();
        }
        let (_, id) = partition(0);
        self.dir = LogDir::open(options(&self.fs)).expect("what a crash left opens");
        assert!(self.dir.suspects().is_empty(), "{:?}", self.dir.suspects());
        self.log = self.dir.log(&id).expect("the log was durable when it was created");
        self.log.configure(self.config.clone());
        let offsets = self.log.offsets();
        let end = offsets.log_end();
        assert!(end >= must_have, "the log ends at {end}, {must_have} was promised");
        self.batches.retain(|batch| header(batch).base_offset < end);
        assert_eq!(self.end(), end, "the log ends where no batch does");
        // A move of the log start that was not flushed may be lost with the power, as far as segments are still there.
        assert!(offsets.log_start() <= self.log_start, "records are gone that nobody deleted");
        assert!(offsets.log_start() >= self.flushed_log_start, "deleted records are back");
        self.log_start = offsets.log_start();
        self.flushed_log_start = self.log_start;
        self.fetch_all();
        for (producer, sequence) in self.sequences.iter_mut().enumerate() {
            let own = |batch: &&Vec<u8>| header(batch).producer_id.0 == producer as i64;
            let last = self.batches.iter().rev().find(own);
            *sequence = last.map_or(0, |batch| header(batch).last_sequence().0 + 1);
        }
        self.flushed_end = end;
        self.epoch = self.epoch.max(self.log.leader_epoch());
        self.log.advance_high_watermark(offsets.durable_end());
        self.log.begin_leader_epoch(self.epoch).expect("there is room after a start");
    }
}

fn header(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).expect("our own batch")
}

pub(super) fn seeds() -> Seeds {
    let produce = |producer: u8, length: u8| [0, producer, 0x61, length];
    let steady: Vec<u8> = (0..30_u8).flat_map(|n| produce(n % 2, n * 8)).collect();
    let flush = [8];
    let sequences: [Vec<u8>; 6] = [
        [&[1][..], &steady, &flush, &[15]].concat(),
        [&[2][..], &steady, &flush, &[9], &produce(0, 9), &[14, 0], &produce(1, 9), &[14, 1]]
            .concat(),
        [&[3][..], &steady[..20], &flush, &[5, 0, 0, 5, 1, 2, 5, 0, 4, 6, 1, 9, 14, 1, 5, 0, 0]]
            .concat(),
        [&[4][..], &steady, &flush, &[10, 12, 11, 9, 7, 20, 200, 7, 3, 0, 14, 0, 15]].concat(),
        [&[5][..], &produce(0, 200), &[13], &produce(0, 200), &[13], &flush, &[10, 14, 0, 15]]
            .concat(),
        [&[6][..], &steady, &flush, &[10, 11, 29, 14, 1], &produce(0, 3), &[8, 11, 1, 15]].concat(),
    ];
    numbered(sequences)
}
