//! Sound folders are found sound; every flipped bit and every cut is found, where it is.

use thalweg_env::fs::{OpenMode, SimFs};
use thalweg_log_core::LogConfig;
use thalweg_types::LeaderEpoch;

use super::*;
use crate::dir::tests::{Bench, append, batch, name, new_log};

const FOLDER: &str = "/data/orders-0";

/// A log of several segments and two leader epochs, all of it in its segments.
fn written(bench: &Bench) {
    let dir = bench.open();
    let log = new_log(&dir, 0);
    let config =
        LogConfig { segment_bytes: 2_000, index_interval_bytes: 200, ..LogConfig::default() };
    log.configure(config);
    for number in 0..30_u8 {
        if number == 17 {
            log.begin_leader_epoch(LeaderEpoch(3)).unwrap();
        }
        append(&log, batch(&[&[number; 70], b"x"], 1_000 + i64::from(number), None)).unwrap();
    }
    dir.step_flush().unwrap();
    dir.write_all_behind().unwrap();
    assert_eq!(log.topic_partition(), &name(0));
}

fn verify(fs: &SimFs, with_marks: bool) -> (Verified, Vec<Finding>) {
    let marks = match with_marks {
        true => DurableMarks::read(fs, Path::new("/data")).unwrap(),
        false => DurableMarks::default(),
    };
    let mut findings = Vec::new();
    let mut report = |finding: &Finding| findings.push(finding.clone());
    let verified = verify_folder(fs, Path::new(FOLDER), &marks, &mut report).unwrap();
    (verified, findings)
}

fn bases(fs: &SimFs) -> Vec<Offset> {
    segments(fs, Path::new(FOLDER)).unwrap()
}

fn path(base_offset: Offset, extension: &str) -> PathBuf {
    Path::new(FOLDER).join(layout::file_name(base_offset, extension))
}

fn flip(fs: &SimFs, path: &Path, at: u64, mask: u8) {
    let file = fs.open(path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at).unwrap();
}

fn bytes_of(fs: &SimFs, path: &Path) -> u64 {
    fs.open(path, OpenMode::Read).unwrap().len().unwrap()
}

fn pieces(fs: &SimFs, base_offset: Offset) -> Vec<Piece> {
    let mut scan = SegmentScan::open(fs, Path::new(FOLDER), base_offset).unwrap();
    std::iter::from_fn(|| scan.next_piece().unwrap()).collect()
}

#[test]
fn a_sound_folder_is_found_sound_with_and_without_a_checkpoint() {
    let bench = Bench::new(1);
    written(&bench);
    for with_marks in [true, false] {
        let (verified, findings) = verify(&bench.fs, with_marks);
        assert!(findings.is_empty(), "{findings:?}");
        assert!(verified.segments > 2, "{verified:?}");
        assert_eq!(verified.batches, 30);
        assert_eq!(verified.offsets, Some((Offset(0), Offset(60))));
    }
}

#[test]
fn paths_are_known_for_what_they_hold() {
    let bench = Bench::new(2);
    written(&bench);
    let target = |path: &str| target(&bench.fs, Path::new(path)).unwrap();
    assert_eq!(target(FOLDER), Some(Target::Folder(FOLDER.into())));
    assert_eq!(target("/data"), Some(Target::LogDir("/data".into())));
    let folder = PathBuf::from(FOLDER);
    let segment = Target::Segment { folder, base_offset: Offset(0) };
    assert_eq!(target(&format!("{FOLDER}/00000000000000000000.log")), Some(segment));
    assert_eq!(target(&format!("{FOLDER}/partition.metadata")), None);
    assert_eq!(target("/data/journal"), None);
    assert_eq!(target("/nowhere"), None);
    let folders = partition_folders(&bench.fs, Path::new("/data")).unwrap();
    assert_eq!(folders, [PathBuf::from(FOLDER)]);
}

#[test]
fn every_flipped_bit_of_a_segment_is_found_in_its_batch() {
    let bench = Bench::new(3);
    written(&bench);
    let base_offset = bases(&bench.fs)[1];
    let file = path(base_offset, "log");
    let batches: Vec<u64> = pieces(&bench.fs, base_offset)
        .iter()
        .map(|piece| match piece {
            Piece::Batch(batch) => batch.position,
            Piece::Bad(bad) => panic!("{bad:?}"),
        })
        .collect();
    for at in 0..bytes_of(&bench.fs, &file) {
        let mask = 1 << (at % 8);
        flip(&bench.fs, &file, at, mask);
        let (_, findings) = verify(&bench.fs, at % 2 == 0);
        let begins = *batches.iter().rfind(|begins| **begins <= at).unwrap();
        let hit = findings.iter().find(|finding| finding.path == file);
        let hit = hit.unwrap_or_else(|| panic!("byte {at} is missed: {findings:?}"));
        assert_eq!(hit.severity, Severity::Damage, "byte {at}");
        assert_eq!(hit.position, Some(begins), "byte {at}: {hit:?}");
        flip(&bench.fs, &file, at, mask);
    }
    assert!(verify(&bench.fs, true).1.is_empty());
}

#[test]
fn every_flipped_bit_of_an_index_is_found() {
    let bench = Bench::new(4);
    written(&bench);
    for extension in ["index", "timeindex"] {
        let file = path(bases(&bench.fs)[1], extension);
        assert!(bytes_of(&bench.fs, &file) > 16);
        for at in 0..bytes_of(&bench.fs, &file) {
            let mask = 1 << (at % 8);
            flip(&bench.fs, &file, at, mask);
            let (verified, findings) = verify(&bench.fs, true);
            assert!(verified.damage > 0, "byte {at} of {}", file.display());
            assert!(findings.iter().all(|finding| finding.path == file), "{findings:?}");
            flip(&bench.fs, &file, at, mask);
        }
    }
}

#[test]
fn a_torn_tail_is_damage_only_where_it_was_durable() {
    let bench = Bench::new(5);
    written(&bench);
    let last = *bases(&bench.fs).last().unwrap();
    let file = path(last, "log");
    let whole = bytes_of(&bench.fs, &file);
    let end = pieces(&bench.fs, last).len();
    assert!(end > 1);

    // Half a batch behind the durable end: what a kill leaves.
    let handle = bench.fs.open(&file, OpenMode::ReadWrite).unwrap();
    let mut half = vec![0; 90];
    handle.read_exact_at(&mut half, 0).unwrap();
    half[..8].copy_from_slice(&60_i64.to_be_bytes());
    handle.write_all_at(&half, whole).unwrap();
    for with_marks in [true, false] {
        let (verified, findings) = verify(&bench.fs, with_marks);
        assert_eq!((verified.damage, verified.unfinished), (0, 1), "{findings:?}");
        assert_eq!(findings[0].position, Some(whole));
    }

    // The same cut below the durable end.
    handle.set_len(whole - 30).unwrap();
    let (verified, findings) = verify(&bench.fs, true);
    assert!(verified.damage >= 2, "{findings:?}");
    assert!(
        findings
            .iter()
            .any(|f| matches!(f.problem, Problem::TooShort { durable, .. } if durable == whole))
    );

    // Cut between two batches: only the checkpoint, or an index, knows that something is missing.
    let Some(Piece::Batch(batch)) = pieces(&bench.fs, last).into_iter().nth(end - 2) else {
        panic!("a batch before the last one")
    };
    handle.set_len(batch.position).unwrap();
    let (verified, findings) = verify(&bench.fs, true);
    assert!(verified.damage >= 1, "{findings:?}");
}

#[test]
fn a_damaged_stretch_is_walked_over_and_a_lost_segment_is_noticed() {
    let bench = Bench::new(6);
    written(&bench);
    let all = bases(&bench.fs);
    let file = path(all[0], "log");
    let whole = pieces(&bench.fs, all[0]);
    let [Piece::Batch(first), Piece::Batch(second), ..] = &whole[..] else { panic!("{whole:?}") };
    let handle = bench.fs.open(&file, OpenMode::ReadWrite).unwrap();
    handle.write_all_at(&vec![0x55; first.bytes.len()], 0).unwrap();
    let found = pieces(&bench.fs, all[0]);
    assert_eq!(found.len(), whole.len());
    let [Piece::Bad(bad), Piece::Batch(batch), ..] = &found[..] else { panic!("{found:?}") };
    assert!(bad.is_followed && !bad.is_blank);
    assert_eq!((bad.position, bad.bytes, batch.position), (0, second.position, second.position));

    handle.write_all_at(&first.bytes, 0).unwrap();
    assert!(verify(&bench.fs, true).1.is_empty());
    bench.fs.remove_file(&path(all[1], "log")).unwrap();
    let (_, findings) = verify(&bench.fs, true);
    let [Finding { problem: Problem::SegmentOrder { expected, found }, .. }] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!((*expected, *found), (all[1], all[2]));
}

#[test]
fn wrong_leader_epochs_and_lost_small_files_are_found() {
    let bench = Bench::new(7);
    written(&bench);
    let epochs = Path::new(FOLDER).join(layout::EPOCH_CHECKPOINT);
    let replace = |text: &str| {
        let file = bench.fs.open(&epochs, OpenMode::CreateOrTruncate).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
    };
    let problems = || -> Vec<Problem> {
        verify(&bench.fs, true).1.into_iter().map(|finding| finding.problem).collect()
    };
    replace("0\n2\n0 0\n3 36\n");
    let found = problems();
    let [Problem::Epoch { offset: Offset(34), noted: LeaderEpoch(0), found: LeaderEpoch(3) }] =
        found[..]
    else {
        panic!("{found:?}")
    };
    replace("nonsense");
    assert!(matches!(problems()[..], [Problem::Unreadable]));
    bench.fs.remove_file(&epochs).unwrap();
    assert!(matches!(problems()[..], [Problem::Missing]));
    replace("0\n2\n0 0\n3 34\n");
    assert!(problems().is_empty());
    bench.fs.remove_file(&path(Offset(0), "index")).unwrap();
    assert!(matches!(problems()[..], [Problem::Missing]));
}
