//! Names and small text files of a log dir, as a Kafka operator expects to see them.
//!
//! ```text
//! <log dir>/
//!   storage.meta                     which cluster, node and dir this is (ours)
//!   checkpoint                       recovery points (ours, see checkpoint.rs)
//!   clean-shutdown                   present only between a clean stop and the next start (ours)
//!   journal/00000001.journal ...     (ours, see journal.rs)
//!   <topic>-<partition>/
//!     partition.metadata             topic id, in Kafka's format
//!     leader-epoch-checkpoint        epochs, in Kafka's format
//!     truncation                     present once the log's end was taken back (ours, see cut.rs)
//!     00000000000000000000.log       segment, named by its base offset; .index .timeindex .snapshot beside it
//!   <topic>-<partition>.<topic id>-new/        a partition in the making; gets its name when it is whole
//!   <topic>-<partition>.<topic id>-delete/     a deleted partition, on its way out
//!   <topic>-<partition>.<topic id>-stray/      a partition that the cluster does not know, for an operator to look at
//! ```

use std::fmt::Write;

use thalweg_log_core::{EpochEntry, EpochIndex};
use thalweg_types::{
    BrokerEpoch, ClusterId, DirId, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicName,
    TopicPartition,
};

pub(crate) const STORAGE_META: &str = "storage.meta";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const CLEAN_SHUTDOWN: &str = "clean-shutdown";
pub(crate) const JOURNAL_DIR: &str = "journal";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
pub(crate) const EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
pub(crate) const TRUNCATION: &str = "truncation";
pub(crate) const NEW_FOLDER_SUFFIX: &str = "-new";
pub(crate) const DELETED_FOLDER_SUFFIX: &str = "-delete";
pub(crate) const STRAY_FOLDER_SUFFIX: &str = "-stray";
/// Appended to the names of files on their way out.
pub(crate) const DELETED_FILE_SUFFIX: &str = "deleted";

/// Text files larger than this are not ours.
pub(crate) const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Whose disk this is (KIP-858). The dir id is given when the directory is first used; the rest when the node has registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageMeta {
    pub cluster_id: Option<ClusterId>,
    pub node_id: Option<NodeId>,
    pub dir_id: DirId,
}

impl StorageMeta {
    pub(crate) fn to_text(self) -> String {
        let mut text = format!("version=1\ndirectory.id={}\n", self.dir_id);
        if let Some(cluster_id) = self.cluster_id {
            let _ = writeln!(text, "cluster.id={cluster_id}");
        }
        if let Some(node_id) = self.node_id {
            let _ = writeln!(text, "node.id={node_id}");
        }
        with_checksum(text)
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut meta = Self { cluster_id: None, node_id: None, dir_id: DirId::ZERO };
        let mut lines = without_checksum(text)?.lines();
        if lines.next() != Some("version=1") {
            return None;
        }
        for line in lines {
            match line.split_once('=')? {
                ("directory.id", id) => meta.dir_id = id.parse().ok()?,
                ("cluster.id", id) => meta.cluster_id = Some(id.parse().ok()?),
                ("node.id", id) => meta.node_id = Some(NodeId(id.parse().ok()?)),
                _ => return None,
            }
        }
        (!meta.dir_id.is_zero()).then_some(meta)
    }
}

/// The mark of a clean stop: whose dir it was, and in which session the broker had it, if that is known.
pub(crate) fn clean_mark(dir_id: DirId, session: Option<BrokerEpoch>) -> String {
    let mut text = format!("directory.id={dir_id}\n");
    if let Some(session) = session {
        let _ = writeln!(text, "broker.epoch={session}");
    }
    with_checksum(text)
}

/// The session in a mark of a clean stop of this dir; `None` when it is of another dir, or damaged.
pub(crate) fn session_in_clean_mark(text: &str, dir_id: DirId) -> Option<Option<BrokerEpoch>> {
    let (first, rest) = without_checksum(text)?.split_once('\n')?;
    if first.strip_prefix("directory.id=")?.parse() != Ok(dir_id) {
        return None;
    }
    match rest.trim_end() {
        "" => Some(None),
        line => Some(Some(BrokerEpoch(line.strip_prefix("broker.epoch=")?.parse().ok()?))),
    }
}

/// Adds a last line that guards the ones before it.
pub(crate) fn with_checksum(mut text: String) -> String {
    let checksum = crc_fast::crc32_iscsi(text.as_bytes());
    let _ = writeln!(text, "checksum={checksum:08x}");
    text
}

/// The lines before the checksum line, if that is right.
pub(crate) fn without_checksum(text: &str) -> Option<&str> {
    let start = text.trim_end_matches('\n').rfind('\n')? + 1;
    let (lines, last) = text.split_at(start);
    let stored = u32::from_str_radix(last.trim_end().strip_prefix("checksum=")?, 16).ok()?;
    (stored == crc_fast::crc32_iscsi(lines.as_bytes())).then_some(lines)
}

/// `00000000000000000042.log`
pub(crate) fn file_name(base_offset: Offset, extension: &str) -> String {
    format!("{:020}.{extension}", base_offset.0)
}

/// The offset in a name like `00000000000000000042.log`.
pub(crate) fn parse_file_name(name: &str, extension: &str) -> Option<Offset> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let canonical = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    canonical.then(|| digits.parse().ok().map(Offset))?
}

/// The offset part of names like `00000000000000000042.log` in a folder, in order.
pub(crate) fn offsets_of(names: &[String], extension: &str) -> Vec<Offset> {
    let mut offsets: Vec<_> =
        names.iter().filter_map(|name| parse_file_name(name, extension)).collect();
    offsets.sort_unstable();
    offsets
}

/// The partition a folder name like `orders-7` is of.
pub(crate) fn parse_folder(name: &str) -> Option<TopicPartition> {
    let (topic, index) = name.rsplit_once('-')?;
    let canonical = !index.is_empty()
        && index.bytes().all(|byte| byte.is_ascii_digit())
        && (index.len() == 1 || !index.starts_with('0'));
    let partition = PartitionIndex(canonical.then(|| index.parse().ok())??);
    Some(TopicPartition { topic: TopicName::new(topic).ok()?, partition })
}

/// The name the folder of a partition has that is not served yet or not any more; `suffix` says why.
pub(crate) fn unserved_folder(name: &TopicPartition, id: TopicId, suffix: &str) -> String {
    let suffix = format!(".{id}{suffix}");
    let mut folder = name.to_string();
    // File names are limited to 255 bytes; the id alone keeps the name unique.
    folder.truncate(255 - suffix.len());
    folder + &suffix
}

/// Kafka's two lines, and two that its tools do not look at: the journal position at which the folder was made, and a checksum of all
/// before. What the journal or a checkpoint says about this partition below that position was about an earlier folder.
pub(crate) fn partition_metadata(id: TopicId, created_position: u64) -> String {
    let mut text = format!("version: 0\ntopic_id: {id}\ncreated_position: {created_position}\n");
    let checksum = crc_fast::crc32_iscsi(text.as_bytes());
    let _ = writeln!(text, "checksum: {checksum:08x}");
    text
}

/// The topic id and the position of creation; `None` for anything but exactly what was written.
pub(crate) fn parse_partition_metadata(text: &str) -> Option<(TopicId, u64)> {
    let (id, created_position) = read_partition_metadata(text)?;
    (partition_metadata(id, created_position) == text).then_some((id, created_position))
}

fn read_partition_metadata(text: &str) -> Option<(TopicId, u64)> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "version: 0" {
        return None;
    }
    let id: TopicId = lines.next()?.strip_prefix("topic_id:")?.trim().parse().ok()?;
    let created_position = lines.next()?.strip_prefix("created_position:")?.trim().parse().ok()?;
    (!id.is_zero()).then_some((id, created_position))
}

/// Kafka's checkpoint format: version, number of entries, then one `epoch start-offset` a line.
pub(crate) fn epoch_checkpoint(epochs: &[EpochEntry]) -> String {
    let mut text = format!("0\n{}\n", epochs.len());
    for entry in epochs {
        let _ = writeln!(text, "{} {}", entry.epoch, entry.start_offset);
    }
    text
}

pub(crate) fn parse_epoch_checkpoint(text: &str) -> Option<EpochIndex> {
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let entries = lines.map(|line| {
        let (epoch, start) = line.split_once(' ')?;
        Some(EpochEntry {
            epoch: LeaderEpoch(epoch.parse().ok()?),
            start_offset: Offset(start.parse().ok()?),
        })
    });
    let entries = entries.collect::<Option<Vec<_>>>()?;
    (entries.len() == count).then(|| EpochIndex::restore(entries).ok())?
}

#[cfg(test)]
mod tests {
    use thalweg_types::Uuid;

    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_random_bits(number)
    }

    #[test]
    fn storage_meta_round_trips_and_a_changed_byte_is_noticed() {
        let meta = StorageMeta {
            cluster_id: Some(ClusterId(id(1))),
            node_id: Some(NodeId(7)),
            dir_id: DirId(id(2)),
        };
        let text = meta.to_text();
        assert_eq!(StorageMeta::from_text(&text), Some(meta));
        for at in 0..text.len() - 1 {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(StorageMeta::from_text(&damaged), None, "byte {at}");
            assert_eq!(StorageMeta::from_text(&text[..at]), None, "cut at {at}");
        }
        let fresh = StorageMeta { cluster_id: None, node_id: None, ..meta };
        assert_eq!(StorageMeta::from_text(&fresh.to_text()), Some(fresh));
    }

    #[test]
    fn folder_and_file_names_are_kafkas() {
        assert_eq!(file_name(Offset(42), "log"), "00000000000000000042.log");
        assert_eq!(parse_file_name("00000000000000000042.log", "log"), Some(Offset(42)));
        for wrong in ["42.log", "00000000000000000042.index", "0000000000000000004x.log", ".log"] {
            assert_eq!(parse_file_name(wrong, "log"), None, "{wrong}");
        }
        let folder = parse_folder("a-b.c-12").unwrap();
        assert_eq!((folder.topic.as_str(), folder.partition.0), ("a-b.c", 12));
        for wrong in [
            "orders",
            "orders-",
            "-1",
            "orders-01",
            "orders-1.x-new",
            "orders-1.x-delete",
            "orders-1.x-stray",
            "o-99999999999",
        ] {
            assert!(parse_folder(wrong).is_none(), "{wrong}");
        }
        let long = TopicPartition {
            topic: TopicName::new(&"x".repeat(249)).unwrap(),
            partition: PartitionIndex(1_000_000),
        };
        let deleted = unserved_folder(&long, TopicId(id(3)), DELETED_FOLDER_SUFFIX);
        assert!(deleted.len() <= 255 && deleted.ends_with("-delete"));
    }

    #[test]
    fn kafkas_small_files_round_trip() {
        let topic_id = TopicId(id(9));
        let text = partition_metadata(topic_id, 4711);
        assert_eq!(parse_partition_metadata(&text), Some((topic_id, 4711)));
        for cut in 0..text.len() {
            assert_eq!(parse_partition_metadata(&text[..cut]), None, "cut at {cut}");
            for bit in 0..7 {
                let mut damaged = text.clone().into_bytes();
                damaged[cut] ^= 1 << bit;
                let damaged = String::from_utf8(damaged).unwrap();
                assert_eq!(parse_partition_metadata(&damaged), None, "bit {bit} of byte {cut}");
            }
        }
        let entry =
            |epoch, start| EpochEntry { epoch: LeaderEpoch(epoch), start_offset: Offset(start) };
        let entries = vec![entry(0, 0), entry(3, 120)];
        let text = epoch_checkpoint(&entries);
        assert_eq!(text, "0\n2\n0 0\n3 120\n");
        assert_eq!(parse_epoch_checkpoint(&text).unwrap().entries(), entries);
        assert_eq!(parse_epoch_checkpoint("0\n2\n0 0\n"), None);
        assert_eq!(parse_epoch_checkpoint("0\n2\n3 120\n0 0\n"), None);
    }
}
