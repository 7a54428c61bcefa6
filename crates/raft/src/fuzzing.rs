//! The readers of the quorum's files and messages, open to the fuzzer. Each takes any bytes; what is understood must be said again and
//! then be understood the same.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use thalweg_env::fs::{Fs, OpenMode, SimFs};
use thalweg_proto::internal::raft::v1 as proto;
use thalweg_storage::frame;

use crate::codec::{self, entry_from_proto, entry_to_proto};
use crate::kv::{AppliedState, Digest, Entries};
use crate::log::fuzzing as log;
use crate::network::fuzzing as network;
use crate::snapshot::{self, SnapshotStore};
use crate::types::Entry;

const DIR: &str = "/metadata";

/// One record of the log: its kind is the first byte.
pub fn log_record(input: &[u8]) {
    let Some((kind, payload)) = input.split_first() else { return };
    log::record(*kind, Bytes::copy_from_slice(payload));
}

/// An entry, said again byte for byte as often as one likes.
pub fn log_entry(input: &[u8]) {
    let decode = |bytes: Vec<u8>| -> Option<Entry> {
        entry_from_proto(codec::decode("entry", bytes.into()).ok()?).ok()
    };
    let Some(entry) = decode(input.to_vec()) else { return };
    let said = entry_to_proto(&entry).encode_to_vec();
    assert_eq!(decode(said), Some(entry));
}

/// A directory that holds one log file with these bytes, or with the frames they describe: opens, or is refused; what opened
/// opens again and says the same.
pub fn log_file(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let bytes = if mode & 1 == 1 { frames(0, input) } else { input.to_vec() };
    let fs = disk(&[(&log::file_name(0), &bytes)]);
    log::open_twice(&fs, Path::new(DIR));
}

/// A sound log of a few entries and votes, in one file.
pub fn log_file_sample() -> Vec<u8> {
    log::sample()
}

/// A directory that holds one snapshot with these bytes, or with the frames they describe: it is whole, or it is set aside,
/// and then there is none.
pub fn snapshot_file(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let bytes = if mode & 1 == 1 { frames(snapshot::GENERATION, input) } else { input.to_vec() };
    let name = format!("{:020}-{:020}-{:020}.snapshot", 3, 1, 7);
    let fs = disk(&[(&name, &bytes)]);
    let dir = Path::new(DIR);
    let store = SnapshotStore::open(Arc::new(fs.clone()), dir).expect("the disk is sound");
    let Some((meta, file)) = store.current() else { return };
    let (read_meta, entries) = file.read().expect("it was read when it was opened");
    assert_eq!(read_meta, meta);
    let written = store.write(&meta, &entries).expect("the disk is sound");
    let (again, entries_again) = written.read().expect("it was just written");
    assert_eq!((again, Digest::of(&entries_again)), (meta, Digest::of(&entries)));
}

/// A sound snapshot of a few entries.
pub fn snapshot_file_sample() -> Vec<u8> {
    let fs = disk(&[]);
    let store = SnapshotStore::open(Arc::new(fs), Path::new(DIR)).expect("the disk is sound");
    let entries: Entries = (0..5_u8)
        .map(|number| (Bytes::from(vec![number; 3]), Bytes::from(vec![number; 20])))
        .collect();
    let last = proto::LogId { term: 3, node_id: 1, index: 7 };
    let applied =
        AppliedState { last: Some(codec::log_id_from_proto(&last)), ..AppliedState::default() };
    let file = store.write(&applied, &entries).expect("the disk is sound");
    let mut bytes = vec![0; usize::try_from(file.size_bytes()).expect("small")];
    file.read_exact_at(&mut bytes, 0).expect("it was just written");
    bytes
}

/// What another member answers, or asks: the first byte chooses the call.
pub fn answer(input: &[u8]) {
    let Some((call, message)) = input.split_first() else { return };
    network::answer(*call, Bytes::copy_from_slice(message));
}

/// Sound frames out of a description, because no fuzzer finds checksums: a kind, a length and that many bytes of payload for each.
fn frames(generation: u64, mut description: &[u8]) -> Vec<u8> {
    let mut framed = BytesMut::new();
    while let [kind, length, rest @ ..] = description {
        let (payload, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        let position = framed.len() as u64;
        frame::encode(&mut framed, *kind, generation, position, 0, payload);
        description = behind;
    }
    framed.to_vec()
}

/// The description of a file of frames with payloads of up to 255 bytes.
pub fn describe(file: &[u8]) -> Vec<u8> {
    let mut description = Vec::new();
    let mut rest = file;
    while let Some(header) = frame::Header::parse(rest) {
        let payload = rest.get(frame::HEADER_BYTES..).unwrap_or_default();
        let payload = payload.get(..header.payload_bytes as usize).unwrap_or_default();
        description.push(header.kind);
        description.push(u8::try_from(payload.len()).expect("samples have short payloads"));
        description.extend_from_slice(payload);
        let frame_bytes = frame::frame_bytes(payload.len(), 0);
        rest = usize::try_from(frame_bytes).ok().and_then(|at| rest.get(at..)).unwrap_or_default();
    }
    description
}

/// A disk with the files in one directory.
fn disk(files: &[(&str, &[u8])]) -> SimFs {
    let fs = SimFs::new(1);
    let dir = Path::new(DIR);
    fs.create_dir(dir).expect("an empty disk");
    for (name, bytes) in files {
        let file = fs.open(&dir.join(name), OpenMode::CreateNew).expect("an empty directory");
        file.write_all_at(bytes, 0).expect("a sound disk");
        file.sync_all().expect("a sound disk");
    }
    fs
}
