//! DescribeLogDirs: the log directory, what each partition takes of it, and how much room is left.
//!
//! Partitions that were found damaged and are not served take room as well: whoever looks where it went finds them here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use thalweg_kafka::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use thalweg_storage::LogDir;
use thalweg_types::{ErrorCode, TopicName, TopicPartition};

use crate::broker::Broker;
use crate::fetch::blocking;
use crate::partition::Partition;

/// What is said of a file system that does not tell its size.
const UNKNOWN_BYTES: i64 = -1;

/// Partitions of interest by topic; `None`: all.
type Wanted = Option<HashMap<String, HashSet<i32>>>;

pub(super) async fn describe_log_dirs(
    broker: &Broker,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let log_dir = Arc::clone(&broker.log_dir);
    let hosted = Arc::clone(&broker.hosted);
    let wanted = request.topics.map(by_topic);
    // The file system may take its time to tell its size.
    let result = blocking(move || {
        let set_aside = if log_dir.failure().is_some() { Vec::new() } else { set_aside(&log_dir) };
        describe(log_dir.path(), log_dir.failure().is_some(), &hosted.all(), &set_aside, &wanted)
    })
    .await;
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}

fn describe(
    path: &Path,
    failed: bool,
    hosted: &[Arc<Partition>],
    set_aside: &[(TopicPartition, u64)],
    wanted: &Wanted,
) -> DescribeLogDirsResult {
    // The directory this process runs in means nothing to a client.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let log_dir = KafkaString::from(absolute.to_string_lossy().into_owned());
    if failed {
        let error_code = ErrorCode::KafkaStorageError.code();
        return DescribeLogDirsResult { error_code, log_dir, ..Default::default() };
    }
    let (total_bytes, usable_bytes) = room(path).unwrap_or((UNKNOWN_BYTES, UNKNOWN_BYTES));
    DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir,
        topics: sizes(hosted, set_aside, wanted),
        total_bytes,
        usable_bytes,
    }
}

/// Partitions that were found damaged, with the bytes of their segments.
fn set_aside(log_dir: &LogDir) -> Vec<(TopicPartition, u64)> {
    let folders = log_dir.suspects().iter().map(|suspect| {
        let folder = log_dir.path().join(suspect.name.to_string());
        // One that was removed by hand meanwhile takes nothing.
        (suspect.name.clone(), segment_bytes(&folder).unwrap_or(0))
    });
    folders.collect()
}

fn segment_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "log") {
            bytes = bytes.saturating_add(entry.metadata()?.len());
        }
    }
    Ok(bytes)
}

/// The partitions that are wanted, in order, with the bytes of their batches.
fn sizes(
    hosted: &[Arc<Partition>],
    set_aside: &[(TopicPartition, u64)],
    wanted: &Wanted,
) -> Vec<DescribeLogDirsTopic> {
    let mut topics: BTreeMap<TopicName, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let served = hosted.iter().map(|partition| (partition.name(), partition.log().size_bytes()));
    let damaged = set_aside.iter().map(|(name, bytes)| (name, *bytes));
    for (TopicPartition { topic, partition: index }, bytes) in served.chain(damaged) {
        let is_wanted = wanted.as_ref().is_none_or(|wanted| {
            wanted.get(topic.as_str()).is_some_and(|indexes| indexes.contains(&index.0))
        });
        if is_wanted {
            topics.entry(topic.clone()).or_default().push(DescribeLogDirsPartition {
                partition_index: index.0,
                partition_size: i64::try_from(bytes).unwrap_or(i64::MAX),
                ..Default::default()
            });
        }
    }
    let topic = |(name, mut partitions): (TopicName, Vec<DescribeLogDirsPartition>)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic { name: KafkaString::from(&name), partitions }
    };
    topics.into_iter().map(topic).collect()
}

/// Bytes of the file system below `path`, and those of them that this process may still write.
fn room(path: &Path) -> Option<(i64, i64)> {
    let system = rustix::fs::statvfs(path).ok()?;
    let bytes =
        |blocks: u64| i64::try_from(blocks.saturating_mul(system.f_frsize)).unwrap_or(i64::MAX);
    Some((bytes(system.f_blocks), bytes(system.f_bavail)))
}

fn by_topic(topics: Vec<DescribableLogDirTopic>) -> HashMap<String, HashSet<i32>> {
    let mut wanted: HashMap<String, HashSet<i32>> = HashMap::with_capacity(topics.len());
    for topic in topics {
        wanted.entry(topic.topic.to_string()).or_default().extend(topic.partitions);
    }
    wanted
}

#[cfg(test)]
mod tests {
    use thalweg_kafka::Writer;
    use thalweg_record::BatchHeader;
    use thalweg_types::{Acks, PartitionIndex};

    use super::*;
    use crate::bench::{Bench, batch};

    fn described(bench: &Bench, failed: bool, wanted: &Wanted) -> DescribeLogDirsResult {
        describe(bench.log_dir.path(), failed, &bench.events.hosted.all(), &[], wanted)
    }

    #[test]
    fn a_partition_takes_what_was_appended_to_it_of_a_disk_with_room() {
        let bench = Bench::stepped();
        let partition = bench.leading();
        let batch = batch(3);
        let size = i64::try_from(batch.len()).unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        partition.append(batch, &header, Acks::Leader, None).unwrap();

        let result = described(&bench, false, &None);

        assert_eq!(result.error_code, 0);
        assert_eq!(Path::new(&*result.log_dir), bench.log_dir.path());
        let topic = &result.topics[0];
        assert_eq!((&*topic.name, topic.partitions[0].partition_index), ("orders", 0));
        assert_eq!(topic.partitions[0].partition_size, size);
        assert!(0 < result.usable_bytes && result.usable_bytes <= result.total_bytes);
    }

    #[test]
    fn only_the_partitions_asked_for_are_described() {
        let bench = Bench::stepped();
        bench.leading();
        let asked = |topic: &str, partitions: &[i32]| {
            let topic = topic.into();
            let wanted =
                by_topic(vec![DescribableLogDirTopic { topic, partitions: partitions.into() }]);
            described(&bench, false, &Some(wanted)).topics.len()
        };
        assert_eq!(asked("orders", &[3, 0]), 1);
        assert_eq!(asked("orders", &[1]), 0);
        assert_eq!(asked("orders", &[]), 0);
        assert_eq!(asked("others", &[0]), 0);
        assert_eq!(described(&bench, false, &Some(by_topic(Vec::new()))).topics.len(), 0);
    }

    #[test]
    fn a_partition_that_is_not_served_for_damage_takes_room_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let name =
            TopicPartition { topic: TopicName::new("lost").unwrap(), partition: PartitionIndex(3) };
        let folder = dir.path().join(name.to_string());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("00000000000000000000.log"), [0; 700]).unwrap();
        std::fs::write(folder.join("00000000000000000009.log"), [0; 77]).unwrap();
        std::fs::write(folder.join("00000000000000000009.index"), [0; 16]).unwrap();
        let random = Arc::new(thalweg_env::OsRandom);
        let clock = Arc::new(thalweg_env::SystemClock::new());
        let observer = Arc::new(thalweg_storage::NoObserver);
        let options = || {
            let (path, fs) = (dir.path().to_owned(), Arc::new(thalweg_env::fs::RealFs));
            thalweg_storage::LogDirOptions {
                threads: false,
                journal_file_bytes: 1 << 20,
                ..thalweg_storage::LogDirOptions::new(
                    path,
                    fs,
                    clock.clone(),
                    random.clone(),
                    observer.clone(),
                )
            }
        };
        // The folder has no sound metadata; a dir with partitions has an identity.
        std::fs::rename(&folder, dir.path().join("later")).unwrap();
        drop(LogDir::open(options()).unwrap());
        std::fs::rename(dir.path().join("later"), &folder).unwrap();
        let log_dir = LogDir::open(options()).unwrap();

        let found = set_aside(&log_dir);

        assert_eq!(found, [(name, 777)]);
        let result = describe(log_dir.path(), false, &[], &found, &None);
        let partition = &result.topics[0].partitions[0];
        assert_eq!((&*result.topics[0].name, partition.partition_index), ("lost", 3));
        assert_eq!(partition.partition_size, 777);
    }

    #[test]
    fn every_version_can_carry_the_answer() {
        let bench = Bench::stepped();
        bench.leading();
        let results = vec![described(&bench, false, &None)];
        let response = DescribeLogDirsResponse { results, ..Default::default() };
        let versions = DescribeLogDirsResponse::VERSIONS;
        for version in versions.min..=versions.max {
            response.clone().encode(version, &mut Writer::new()).unwrap();
        }
    }

    #[test]
    fn the_path_is_absolute_however_the_server_was_started() {
        let result = describe(Path::new("data/logs"), false, &[], &[], &None);
        assert!(Path::new(&*result.log_dir).is_absolute() && result.log_dir.ends_with("data/logs"));
    }

    #[test]
    fn a_directory_that_failed_says_so_and_nothing_else() {
        let bench = Bench::stepped();
        bench.leading();
        let result = described(&bench, true, &None);
        assert_eq!(result.error_code, ErrorCode::KafkaStorageError.code());
        assert_eq!((result.topics.len(), result.total_bytes, result.usable_bytes), (0, -1, -1));
    }

    #[test]
    fn a_file_system_that_is_not_there_has_no_size() {
        assert_eq!(room(Path::new("/no/such/place")), None);
    }
}
