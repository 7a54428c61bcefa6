//! What a crash may and may not do, against a model that remembers every batch.
//!
//! A script of random steps runs on a simulated disk until the power is cut, or the process killed, at some operation. Then the dir is
//! opened again and must show, for every partition: each batch that a completed flush covered, at its offset, byte for byte; behind
//! those only batches that were appended there, without a gap; producer states and epochs that follow from exactly these batches.
//! Then the script goes on, on what is left.

use std::collections::BTreeMap;

use proptest::prelude::*;
use thalweg_env::fs::Fault;
use thalweg_log_core::{ProducerBatch, ProducerStates};
use thalweg_record::BatchHeader;
use thalweg_types::Durability;

use super::*;

/// What one partition was told and has promised.
#[derive(Debug, Default, Clone)]
struct Model {
    /// Every batch appended, as stamped; the log's history since its creation.
    batches: Vec<Vec<u8>>,
    /// A batch whose append failed for an unknown reason: it may be there, right after the others.
    maybe: Option<BytesMut>,
    flushed_end: Offset,
    log_start: Offset,
    next_sequence: i32,
    epoch: i32,
    /// What it is instead if a truncation that failed took place.
    maybe_cut: Option<Box<Model>>,
    /// Where the log began, or began anew.
    base: Offset,
    /// A creation or a deletion that failed: the log may be there or not.
    uncertain: bool,
}

/// Which partitions are acknowledged from memory.
#[derive(Debug, Clone, Copy)]
enum Promise {
    Fsync,
    Replicated,
    /// Those with an odd number.
    Mixed,
}

impl Promise {
    fn durability(self, partition: i32) -> Durability {
        match self {
            Self::Fsync => Durability::Fsync,
            Self::Mixed if partition % 2 == 0 => Durability::Fsync,
            Self::Replicated | Self::Mixed => Durability::Replicated,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Crash {
    Power,
    Kill,
}

struct World {
    bench: Bench,
    random: SeededRandom,
    models: BTreeMap<i32, Model>,
    promise: Promise,
    created: u32,
}

impl Model {
    fn header(batch: &[u8]) -> BatchHeader {
        BatchHeader::parse(batch).unwrap()
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(self.base, |batch| Self::header(batch).next_offset())
    }

    /// The same cut at the batch that reaches past `to`.
    fn truncated(&self, to: Offset) -> Self {
        let kept = self.batches.iter().take_while(|batch| Self::header(batch).next_offset() <= to);
        let mut cut = Self { batches: kept.cloned().collect(), ..self.clone() };
        if cut.end() <= cut.log_start {
            return self.anew(cut.log_start);
        }
        cut.settle();
        cut
    }

    /// The same without records, beginning at `at`.
    fn anew(&self, at: Offset) -> Self {
        let mut anew = Self { batches: Vec::new(), base: at, log_start: at, ..self.clone() };
        anew.settle();
        anew
    }

    fn settle(&mut self) {
        self.flushed_end = self.end();
        let producers = self.producers();
        let newest = producers.values().next().and_then(|(_, batches)| batches.last().copied());
        self.next_sequence = newest.map_or(0, |batch| batch.last_sequence.0 + 1);
    }

    fn producers(&self) -> BTreeMap<i64, (i16, Vec<ProducerBatch>)> {
        let mut states = ProducerStates::default();
        for batch in &self.batches {
            states.apply(&Self::header(batch), Timestamp(0));
        }
        summary(&states)
    }
}

fn summary(states: &ProducerStates) -> BTreeMap<i64, (i16, Vec<ProducerBatch>)> {
    let one = |(id, state): (ProducerId, &thalweg_log_core::ProducerState)| {
        (id.0, (state.epoch.0, state.batches.iter().copied().collect()))
    };
    states.iter().map(one).collect()
}

impl World {
    fn new(seed: u64, promise: Promise) -> Self {
        Self {
            bench: Bench::new(seed),
            random: SeededRandom::new(seed ^ 0xabcdef),
            models: BTreeMap::new(),
            promise,
            created: 0,
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn config(&self, partition: i32) -> LogConfig {
        LogConfig {
            segment_bytes: 2_500,
            index_interval_bytes: 300,
            retention_bytes: Some(7_000),
            durability: self.promise.durability(partition),
            ..LogConfig::default()
        }
    }

    /// One random step. `Err` when the disk is gone.
    fn step(&mut self, dir: &LogDir) -> Result<(), ()> {
        let partition = self.below(3) as i32;
        let Some(log) = dir.log(&id(partition)) else {
            return self.create(dir, partition);
        };
        match self.below(44) {
            0..=23 => self.append(dir, &log, partition),
            24..=29 => self.flush(dir),
            30..=33 => dir.step_write_behind().map(|_| ()).map_err(|_| ()),
            34 => dir.write_all_behind().map_err(|_| ()),
            35 | 36 => self.retain(&log, partition),
            37 => self.delete_records(&log, partition),
            38 => self.begin_epoch(&log, partition),
            40..=42 => {
                let offsets = log.offsets();
                let span = offsets.log_end().records_since(offsets.log_start()) as u64;
                let to = Offset(offsets.log_end().0 - self.below(span / 2 + 1) as i64);
                self.truncate(&log, partition, to)
            }
            43 => {
                let at = Offset(self.below(log.offsets().log_end().0 as u64 * 2 + 1) as i64);
                self.begin_anew(&log, partition, at)
            }
            _ if self.below(4) == 0 => self.delete(dir, partition),
            _ => self.flush(dir),
        }
    }

    fn create(&mut self, dir: &LogDir, partition: i32) -> Result<(), ()> {
        self.created += 1;
        let model = Model { uncertain: true, ..Model::default() };
        self.models.insert(partition, model);
        let created = dir.create(name(partition), topic_id(), self.config(partition));
        let log = created.map_err(|_| ())?;
        self.models.get_mut(&partition).unwrap().uncertain = false;
        log.begin_leader_epoch(LeaderEpoch(0)).map_err(|_| ())
    }

    fn append(&mut self, dir: &LogDir, log: &Log, partition: i32) -> Result<(), ()> {
        let (length, records) = (self.below(600) as usize, self.below(3) + 1);
        let value = vec![self.below(256) as u8; length];
        let values: Vec<&[u8]> = (0..records).map(|_| &value[..]).collect();
        let idempotent = self.below(2) == 0;
        let timestamp = 1_000_000 + self.below(1_000) as i64;
        let model = self.models.get_mut(&partition).unwrap();
        let producer = idempotent.then_some((i64::from(partition) + 50, 0, model.next_sequence));
        let sent = batch(&values, timestamp, producer);
        let mut expected = sent.clone();
        stamp(&mut expected, model, log.leader_epoch());
        match super::append(log, sent) {
            Ok(appended) => {
                assert_eq!(appended.base_offset, model.end());
                model.batches.push(expected.to_vec());
                model.next_sequence += if idempotent { records as i32 } else { 0 };
                Ok(())
            }
            Err(AppendError::Throttled) => {
                dir.step_write_behind().map_err(|_| ())?;
                Ok(())
            }
            Err(AppendError::Failed(_)) => {
                model.maybe = Some(expected);
                Err(())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn flush(&mut self, dir: &LogDir) -> Result<(), ()> {
        dir.step_flush().map_err(|_| ())?;
        for (partition, model) in &mut self.models {
            let Some(log) = dir.log(&id(*partition)) else { continue };
            let offsets = log.offsets();
            assert_eq!(offsets.recovery_point(), model.end());
            model.flushed_end = offsets.recovery_point();
            log.advance_high_watermark(offsets.durable_end());
        }
        Ok(())
    }

    fn retain(&mut self, log: &Log, partition: i32) -> Result<(), ()> {
        let retained = log.apply_retention(Timestamp(1_000_000));
        // Even when it failed, its note may be in the journal.
        self.models.get_mut(&partition).unwrap().log_start = log.offsets().log_start();
        retained.map(|_| ()).map_err(|_| ())
    }

    fn delete_records(&mut self, log: &Log, partition: i32) -> Result<(), ()> {
        let offsets = log.offsets();
        let span = offsets.high_watermark().records_since(offsets.log_start()) as u64;
        let to = Offset(offsets.log_start().0 + self.below(span + 1) as i64);
        let model = self.models.get_mut(&partition).unwrap();
        match log.delete_records(to) {
            Err(StorageError::Throttled) => return Ok(()),
            moved => moved.map_err(|_| model.log_start = to)?,
        };
        model.log_start = to;
        Ok(())
    }

    fn begin_epoch(&mut self, log: &Log, partition: i32) -> Result<(), ()> {
        let model = self.models.get_mut(&partition).unwrap();
        match log.begin_leader_epoch(LeaderEpoch(model.epoch + 1)) {
            Ok(()) => model.epoch += 1,
            Err(AppendError::Throttled) => {}
            Err(_) => return Err(()),
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, log: &Log, partition: i32, to: Offset) -> Result<(), ()> {
        let model = self.models.get_mut(&partition).unwrap();
        if to >= model.end() {
            assert_eq!(log.truncate(to, true).map_err(|_| ())?, model.end());
            return Ok(());
        }
        let cut = model.truncated(to);
        match log.truncate(to, true) {
            Ok(end) => {
                assert_eq!(end, cut.end());
                *model = cut;
                check_cut(model, log);
                self.begin_epoch(log, partition)
            }
            Err(StorageError::Throttled) => Ok(()),
            Err(StorageError::Failed(_)) => {
                model.maybe_cut = Some(Box::new(cut));
                Err(())
            }
            // While the place was looked for: nothing has changed.
            Err(StorageError::Read(crate::ReadError::Io { .. })) => Err(()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn begin_anew(&mut self, log: &Log, partition: i32, at: Offset) -> Result<(), ()> {
        let model = self.models.get_mut(&partition).unwrap();
        let anew = model.anew(at);
        match log.restart(at) {
            Ok(()) => {
                *model = anew;
                check_cut(model, log);
                self.begin_epoch(log, partition)
            }
            Err(StorageError::Throttled) => Ok(()),
            Err(StorageError::Failed(_)) => {
                model.maybe_cut = Some(Box::new(anew));
                Err(())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn delete(&mut self, dir: &LogDir, partition: i32) -> Result<(), ()> {
        self.models.get_mut(&partition).unwrap().uncertain = true;
        match dir.delete(&id(partition)) {
            Ok(()) => {
                self.models.remove(&partition);
                Ok(())
            }
            Err(StorageError::Throttled) => {
                self.models.get_mut(&partition).unwrap().uncertain = false;
                Ok(())
            }
            Err(_) => Err(()),
        }
    }

    fn restart(&self, crash: Crash) {
        match crash {
            Crash::Power => self.bench.fs.restart_after_power_cut(),
            Crash::Kill => self.bench.fs.restart_after_kill(),
        }
    }

    /// Compares an opened dir with the models, and the models with it: what was not certain is now.
    fn verify(&mut self, dir: &LogDir, crash: Crash) {
        assert_eq!(dir.suspects(), []);
        let partitions: Vec<i32> = self.models.keys().copied().collect();
        for log in dir.logs() {
            assert!(
                partitions.contains(&log.id().partition.0),
                "{} is back",
                log.topic_partition()
            );
        }
        for partition in partitions {
            let config = self.config(partition);
            let model = self.models.get_mut(&partition).unwrap();
            match dir.log(&id(partition)) {
                None => {
                    assert!(model.uncertain, "partition {partition} is gone");
                    self.models.remove(&partition);
                }
                Some(log) => {
                    let durability = self.promise.durability(partition);
                    log.configure(config);
                    verify_log(model, &log, crash, durability);
                    log.advance_high_watermark(log.offsets().log_end());
                }
            }
        }
        // As leaders do after a restart; the disk may be gone again.
        for (partition, model) in &self.models {
            let log = dir.log(&id(*partition)).unwrap();
            let _ = log.begin_leader_epoch(LeaderEpoch(model.epoch));
        }
    }
}

/// A log that was just cut: everything left is durable and as it was.
fn check_cut(model: &Model, log: &Log) {
    let offsets = log.offsets();
    let ends = (offsets.log_end(), offsets.recovery_point(), offsets.log_start());
    assert_eq!(ends, (model.end(), model.end(), model.log_start));
    assert!(offsets.high_watermark() <= offsets.log_end());
    assert_eq!(log.inspect(|core| summary(core.producers())), model.producers());
    check_batches(model, log);
}

fn check_batches(model: &Model, log: &Log) {
    let start = log.offsets().log_start();
    let expected: Vec<(Offset, Vec<u8>)> = model
        .batches
        .iter()
        .map(|batch| (Model::header(batch).base_offset, batch.clone()))
        .filter(|(_, batch)| Model::header(batch).next_offset() > start)
        .collect();
    assert_eq!(read_all(log, start), expected);
    for (base_offset, batch) in &expected {
        let epoch = Model::header(batch).leader_epoch;
        assert_eq!(log.epoch_at((*base_offset).max(start)), Some(epoch));
    }
}

fn stamp(batch: &mut [u8], model: &Model, epoch: LeaderEpoch) {
    thalweg_record::stamp(batch, model.end(), epoch);
}

fn verify_log(model: &mut Model, log: &Log, crash: Crash, durability: Durability) {
    let offsets = log.offsets();
    let end = offsets.log_end();
    assert_eq!(offsets.recovery_point(), end, "everything found is durable");
    if let Some(cut) = model.maybe_cut.take() {
        let found = (end, log.inspect(|core| summary(core.producers())));
        let is_anew = cut.end() == cut.log_start;
        if found == (cut.end(), cut.producers())
            && (!is_anew || offsets.log_start() == cut.log_start)
        {
            *model = *cut;
        }
    }
    if let Some(maybe) = model.maybe.take()
        && end > model.end()
    {
        model.batches.push(maybe.to_vec());
    }
    let must_have = match (crash, durability) {
        (Crash::Kill, Durability::Replicated) => model.end(),
        _ => model.flushed_end,
    };
    assert!(end >= must_have, "ends at {end}, must reach {must_have}");
    model.batches.retain(|batch| Model::header(batch).base_offset < end);
    assert_eq!(model.end(), end, "ends within a batch or beyond all batches");

    let start = offsets.log_start();
    assert!(
        start <= model.log_start.max(Offset(0)) || model.uncertain,
        "{start} {}",
        model.log_start
    );
    check_batches(model, log);
    let producers = log.inspect(|core| summary(core.producers()));
    assert_eq!(producers, model.producers(), "{offsets:?} {:?} {}", model.base, model.log_start);
    let next = producers.values().next().and_then(|(_, batches)| batches.last().copied());
    model.next_sequence = next.map_or(0, |batch| batch.last_sequence.0 + 1);
    model.epoch = model.epoch.max(log.leader_epoch().0);
    model.flushed_end = end;
    model.log_start = start;
    model.uncertain = false;
}

/// Runs lives of a dir, each ended by a crash, on one disk.
fn run(seed: u64, promise: Promise, lives: u64) {
    let mut world = World::new(seed, promise);
    let mut crash = Crash::Kill;
    for _ in 0..lives {
        let cut_in = world.below(160);
        let next_crash = if world.below(3) == 0 { Crash::Kill } else { Crash::Power };
        let cut_at = world.bench.fs.operations() + cut_in;
        world.bench.fs.inject(cut_at, Fault::PowerCut);
        let Ok(dir) = LogDir::open(world.bench.options.clone()) else {
            // Cut while opening: nothing is lost by that either.
            world.bench.fs.restart_after_power_cut();
            continue_after_failed_open(&mut world, crash);
            crash = Crash::Power;
            continue;
        };
        world.verify(&dir, crash);
        for _ in 0..200 {
            if world.step(&dir).is_err() {
                break;
            }
        }
        crash = if world.bench.fs.is_powered() { next_crash } else { Crash::Power };
        drop(dir);
        world.restart(crash);
    }
    let dir = world.bench.open();
    world.verify(&dir, crash);
}

/// A start that the power cut interrupted must not weaken what the crash before it left: what a kill left in the page cache may be lost
/// now, what was flushed may not.
fn continue_after_failed_open(world: &mut World, _crash: Crash) {
    let dir = world.bench.open();
    world.verify(&dir, Crash::Power);
    drop(dir);
    world.bench.fs.restart_after_kill();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_loses_a_flushed_batch_or_invents_one(seed: u64, kind in 0..3) {
        let promise = [Promise::Fsync, Promise::Replicated, Promise::Mixed][kind as usize];
        run(seed, promise, 5);
    }
}

/// A fixed script that meets every kind of operation.
fn script(world: &mut World, dir: &LogDir) -> Result<(), ()> {
    for partition in 0..2 {
        world.create(dir, partition)?;
    }
    for round in 0..3 {
        for partition in [0, 1, 0, 0] {
            let log = dir.log(&id(partition)).ok_or(())?;
            for _ in 0..4 {
                world.append(dir, &log, partition)?;
            }
            if round == 1 {
                world.begin_epoch(&log, partition)?;
            }
        }
        world.flush(dir)?;
        dir.step_write_behind().map_err(|_| ())?;
        let log = dir.log(&id(0)).ok_or(())?;
        world.append(dir, &log, 0)?;
        world.retain(&log, 0)?;
    }
    dir.write_all_behind().map_err(|_| ())?;
    world.flush(dir)?;
    world.delete(dir, 1)?;
    dir.step_write_behind().map_err(|_| ())?;
    world.create(dir, 1)?;
    let log = dir.log(&id(1)).ok_or(())?;
    world.append(dir, &log, 1)?;
    world.flush(dir)
}

type Script = fn(&mut World, &LogDir) -> Result<(), ()>;

/// A script of truncations: in the tail, in a segment, at a segment's beginning, over several segments, of everything, each followed by
/// other batches at the same offsets.
fn cutting_script(world: &mut World, dir: &LogDir) -> Result<(), ()> {
    world.create(dir, 0)?;
    let log = dir.log(&id(0)).ok_or(())?;
    for round in 0..6 {
        for _ in 0..9 {
            world.append(dir, &log, 0)?;
        }
        if round % 2 == 0 {
            world.flush(dir)?;
        }
        if round % 3 == 1 {
            dir.write_all_behind().map_err(|_| ())?;
        }
        let (start, end) = (log.offsets().log_start(), log.offsets().log_end());
        let bases = log.inspect(|core| {
            core.segments().iter().map(|segment| segment.base_offset).collect::<Vec<_>>()
        });
        let to = match round {
            0 => Offset(end.0 - 2),
            1 => bases[bases.len() - 1],
            2 => Offset(bases[1].0 + 2),
            3 => Offset(end.0 - 5),
            _ => start,
        };
        world.truncate(&log, 0, to)?;
        world.append(dir, &log, 0)?;
        if round == 1 {
            dir.write_all_behind().map_err(|_| ())?;
        }
        world.append(dir, &log, 0)?;
        world.flush(dir)?;
        if round == 3 {
            world.begin_anew(&log, 0, Offset(7))?;
        }
    }
    let end = log.offsets().log_end();
    world.begin_anew(&log, 0, Offset(end.0 + 40))?;
    world.append(dir, &log, 0)?;
    world.flush(dir)
}

#[test]
fn power_may_go_at_every_single_operation_of_a_script() {
    for promise in [Promise::Fsync, Promise::Replicated, Promise::Mixed] {
        cut_everywhere(script, promise, 80, 1);
    }
}

#[test]
fn power_may_go_at_every_single_operation_of_truncations() {
    cut_everywhere(cutting_script, Promise::Fsync, 150, 1);
    // What is acknowledged from memory differs in the journal alone.
    cut_everywhere(cutting_script, Promise::Replicated, 150, 4);
}

/// Cuts at every operation of the script, or at every so many.
fn cut_everywhere(script: Script, promise: Promise, operations_min: u64, stride: usize) {
    let operations = {
        let mut world = World::new(0, promise);
        world.random = SeededRandom::new(0xabcdef);
        let dir = world.bench.open();
        script(&mut world, &dir).unwrap();
        world.bench.fs.operations()
    };
    assert!(operations > operations_min, "{promise:?}: {operations}");
    for cut_at in (0..operations).step_by(stride) {
        cut_once(script, promise, cut_at);
    }
}

fn cut_once(script: Script, promise: Promise, cut_at: u64) {
    let mut world = World::new(cut_at, promise);
    world.random = SeededRandom::new(0xabcdef);
    world.bench.fs.inject(cut_at, Fault::PowerCut);
    if let Ok(dir) = LogDir::open(world.bench.options.clone()) {
        let _ = script(&mut world, &dir);
    }
    world.bench.fs.restart_after_power_cut();
    let dir = world.bench.open();
    world.verify(&dir, Crash::Power);
    // And once more, on what is left.
    for _ in 0..30 {
        world.step(&dir).unwrap();
    }
    drop(dir);
    world.bench.fs.restart_after_power_cut();
    let dir = world.bench.open();
    world.verify(&dir, Crash::Power);
}
