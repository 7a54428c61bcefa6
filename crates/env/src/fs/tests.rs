//! Both file systems against one list of expectations, and the simulated accidents.

use super::*;

fn real() -> (tempfile::TempDir, RealFs) {
    (tempfile::tempdir().unwrap(), RealFs)
}

fn exercise(fs: &dyn Fs, root: &Path) {
    let nested = root.join("a/b");
    create_dir_all(fs, &nested).unwrap();
    assert_eq!(fs.create_dir(&nested).unwrap_err().kind(), io::ErrorKind::AlreadyExists);

    let path = nested.join("file");
    assert_eq!(fs.open(&path, OpenMode::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
    let file = fs.open(&path, OpenMode::CreateNew).unwrap();
    let mut slices = [IoSlice::new(b"hello "), IoSlice::new(b""), IoSlice::new(b"disk")];
    file.write_all_vectored_at(&mut slices, 2).unwrap();
    file.sync_data().unwrap();
    let mut buffer = [0; 12];
    file.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"\0\0hello disk");
    assert_eq!(file.read_at(&mut buffer, 12).unwrap(), 0);
    assert!(file.read_exact_at(&mut buffer, 1).is_err());
    file.allocate(100).unwrap();
    assert_eq!(file.len().unwrap(), 100);
    file.set_len(4).unwrap();
    assert_eq!(read_whole(fs, &path, 4).unwrap().unwrap(), b"\0\0he");
    assert_eq!(read_whole(fs, &path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);

    replace_whole(fs, &path, b"new").unwrap();
    assert_eq!(read_whole(fs, &path, 100).unwrap().unwrap(), b"new");
    assert_eq!(file.len().unwrap(), 4, "the replaced file lives on behind its handle");
    assert_eq!(read_whole(fs, &nested.join("none"), 1).unwrap(), None);

    let lock = fs.lock_dir(&nested).unwrap();
    assert_eq!(fs.lock_dir(&nested).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    drop(fs.lock_dir(&nested).unwrap());

    let names: Vec<String> = fs.list(&nested).unwrap().into_iter().map(|e| e.name).collect();
    assert!(names.contains(&"file".to_owned()));
    fs.rename(&root.join("a"), &root.join("c")).unwrap();
    assert_eq!(fs.kind(&root.join("c/b")).unwrap(), Some(EntryKind::Directory));
    remove_dir_all(fs, &root.join("c")).unwrap();
    assert_eq!(fs.kind(&root.join("c")).unwrap(), None);
}

#[test]
fn the_real_and_the_simulated_file_system_behave_alike() {
    let (directory, fs) = real();
    exercise(&fs, directory.path());
    exercise(&SimFs::new(1), Path::new("/"));
}

#[test]
fn reads_that_must_not_wait_return_cached_bytes() {
    let (directory, fs) = real();
    let file = fs.open(&directory.path().join("f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"just written", 0).unwrap();
    let mut buffer = [0; 4];
    // Some file systems cannot say; then the answer is "would wait", never wrong bytes.
    if let Some(count) = file.read_cached_at(&mut buffer, 5).unwrap() {
        assert_eq!(&buffer[..count], &b"writ"[..count]);
    }
    let sim = SimFs::new(1);
    sim.set_cached(false);
    let file = sim.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
    assert_eq!(file.read_cached_at(&mut buffer, 0).unwrap(), None);
}

#[test]
fn synced_bytes_and_names_survive_every_power_cut() {
    for seed in 0..64 {
        let fs = SimFs::new(seed);
        create_dir_all(&fs, Path::new("/d")).unwrap();
        replace_whole(&fs, Path::new("/d/f"), b"synced").unwrap();
        fs.restart_after_power_cut();
        assert_eq!(read_whole(&fs, Path::new("/d/f"), 100).unwrap().unwrap(), b"synced");
    }
}

#[test]
fn unsynced_sectors_are_kept_lost_or_torn() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..256 {
        let fs = SimFs::new(seed);
        replace_whole(&fs, Path::new("/f"), &[0; 1024]).unwrap();
        let file = fs.open(Path::new("/f"), OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[1; 1024], 0).unwrap();
        fs.restart_after_power_cut();
        let bytes = read_whole(&fs, Path::new("/f"), 2048).unwrap().unwrap();
        assert!(bytes.len() == 1024 && bytes[..512].iter().all(|byte| *byte == bytes[0]));
        outcomes.insert((bytes[0], bytes[512]));
        assert!(file.read_at(&mut [0; 1], 0).is_err(), "handles do not survive");
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [(0, 0), (0, 1), (1, 0), (1, 1)]);
}

#[test]
fn an_unsynced_name_may_vanish_and_an_unsynced_removal_may_be_undone() {
    let (mut vanished, mut undone) = (0, 0);
    for seed in 0..64 {
        let fs = SimFs::new(seed);
        replace_whole(&fs, Path::new("/old"), b"x").unwrap();
        let file = fs.open(Path::new("/new"), OpenMode::CreateNew).unwrap();
        file.sync_all().unwrap();
        fs.remove_file(Path::new("/old")).unwrap();
        fs.restart_after_power_cut();
        vanished += usize::from(fs.kind(Path::new("/new")).unwrap().is_none());
        undone += usize::from(fs.kind(Path::new("/old")).unwrap().is_some());
    }
    assert!((8..56).contains(&vanished) && (8..56).contains(&undone), "{vanished} {undone}");
}

#[test]
fn a_killed_process_loses_nothing_it_wrote() {
    let fs = SimFs::new(3);
    let file = fs.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"written", 0).unwrap();
    let _lock = fs.lock_dir(Path::new("/")).unwrap();
    fs.restart_after_kill();
    assert_eq!(read_whole(&fs, Path::new("/f"), 100).unwrap().unwrap(), b"written");
    assert!(fs.lock_dir(Path::new("/")).is_ok());
}

#[test]
fn a_failed_sync_loses_its_bytes_even_when_a_second_one_succeeds() {
    let fs = SimFs::new(2);
    replace_whole(&fs, Path::new("/f"), b"").unwrap();
    let file = fs.open(Path::new("/f"), OpenMode::ReadWrite).unwrap();
    fs.inject(fs.operations() + 1, Fault::Io);
    file.write_all_at(&[7; 600], 0).unwrap();
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    file.sync_data().unwrap();
    fs.restart_after_power_cut();
    let bytes = read_whole(&fs, Path::new("/f"), 1024).unwrap().unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0) || bytes.len() < 600);
}

#[test]
fn a_full_disk_refuses_growth_and_allows_overwriting() {
    let fs = SimFs::new(2);
    replace_whole(&fs, Path::new("/f"), &[1; 100]).unwrap();
    fs.set_capacity_bytes(120);
    let file = fs.open(Path::new("/f"), OpenMode::ReadWrite).unwrap();
    file.write_all_at(&[2; 100], 0).unwrap();
    assert_eq!(file.write_all_at(&[3; 30], 100).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 100);
    let space = fs.space(Path::new("/")).unwrap();
    assert_eq!(space, Space { total_bytes: 120, available_bytes: 20 });
    // To the last byte: not even a name finds room, until another one goes.
    fs.set_capacity_bytes(100);
    let refused = fs.create_dir(Path::new("/d")).unwrap_err();
    assert!(is_out_of_space(&refused));
    fs.remove_file(Path::new("/f")).unwrap();
    fs.create_dir(Path::new("/d")).unwrap();
}

#[test]
fn a_read_that_was_made_to_fail_says_so_and_the_next_one_succeeds() {
    let fs = SimFs::new(2);
    replace_whole(&fs, Path::new("/f"), b"bytes").unwrap();
    fs.inject_read_error(fs.reads());
    let failed = read_whole(&fs, Path::new("/f"), 100).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(5));
    assert_eq!(read_whole(&fs, Path::new("/f"), 100).unwrap().unwrap(), b"bytes");
}

#[test]
fn a_real_file_system_tells_its_size() {
    let space = RealFs.space(&std::env::temp_dir()).unwrap();
    assert!(0 < space.total_bytes && space.available_bytes <= space.total_bytes, "{space:?}");
}

#[test]
fn an_injected_power_cut_stops_everything_until_the_restart() {
    let fs = SimFs::new(9);
    fs.inject(fs.operations(), Fault::PowerCut);
    assert!(replace_whole(&fs, Path::new("/f"), b"x").is_err());
    assert!(!fs.is_powered() && fs.list(Path::new("/")).is_err());
    fs.restart_after_power_cut();
    replace_whole(&fs, Path::new("/f"), b"y").unwrap();
}
