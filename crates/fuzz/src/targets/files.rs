//! The small files of a log dir, each by its own reader.

use thalweg_env::fs::{OpenMode, SimFs};
use thalweg_log_core::ProducerStates;
use thalweg_record::{BatchBuilder, BatchHeader, stamp};
use thalweg_storage::fuzzing;
use thalweg_types::{
    CompressionType, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

use super::{log_dir, numbered};
use crate::{Seeds, peak};

/// Reading and writing again takes so many times the input at most: numbers as text are shorter than in memory.
const FACTOR: usize = 16;

pub(super) fn storage_meta(input: &[u8]) {
    peak::times(FACTOR, input, || fuzzing::storage_meta(input));
}

pub(super) fn partition_metadata(input: &[u8]) {
    peak::times(FACTOR, input, || fuzzing::partition_metadata(input));
}

pub(super) fn epoch_checkpoint(input: &[u8]) {
    peak::times(FACTOR, input, || fuzzing::epoch_checkpoint(input));
}

pub(super) fn names(input: &[u8]) {
    peak::times(FACTOR, input, || fuzzing::names(input));
}

pub(super) fn checkpoint(input: &[u8]) {
    peak::times(FACTOR, input, || fuzzing::checkpoint(input));
}

pub(super) fn journal_entry(input: &[u8]) {
    peak::times(FACTOR, input, || fuzzing::journal_entry(input));
}

/// Producer states: what is restored is written again and restored the same, byte for byte.
pub(super) fn producer_snapshot(input: &[u8]) {
    let restored = peak::times(FACTOR, input, || ProducerStates::restore(input));
    let Ok((states, log_end)) = restored else { return };
    assert_eq!(states.snapshot(log_end), input);
    for (id, state) in states.iter() {
        assert!(state.batches.iter().all(|batch| batch.last_offset < log_end), "{id:?}");
        // Whatever was remembered, the next number can be asked for.
        let _ = state.next_sequence();
    }
}

// ---- Seeds ----

pub(super) fn storage_meta_seeds() -> Seeds {
    let file = log_dir::sample_file("storage.meta");
    let text = String::from_utf8(file).expect("it is text");
    let lines = text.rsplit_once("checksum=").map_or(text.as_str(), |(lines, _)| lines);
    let whole = "version=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\ncluster.id=AAAAAAAAAAAAAAAAAAAAAg\nnode.id=7\n";
    numbered([
        [&[0], text.as_bytes()].concat(),
        [&[1], lines.as_bytes()].concat(),
        [&[1], whole.as_bytes()].concat(),
    ])
}

pub(super) fn partition_metadata_seeds() -> Seeds {
    numbered([log_dir::sample_file("partition.metadata")])
}

pub(super) fn epoch_checkpoint_seeds() -> Seeds {
    let texts = ["0\n0\n", "0\n1\n0 0\n", "0\n3\n0 0\n3 120\n7 9223372036854775807\n"];
    let made = texts.map(|text| text.as_bytes().to_vec());
    numbered(made.into_iter().chain([log_dir::sample_file("leader-epoch-checkpoint")]))
}

pub(super) fn names_seeds() -> Seeds {
    let names = [
        "orders-0",
        "a.b-c_d-2147483647",
        "00000000000000000042.log",
        "00000000000000000000.log",
        "orders-0.AAAAAAAAAAAAAAAAAAAAAQ-delete",
        "orders-0.AAAAAAAAAAAAAAAAAAAAAQ-stray",
    ];
    numbered(names.map(|name| name.as_bytes().to_vec()))
}

pub(super) fn checkpoint_seeds() -> Seeds {
    let file = log_dir::sample_file("checkpoint");
    numbered([[&[0], &file[..]].concat(), fuzzing::checkpoint_input(&file)])
}

pub(super) fn journal_entry_seeds() -> Seeds {
    let partition = [[1_u8; 16].as_slice(), &3_i32.to_le_bytes()].concat();
    let mut batch = BatchBuilder::new(CompressionType::None);
    batch.push(Timestamp(1), None, Some(b"value"), &[]).expect("it is small");
    let mut batch = batch.finish().expect("it has a record");
    stamp(&mut batch, Offset(9), LeaderEpoch(2));
    let place = [&9_i64.to_le_bytes()[..], &2_i32.to_le_bytes(), &[1]].concat();
    let epoch = [&2_i32.to_le_bytes()[..], &9_i64.to_le_bytes()].concat();
    let header = [&0_u64.to_le_bytes()[..], &[1], &[7; 24]].concat();
    let frames: [(u8, Vec<u8>, &[u8]); 4] = [
        (16, [&partition[..], &place].concat(), &batch),
        (17, [&partition[..], &epoch].concat(), &[]),
        (18, [&partition[..], &9_i64.to_le_bytes()].concat(), &[]),
        (1, header, &[]),
    ];
    let input = |(kind, payload, attachment): (u8, Vec<u8>, &[u8])| {
        let length = u8::try_from(payload.len()).expect("payloads are short");
        [&[kind, length], &payload[..], attachment].concat()
    };
    numbered(frames.map(input))
}

pub(super) fn producer_snapshot_seeds() -> Seeds {
    let mut states = ProducerStates::default();
    let mut seeds = vec![states.snapshot(Offset(0))];
    for number in 0..8_i64 {
        let producer = (ProducerId(number % 3), ProducerEpoch(1));
        let sequence = Sequence(i32::try_from(number).expect("it is small"));
        let mut builder =
            BatchBuilder::new(CompressionType::None).producer(producer.0, producer.1, sequence);
        builder.push(Timestamp(number), None, None, &[]).expect("it is small");
        let mut batch = builder.finish().expect("it has a record");
        stamp(&mut batch, Offset(number), LeaderEpoch(0));
        states.apply(&BatchHeader::parse(&batch).expect("our own"), Timestamp(number));
        seeds.push(states.snapshot(Offset(number + 1)));
    }
    numbered(seeds)
}

/// A simulated disk with one file in the root.
pub(super) fn disk_with(name: &str, bytes: &[u8]) -> SimFs {
    use thalweg_env::fs::Fs as _;
    let fs = SimFs::new(1);
    let path = std::path::Path::new("/").join(name);
    let file = fs.open(&path, OpenMode::CreateNew).expect("an empty disk");
    file.write_all_at(bytes, 0).expect("a sound disk");
    fs
}
