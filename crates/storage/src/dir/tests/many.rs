//! Very many partitions, whose folders several threads open and write.

use super::*;

const PARTITIONS: i32 = 150;

#[test]
fn many_partitions_are_found_again_each_with_its_own() {
    let mut bench = Bench::new(1);
    bench.options.threads = true;
    bench.options.journal_file_bytes = 256 << 10;
    bench.options.journal_bytes_max = 2 << 20;
    bench.options.tail_bytes_max = 1 << 20;
    let dir = bench.open();
    let mut expected = Vec::new();
    for partition in 0..PARTITIONS {
        let log = new_log(&dir, partition);
        for number in 0..=partition % 3 {
            let value = format!("{partition} {number}").into_bytes();
            append(&log, batch(&[&value], 1, Some((9, 0, number)))).unwrap();
        }
        expected.push((log.id(), read_all(&log, Offset(0))));
    }
    while dir.step_flush().unwrap() {}
    dir.write_all_behind().unwrap();
    drop(dir);
    bench.fs.restart_after_power_cut();
    // One folder is damaged: the others are none of its business.
    let path = Path::new("/data/orders-77/partition.metadata");
    bench.fs.tamper(path, |bytes| bytes[3] ^= 1).unwrap();
    expected.remove(77);

    let dir = bench.open();
    let found: Vec<_> = dir.logs().iter().map(|log| (log.id(), read_all(log, Offset(0)))).collect();
    assert_eq!(found, expected);
    assert_eq!(dir.suspects().len(), 1);
    assert_eq!(dir.suspects()[0].name, name(77));
    dir.shutdown().unwrap();
    drop(dir);
    bench.fs.restart_after_kill();
    let dir = bench.open();
    assert!(dir.was_clean());
    assert_eq!(dir.logs().len(), expected.len());
}

#[test]
fn a_disk_that_fails_one_of_many_writes_fails_the_dir() {
    let mut bench = Bench::new(2);
    bench.options.threads = true;
    bench.options.journal_file_bytes = 256 << 10;
    bench.options.journal_bytes_max = 2 << 20;
    bench.options.tail_bytes_max = 1 << 20;
    let dir = bench.open();
    // The fault is to meet what this test does.
    dir.stop_threads();
    for partition in 0..PARTITIONS {
        append(&new_log(&dir, partition), batch(&[b"value"], 1, None)).unwrap();
    }
    while dir.step_flush().unwrap() {}
    bench.fs.inject(bench.fs.operations() + 300, thalweg_env::fs::Fault::Io);
    let failed = dir.write_all_behind().unwrap_err();
    assert!(matches!(failed, StorageError::Failed(_)), "{failed}");
    assert!(dir.failure().is_some());
}
