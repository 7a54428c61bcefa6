//! `thalweg log dump`: every batch of a segment or a partition's folder, a line each.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;
use thalweg_env::fs::RealFs;
use thalweg_record::{BatchHeader, DecompressLimits, records};
use thalweg_storage::inspect::{self, BadBytes, Piece, SegmentScan, StoredBatch, Target};
use thalweg_types::{Offset, TimestampType};

use super::{Failure, Verdict, flush, output, target};
use crate::cli::{LogDump, OutputFormat};
use crate::client::consume::render::{Facts, shortened, text, time};

pub(super) fn run(arguments: &LogDump) -> Result<Verdict, Failure> {
    let path = &arguments.path;
    let expected = "neither a partition's folder nor a segment (00000000000000000000.log)";
    let (folder, bases) = match target(path, expected)? {
        Target::Segment { folder, base_offset } => (folder, vec![base_offset]),
        Target::Folder(folder) => {
            let bases = inspect::segments(&RealFs, &folder).map_err(Failure::read(&folder))?;
            (folder, bases)
        }
        Target::LogDir(_) => return Err(Failure::Unknown { path: path.clone(), expected }),
    };
    let name = inspect::partition_of(&folder);
    let mut dump = Dump {
        out: output(),
        format: arguments.output.format,
        with_records: arguments.records,
        topic: name.as_ref().map_or(String::new(), |name| name.topic.to_string()),
        partition: name.map_or(-1, |name| name.partition.0),
        verdict: Verdict::Sound,
    };
    dump.heading().map_err(Failure::Write)?;
    for base_offset in bases {
        dump.segment(&folder, base_offset)?;
    }
    flush(dump.out)?;
    Ok(dump.verdict)
}

/// A dump under way.
struct Dump<W> {
    out: W,
    format: OutputFormat,
    with_records: bool,
    /// Empty when the folder's name does not tell.
    topic: String,
    partition: i32,
    verdict: Verdict,
}

impl<W: Write> Dump<W> {
    fn heading(&mut self) -> io::Result<()> {
        if self.format == OutputFormat::Json {
            return Ok(());
        }
        writeln!(
            self.out,
            "{:>12}  {:>10}  {:>9}  {:>12}  {:>12}  {:>7}  {:>5}  {:<24}  {:<6}  {:<16}  {:<11}  CRC",
            "SEGMENT",
            "POSITION",
            "BYTES",
            "FIRST OFFSET",
            "LAST OFFSET",
            "RECORDS",
            "EPOCH",
            "NEWEST",
            "CODEC",
            "PRODUCER",
            "FLAGS"
        )
    }

    fn segment(&mut self, folder: &Path, base_offset: Offset) -> Result<(), Failure> {
        let mut scan = match SegmentScan::open(&RealFs, folder, base_offset) {
            // Retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            scan => scan.map_err(Failure::read(folder))?,
        };
        while let Some(piece) = scan.next_piece().map_err(Failure::read(scan.path()))? {
            match piece {
                Piece::Batch(batch) => self.batch(base_offset, &batch),
                Piece::Bad(bad) => self.bad(base_offset, &bad),
            }
            .map_err(Failure::Write)?;
        }
        Ok(())
    }

    fn batch(&mut self, segment: Offset, batch: &StoredBatch) -> io::Result<()> {
        if batch.crc.is_err() {
            self.verdict = Verdict::Damaged;
        }
        match self.format {
            OutputFormat::Json => {
                serde_json::to_writer(&mut self.out, &facts(segment, batch))?;
                writeln!(self.out)?;
            }
            OutputFormat::Table => self.row(segment, batch)?,
        }
        if self.with_records && batch.crc.is_ok() { self.records(batch) } else { Ok(()) }
    }

    fn row(&mut self, segment: Offset, batch: &StoredBatch) -> io::Result<()> {
        let header = &batch.header;
        writeln!(
            self.out,
            "{:>12}  {:>10}  {:>9}  {:>12}  {:>12}  {:>7}  {:>5}  {:<24}  {:<6}  {:<16}  {:<11}  {}",
            segment,
            batch.position,
            batch.bytes.len(),
            header.base_offset,
            header.last_offset(),
            header.record_count,
            header.leader_epoch,
            time(header.max_timestamp),
            codec(header),
            producer(header),
            flags(header).join(","),
            if batch.crc.is_ok() { "ok" } else { "BAD" },
        )
    }

    fn bad(&mut self, segment: Offset, bad: &BadBytes) -> io::Result<()> {
        self.verdict = Verdict::Damaged;
        let reason = bad.reason.to_string();
        match self.format {
            OutputFormat::Json => {
                let facts = json!({
                    "segment": segment.0, "position": bad.position, "size_bytes": bad.bytes, "damage": reason,
                });
                serde_json::to_writer(&mut self.out, &facts)?;
                writeln!(self.out)
            }
            OutputFormat::Table => writeln!(
                self.out,
                "{segment:>12}  {:>10}  {:>9}  no batch: {reason}",
                bad.position, bad.bytes
            ),
        }
    }

    fn records(&mut self, batch: &StoredBatch) -> io::Result<()> {
        let decoded = match records(&batch.bytes, &DecompressLimits::default()) {
            Ok(decoded) => decoded,
            Err(error) => return self.unreadable(&error.to_string()),
        };
        for record in &decoded {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.unreadable(&error.to_string()),
            };
            match self.format {
                OutputFormat::Json => {
                    let (topic, partition) = (&*self.topic, self.partition);
                    let facts = Facts { topic, partition, record: &record };
                    serde_json::to_writer(&mut self.out, &facts)?;
                    writeln!(self.out)?;
                }
                OutputFormat::Table => writeln!(
                    self.out,
                    "{:>12}  offset {}  {}  key {}  value {}",
                    "|",
                    record.offset,
                    time(record.timestamp),
                    shortened(&text(record.key)),
                    text(record.value)
                )?,
            }
        }
        Ok(())
    }

    /// A batch with a right checksum whose records cannot be read: it was stored so.
    fn unreadable(&mut self, reason: &str) -> io::Result<()> {
        self.verdict = Verdict::Damaged;
        match self.format {
            OutputFormat::Json => {
                serde_json::to_writer(&mut self.out, &json!({ "unreadable_records": reason }))?;
                writeln!(self.out)
            }
            OutputFormat::Table => writeln!(self.out, "{:>12}  no records: {reason}", "|"),
        }
    }
}

fn facts(segment: Offset, batch: &StoredBatch) -> serde_json::Value {
    let header = &batch.header;
    let producer = header.has_producer().then(|| {
        json!({
            "id": header.producer_id.0, "epoch": header.producer_epoch.0,
            "first_sequence": header.base_sequence.0, "last_sequence": header.last_sequence().0,
        })
    });
    json!({
        "segment": segment.0,
        "position": batch.position,
        "size_bytes": batch.bytes.len(),
        "base_offset": header.base_offset.0,
        "last_offset": header.last_offset().0,
        "record_count": header.record_count,
        "leader_epoch": header.leader_epoch.0,
        "base_timestamp_ms": header.base_timestamp.0,
        "max_timestamp_ms": header.max_timestamp.0,
        "timestamp_type": match header.attributes.timestamp_type() {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        },
        "codec": codec(header),
        "producer": producer,
        "flags": flags(header),
        "crc": format!("{:08x}", header.crc),
        "crc_ok": batch.crc.is_ok(),
    })
}

fn codec(header: &BatchHeader) -> String {
    let attributes = header.attributes;
    attributes.compression().map_or_else(|| attributes.codec().to_string(), |c| c.to_string())
}

/// `id/epoch/first sequence`
fn producer(header: &BatchHeader) -> String {
    if !header.has_producer() {
        return "-".to_owned();
    }
    let (id, epoch) = (header.producer_id.0, header.producer_epoch.0);
    format!("{id}/{epoch}/{}", header.base_sequence.0)
}

fn flags(header: &BatchHeader) -> Vec<&'static str> {
    let attributes = header.attributes;
    let flags = [
        (attributes.is_transactional(), "transaction"),
        (attributes.is_control(), "control"),
        (attributes.has_delete_horizon(), "horizon"),
        (attributes.timestamp_type() == TimestampType::LogAppendTime, "append-time"),
    ];
    flags.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect()
}
