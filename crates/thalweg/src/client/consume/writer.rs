//! Takes fetched batches apart and writes their records.

use std::io::{self, BufWriter, Write};

use thalweg_proto::consumer::v1 as proto;
use thalweg_record::{BatchHeader, Batches, DecompressLimits, records, verify_crc};
use thalweg_types::Offset;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::client::Failure;
use crate::client::consume::plan::Plan;
use crate::client::consume::render::Renderer;

/// Output gathered before it is written.
const BUFFER_BYTES: usize = 1024 * 1024;

/// The writing side of a consume.
#[derive(Debug)]
pub(super) struct Writer {
    plan: Plan,
    renderer: Renderer,
    /// Records still to be written; `None` sets no bound.
    left: Option<u64>,
    grants: mpsc::UnboundedSender<u64>,
}

impl Writer {
    pub(super) fn new(
        plan: Plan,
        renderer: Renderer,
        count: Option<u64>,
        grants: mpsc::UnboundedSender<u64>,
    ) -> Self {
        Self { plan, renderer, left: count, grants }
    }

    /// Writes until everything planned is written (`true`) or no more messages come (`false`).
    pub(super) fn run(
        self,
        messages: mpsc::Receiver<proto::FetchStreamResponse>,
    ) -> Result<bool, Failure> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        let outcome = self.write_all(messages, &mut out);
        out.flush()?;
        outcome
    }

    fn write_all(
        mut self,
        mut messages: mpsc::Receiver<proto::FetchStreamResponse>,
        out: &mut impl Write,
    ) -> Result<bool, Failure> {
        self.renderer.begin(out)?;
        while let Some(message) = next(&mut messages, out)? {
            for partition in &message.partitions {
                self.write_partition(partition, out)?;
                if self.is_done() {
                    return Ok(true);
                }
            }
            // The receiver may be gone because the stream has ended; what has come is still written.
            let _ = self.grants.send(message.charged_bytes);
        }
        Ok(false)
    }

    fn is_done(&self) -> bool {
        self.left == Some(0) || self.plan.is_done()
    }

    fn write_partition(
        &mut self,
        fetched: &proto::FetchedPartition,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let partition = fetched.partition;
        if self.plan.is_partition_done(partition) {
            return Ok(());
        }
        if let Some(error) = &fetched.error {
            return Err(Failure::refused(format!("partition {partition}"), error.clone()));
        }
        for bytes in &fetched.batches {
            for batch in Batches::new(bytes) {
                let unreadable = |error: thalweg_record::BatchError| {
                    Failure::Records(format!("partition {partition}: unreadable batch: {error}"))
                };
                let (header, batch) = batch.map_err(unreadable)?;
                self.write_batch(partition, &header, batch, out, unreadable)?;
                if self.left == Some(0) {
                    return Ok(());
                }
            }
        }
        self.plan.advance(partition, Offset(fetched.next_offset));
        Ok(())
    }

    fn write_batch(
        &mut self,
        partition: i32,
        header: &BatchHeader,
        batch: &[u8],
        out: &mut impl Write,
        unreadable: impl Fn(thalweg_record::BatchError) -> Failure,
    ) -> Result<(), Failure> {
        verify_crc(batch, header).map_err(&unreadable)?;
        // Control batches mark the ends of transactions; they are no records of anybody's.
        if !header.attributes.is_control() {
            let decoded = records(batch, &DecompressLimits::default()).map_err(&unreadable)?;
            for record in &decoded {
                let record = record.map_err(&unreadable)?;
                if !self.plan.wants(partition, record.offset) {
                    continue;
                }
                self.renderer.record(out, partition, &record)?;
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        return Ok(());
                    }
                }
            }
        }
        self.plan.advance(partition, header.next_offset());
        Ok(())
    }
}

/// The next message; what is written so far goes out before a wait.
fn next(
    messages: &mut mpsc::Receiver<proto::FetchStreamResponse>,
    out: &mut impl Write,
) -> io::Result<Option<proto::FetchStreamResponse>> {
    match messages.try_recv() {
        Ok(message) => Ok(Some(message)),
        Err(TryRecvError::Disconnected) => Ok(None),
        Err(TryRecvError::Empty) => {
            out.flush()?;
            Ok(messages.blocking_recv())
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use thalweg_record::{BatchBuilder, stamp};
    use thalweg_types::{CompressionType, LeaderEpoch, Timestamp};

    use super::*;

    fn batch(base: i64, values: &[&str], compression: CompressionType) -> Bytes {
        let mut builder = BatchBuilder::new(compression);
        for value in values {
            builder.push(Timestamp(0), None, Some(value.as_bytes()), &[]).unwrap();
        }
        let mut batch = builder.finish().unwrap();
        stamp(&mut batch, Offset(base), LeaderEpoch(0));
        batch.freeze()
    }

    fn fetched(partition: i32, batches: Vec<Bytes>, next: i64) -> proto::FetchedPartition {
        proto::FetchedPartition { partition, batches, next_offset: next, ..Default::default() }
    }

    fn write(
        plan: Plan,
        count: Option<u64>,
        partitions: Vec<proto::FetchedPartition>,
    ) -> (Result<bool, Failure>, String) {
        let raw = Renderer::Raw { key_separator: None, delimiter: b",".to_vec() };
        let (grants, _granted) = mpsc::unbounded_channel();
        let (sender, receiver) = mpsc::channel(8);
        sender
            .try_send(proto::FetchStreamResponse { partitions, charged_bytes: 1 })
            .expect("room for one");
        drop(sender);
        let mut out = Vec::new();
        let outcome = Writer::new(plan, raw, count, grants).write_all(receiver, &mut out);
        (outcome, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn records_outside_the_plan_are_left_out_although_their_batch_came_whole() {
        let plan = Plan::of("t", &[(0, 11, Some(14))]);
        let batches = vec![
            batch(10, &["a", "b"], CompressionType::None),
            batch(12, &["c", "d", "e"], CompressionType::Zstd),
        ];
        let (outcome, written) = write(plan, None, vec![fetched(0, batches, 15)]);
        assert!(outcome.unwrap());
        assert_eq!(written, "b,c,d,");
    }

    #[test]
    fn several_batches_may_lie_in_one_piece_of_bytes() {
        let mut piece = batch(0, &["a"], CompressionType::Lz4).to_vec();
        piece.extend_from_slice(&batch(1, &["b"], CompressionType::None));
        let plan = Plan::of("t", &[(0, 0, Some(2)), (1, 5, Some(6))]);
        let (outcome, written) = write(plan, None, vec![fetched(0, vec![piece.into()], 2)]);
        assert!(!outcome.unwrap(), "partition 1 is still open");
        assert_eq!(written, "a,b,");
    }

    #[test]
    fn writing_ends_at_the_count() {
        let plan = Plan::of("t", &[(0, 0, None)]);
        let batches = vec![batch(0, &["a", "b", "c"], CompressionType::None)];
        let (outcome, written) = write(plan, Some(2), vec![fetched(0, batches, 3)]);
        assert!(outcome.unwrap());
        assert_eq!(written, "a,b,");
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut bytes = batch(0, &["abc"], CompressionType::None).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let plan = Plan::of("t", &[(0, 0, None)]);
        let (outcome, _) = write(plan, None, vec![fetched(0, vec![bytes.into()], 1)]);
        assert!(matches!(outcome, Err(Failure::Records(_))));
    }

    #[test]
    fn an_error_of_an_open_partition_ends_the_reading_and_that_of_a_finished_one_does_not() {
        let detail =
            thalweg_rpc::Error::from(thalweg_types::ErrorCode::OffsetOutOfRange).to_detail();
        let failed = |partition| proto::FetchedPartition {
            partition,
            error: Some(detail.clone()),
            ..Default::default()
        };
        let plan = Plan::of("t", &[(0, 3, Some(3)), (1, 0, Some(1))]);
        let (outcome, _) = write(plan.clone(), None, vec![failed(0)]);
        assert!(!outcome.unwrap());
        let (outcome, _) = write(plan, None, vec![failed(1)]);
        assert!(matches!(outcome, Err(Failure::Refused { .. })));
    }
}
