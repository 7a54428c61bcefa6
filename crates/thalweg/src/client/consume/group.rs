//! Reading as a member of a group: what was written out is acknowledged, and nothing else.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use thalweg_proto::consumer::v1 as proto;
use thalweg_proto::consumer::v1::consumer_client::ConsumerClient;
use thalweg_record::{BatchError, Batches, DecompressLimits, records, verify_crc};
use thalweg_types::Offset;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::render::Renderer;
use super::{CREDIT_BYTES, MESSAGE_BYTES};
use crate::cli::Consume;
use crate::cli::values::StartAt;
use crate::client::{Failure, Server};
use proto::subscribe_request::Message as Asked;
use proto::subscribe_response::Message as Told;

/// What the group calls us.
const CLIENT_ID: &str = "thalweg-consume";

/// Requests on their way: an acknowledgement and a grant for each message.
const REQUESTS_AHEAD_MAX: usize = 16;

/// Output gathered before it is written.
const BUFFER_BYTES: usize = 1024 * 1024;

pub(super) async fn run(server: &Server, arguments: &Consume, group: &str) -> Result<(), Failure> {
    let start = start(arguments, group)?;
    let (requests, sent) = mpsc::channel(REQUESTS_AHEAD_MAX);
    let mut client = ConsumerClient::new(server.channel())
        .max_decoding_message_size(thalweg_rpc::MESSAGE_BYTES_MAX);
    ask(&requests, Asked::Start(start)).await;
    let response = client
        .subscribe(ReceiverStream::new(sent))
        .await
        .map_err(|status| server.failed(status))?;
    let mut stream = response.into_inner();
    let mut writer = GroupWriter {
        renderer: Renderer::new(arguments),
        out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()),
        next: BTreeMap::new(),
        left: arguments.count,
    };
    writer.renderer.begin(&mut writer.out)?;
    while writer.left != Some(0) {
        let message = tokio::select! {
            message = stream.message() => message.map_err(|status| server.failed(status))?,
            interrupt = tokio::signal::ctrl_c() => { interrupt?; break }
        };
        let Some(message) = message else {
            return Err(Failure::Protocol("the stream ended by itself".to_owned()));
        };
        match message.message {
            Some(Told::Assigned(assigned)) => writer.begin_at(assigned),
            Some(Told::Records(records)) => {
                // Whoever reads our output may be slow; the runtime is told.
                let ack = tokio::task::block_in_place(|| writer.write(&records))?;
                ask(&requests, Asked::Ack(ack)).await;
                ask(&requests, Asked::CreditBytes(records.charged_bytes.max(1))).await;
            }
            Some(Told::Committed(committed)) => tell_refusals(committed),
            Some(Told::Joined(_) | Told::Revoking(_) | Told::Gone(_)) | None => {}
        }
    }
    // The server commits what is acknowledged and lets the member leave before it ends the stream.
    drop(requests);
    while stream.message().await.map_err(|status| server.failed(status))?.is_some() {}
    Ok(())
}

fn start(arguments: &Consume, group: &str) -> Result<proto::SubscribeStart, Failure> {
    let offset_reset = match arguments.from {
        StartAt::Earliest => proto::OffsetReset::Earliest,
        StartAt::Latest => proto::OffsetReset::Latest,
        StartAt::Offset(_) | StartAt::Timestamp(_) => {
            let message = "a group goes on where it has committed; --from can only be earliest or latest, for where it has \
                           not. To move it: thalweg group reset";
            return Err(Failure::Usage(message.to_owned()));
        }
    };
    Ok(proto::SubscribeStart {
        group_id: group.to_owned(),
        topics: vec![arguments.topic.to_string()],
        client_id: CLIENT_ID.to_owned(),
        offset_reset: offset_reset.into(),
        max_bytes: MESSAGE_BYTES,
        credit_bytes: CREDIT_BYTES,
        format: proto::FetchFormat::Batches.into(),
        ..Default::default()
    })
}

/// Fails only when the stream has ended, which is noticed where it is read.
async fn ask(requests: &mpsc::Sender<proto::SubscribeRequest>, message: Asked) {
    let _ = requests.send(proto::SubscribeRequest { message: Some(message) }).await;
}

fn tell_refusals(committed: proto::SubscribeCommitted) {
    for one in committed.partitions {
        if let Some(error) = one.error {
            let error = thalweg_rpc::Error::from_detail(error);
            eprintln!("thalweg: {}-{} was not committed: {error}", one.topic, one.partition);
        }
    }
}

struct GroupWriter {
    renderer: Renderer,
    out: BufWriter<io::Stdout>,
    /// Where each partition goes on: batches may begin before.
    next: BTreeMap<i32, Offset>,
    /// Records still to be written; `None` sets no bound.
    left: Option<u64>,
}

impl GroupWriter {
    fn begin_at(&mut self, assigned: proto::PartitionsAssigned) {
        for one in assigned.partitions {
            self.next.insert(one.partition, Offset(one.offset));
        }
    }

    /// Writes records, and says up to where everything is written and out of our hands.
    fn write(
        &mut self,
        message: &proto::SubscribeRecords,
    ) -> Result<proto::PartitionPositions, Failure> {
        let mut written = Vec::with_capacity(message.partitions.len());
        for fetched in &message.partitions {
            let mut next = self.next.get(&fetched.partition).copied().unwrap_or(Offset::ZERO);
            let is_whole = self.write_partition(fetched, &mut next)?;
            if is_whole {
                next = next.max(Offset(fetched.next_offset));
            }
            self.next.insert(fetched.partition, next);
            written.push(proto::PartitionPosition {
                topic: fetched.topic.clone(),
                partition: fetched.partition,
                offset: next.0,
            });
        }
        self.out.flush()?;
        Ok(proto::PartitionPositions { partitions: written })
    }

    /// Whether all of it was written; it is not when there were enough records before.
    fn write_partition(
        &mut self,
        fetched: &proto::FetchedPartition,
        next: &mut Offset,
    ) -> Result<bool, Failure> {
        let partition = fetched.partition;
        let unreadable = |error: BatchError| {
            Failure::Records(format!("partition {partition}: unreadable batch: {error}"))
        };
        for bytes in &fetched.batches {
            for batch in Batches::new(bytes) {
                let (header, batch) = batch.map_err(unreadable)?;
                verify_crc(batch, &header).map_err(unreadable)?;
                if header.attributes.is_control() {
                    continue;
                }
                let decoded = records(batch, &DecompressLimits::default()).map_err(unreadable)?;
                for record in &decoded {
                    let record = record.map_err(unreadable)?;
                    if record.offset < *next {
                        continue;
                    }
                    if self.left == Some(0) {
                        return Ok(false);
                    }
                    self.renderer.record(&mut self.out, partition, &record)?;
                    *next = record.offset.checked_add(1).unwrap_or(record.offset);
                    self.left = self.left.map(|left| left - 1);
                }
            }
        }
        Ok(true)
    }
}
