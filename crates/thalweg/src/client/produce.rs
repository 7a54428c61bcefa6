//! `thalweg produce`: lines to records, records to batches, batches down one stream.
//!
//! ```text
//!  reader thread ──chunks──► packer thread ──batches──► request stream ─ ─ ► server
//!    (read(2))               (split, encode,             (pipelined)
//!                             compress, CRC)             acknowledgements ◄─ ─ ┘
//! ```
//!
//! The batches are made here, in the log's own format, so that the server stores the very bytes it received. Everything between the
//! stages is bounded: a slow server slows the reader down.

mod lines;
mod packer;
mod partitioner;
mod progress;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use futures_util::StreamExt as _;
use serde_json::json;
use thalweg_proto::producer::v1 as proto;
use thalweg_proto::producer::v1::producer_client::ProducerClient;
use thalweg_types::{Acks, ErrorCode, PartitionIndex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::values::Bootstrap;
use crate::cli::{OutputFormat, Produce};
use crate::client::{Failure, Server, output, topic};
use packer::{Packed, Packer, Target};
use progress::Progress;

/// Finished batches that wait for the network. Beyond these the packer waits; the server holds its own share.
const BATCHES_AHEAD_MAX: usize = 8;

/// What was sent and not yet acknowledged, oldest first: answers come in the order of the requests.
type Unanswered = Arc<Mutex<VecDeque<Sent>>>;

/// One request on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    partition: PartitionIndex,
    records: u64,
    /// Of the input, newlines included.
    input_bytes: u64,
}

/// What has been acknowledged.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    records: u64,
    input_bytes: u64,
    batches: u64,
}

pub(crate) async fn run(bootstrap: &Bootstrap, arguments: Produce) -> Result<(), Failure> {
    let server = Server::at(bootstrap)?;
    // Before anything is made on the server: a file that cannot be read is a mistake of the caller.
    let input = lines::Input::open(arguments.file.as_deref())?;
    let target = target(&server, &arguments).await?;
    let progress = Progress::new(input.size_bytes());
    let started = Instant::now();

    let (batches, to_send) = mpsc::channel(BATCHES_AHEAD_MAX);
    let packer = Packer::new(&arguments, target, batches);
    let packing = thread::Builder::new()
        .name("packer".to_owned())
        .spawn(move || lines::read_all(input, packer))?;

    let sent = send(&server, &arguments, to_send, &progress).await;
    progress.finish();
    let totals = match sent {
        Ok(totals) => totals,
        // The packer may sit in a read of standard input; it is not waited for.
        Err((failure, totals)) => {
            report_partial(&totals);
            return Err(failure);
        }
    };
    let packed = packing.join().map_err(|_| Failure::Protocol("the packer panicked".to_owned()))?;
    report(&arguments, &totals, started)?;
    packed.map_err(|error| named(error, arguments.file.as_deref()))
}

/// Where records go; waits for leaders, and makes the topic when asked to.
async fn target(server: &Server, arguments: &Produce) -> Result<Target, Failure> {
    let name = arguments.topic.as_str();
    let described = match server.describe_led_topic(name).await {
        Err(failure)
            if arguments.create_topic && failure.is(ErrorCode::UnknownTopicOrPartition) =>
        {
            let new = topic::new_topic(&arguments.topic, None, None, Vec::new());
            topic::create_one(server, new, true).await?;
            server.describe_led_topic(name).await?
        }
        other => other?,
    };
    let partitions = described.partitions.len();
    match arguments.partition {
        None if partitions == 0 => {
            Err(Failure::Protocol(format!("topic {name} has no partitions")))
        }
        None => Ok(Target::Spread { partitions }),
        Some(partition) if usize::try_from(partition).is_ok_and(|p| p < partitions) => {
            Ok(Target::One(PartitionIndex(partition)))
        }
        Some(partition) => Err(Failure::Usage(format!(
            "topic {name} has no partition {partition}; it has {partitions}, numbered from 0"
        ))),
    }
}

/// Sends every batch and waits for every answer. A failure comes with what was acknowledged before it.
async fn send(
    server: &Server,
    arguments: &Produce,
    batches: mpsc::Receiver<Packed>,
    progress: &Progress,
) -> Result<Totals, (Failure, Totals)> {
    let unanswered = Unanswered::default();
    let requests = requests(arguments, batches, Arc::clone(&unanswered));
    let mut client = ProducerClient::new(server.channel())
        .max_decoding_message_size(thalweg_rpc::MESSAGE_BYTES_MAX);
    let mut totals = Totals::default();
    let mut answers = match client.produce_stream(requests).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Err((server.failed(status), totals)),
    };
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => break,
            Err(status) => return Err((server.failed(status), totals)),
        };
        let sent = unanswered.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(sent) = sent else {
            let failure = Failure::Protocol("more answers than requests".to_owned());
            return Err((failure, totals));
        };
        if let Err(failure) = check(answer, sent) {
            return Err((failure, totals));
        }
        totals.records += sent.records;
        totals.input_bytes += sent.input_bytes;
        totals.batches += 1;
        progress.at(totals.input_bytes);
    }
    let left = unanswered.lock().unwrap_or_else(PoisonError::into_inner).len();
    if left > 0 {
        let failure = Failure::Protocol(format!("the stream ended with {left} requests open"));
        return Err((failure, totals));
    }
    Ok(totals)
}

fn requests(
    arguments: &Produce,
    batches: mpsc::Receiver<Packed>,
    unanswered: Unanswered,
) -> impl futures_util::Stream<Item = proto::ProduceRequest> + Send + 'static {
    let topic = arguments.topic.to_string();
    let acks = match arguments.acks {
        Acks::None => proto::Acks::None,
        Acks::Leader => proto::Acks::Leader,
        Acks::All => proto::Acks::All,
    };
    ReceiverStream::new(batches).map(move |packed| {
        unanswered.lock().unwrap_or_else(PoisonError::into_inner).push_back(Sent {
            partition: packed.partition,
            records: packed.records,
            input_bytes: packed.input_bytes,
        });
        proto::ProduceRequest {
            topic: topic.clone(),
            partition: Some(packed.partition.0),
            acks: acks.into(),
            payload: Some(proto::produce_request::Payload::Batch(packed.batch)),
            ..Default::default()
        }
    })
}

/// An error in an answer, be it about the request or about its one partition.
fn check(answer: proto::ProduceStreamResponse, sent: Sent) -> Result<(), Failure> {
    use proto::produce_stream_response::Result as Outcome;
    let what = format!("partition {}", sent.partition);
    match answer.result {
        Some(Outcome::Produced(produced)) => {
            match produced.partitions.into_iter().find_map(|partition| partition.error) {
                Some(error) => Err(Failure::refused(what, error)),
                None => Ok(()),
            }
        }
        Some(Outcome::Error(error)) => Err(Failure::refused(what, error)),
        None => Err(Failure::Protocol("an answer without a result".to_owned())),
    }
}

fn report(arguments: &Produce, totals: &Totals, started: Instant) -> Result<(), Failure> {
    let elapsed = started.elapsed();
    let Totals { records, input_bytes, batches } = *totals;
    match arguments.output {
        OutputFormat::Json => {
            let facts = json!({
                "topic": arguments.topic.as_str(),
                "records": records,
                "bytes": input_bytes,
                "batches": batches,
                "seconds": elapsed.as_secs_f64(),
            });
            Ok(output::write_json(&facts)?)
        }
        OutputFormat::Table => {
            eprintln!(
                "{records} records, {} in {:.2} s: {}/s, {} records/s, {batches} batches to {}",
                output::bytes(input_bytes),
                elapsed.as_secs_f64(),
                output::bytes(output::rate(input_bytes, elapsed)),
                output::count(output::rate(records, elapsed)),
                arguments.topic,
            );
            Ok(())
        }
    }
}

fn report_partial(totals: &Totals) {
    eprintln!(
        "thalweg: {} records were acknowledged before the failure, the first {} of the input",
        totals.records,
        output::bytes(totals.input_bytes)
    );
}

/// An I/O error of the input, told with the file's name.
fn named(failure: Failure, file: Option<&Path>) -> Failure {
    match failure {
        Failure::Io(source) => {
            let path = file.map(|path| path.display().to_string());
            Failure::File { path: path.unwrap_or_else(|| "standard input".to_owned()), source }
        }
        other => other,
    }
}
