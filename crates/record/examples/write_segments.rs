//! Writes one segment file per codec into a directory, for other implementations to read:
//! `cargo run -p thalweg-record --example write_segments -- DIR`, then for instance Apache Kafka's
//! `kafka-dump-log.sh --deep-iteration --print-data-log --files DIR/lz4/00000000000000000000.log`.

use std::error::Error;
use std::path::Path;

use thalweg_record::{BatchBuilder, BatchHeader, RecordHeader, stamp};
use thalweg_types::{
    CompressionType, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: write_segments DIR")?;
    for code in 0..=4 {
        let codec = CompressionType::from_code(code).ok_or("five codecs are assigned")?;
        let folder = Path::new(&directory).join(codec.to_string());
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("00000000000000000000.log"), segment(codec)?)?;
    }
    Ok(())
}

/// Three batches of an idempotent producer; the last one is larger than a block of any codec.
fn segment(codec: CompressionType) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut segment = Vec::new();
    let mut next = 0;
    for batch_number in 0..3 {
        let repeat = if batch_number == 2 { 20_000 } else { 20 };
        let mut builder =
            BatchBuilder::new(codec).producer(ProducerId(42), ProducerEpoch(0), Sequence(next));
        for i in next..next + 4 {
            let (key, value) = (format!("key-{i}"), format!("value {i} ").repeat(repeat));
            builder.push(
                Timestamp(1_700_000_000_000 + i64::from(i)),
                (i % 3 != 2).then_some(key.as_bytes()),
                (i != 3).then_some(value.as_bytes()),
                &[RecordHeader { key: b"trace", value: None }],
            )?;
        }
        let mut batch = builder.finish()?;
        stamp(&mut batch, Offset(i64::from(next)), LeaderEpoch(1));
        next = i32::try_from(BatchHeader::parse(&batch)?.next_offset().0)?;
        segment.extend_from_slice(&batch);
    }
    Ok(segment)
}
