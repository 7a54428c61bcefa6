//! `thalweg produce`: lines to records, records to batches, batches down one stream.
//!
//! ```text
//!  reader thread ──chunks──► packer thread ──batches──► request stream ─ ─ ► server
//!    (read(2))               (split, encode,             (pipelined)
//!                             compress, CRC)             acknowledgements ◄─ ─ ┘
//! ```
//!
//! The batches are made here, in the log's own format, so that the server stores the very bytes it received. Everything between the
//! stages is bounded: a slow server slows the reader down. Batches are sent again until they are acknowledged or their time is up, and
//! stored once all the same.

mod delivery;
mod lines;
mod packer;
mod partitioner;
mod progress;

use std::path::Path;
use std::thread;
use std::time::Instant;

use serde_json::json;
use thalweg_proto::producer::v1 as proto;
use thalweg_proto::producer::v1::producer_client::ProducerClient;
use thalweg_types::{Acks, ErrorCode, PartitionIndex, ProducerEpoch, ProducerId};
use tokio::sync::mpsc;

use crate::cli::values::Bootstrap;
use crate::cli::{OutputFormat, Produce};
use crate::client::{Failure, Server, output, topic};
use delivery::{Delivery, Totals};
use packer::{Identity, Packer, Target};
use progress::Progress;

/// Finished batches that wait for the network. Beyond these the packer waits; the server holds its own share.
const BATCHES_AHEAD_MAX: usize = 8;

pub(crate) async fn run(bootstrap: &Bootstrap, arguments: Produce) -> Result<(), Failure> {
    if arguments.expected_offset.is_some() && arguments.acks == Acks::None {
        return Err(Failure::Usage(
            "--expected-offset needs answers, which --acks 0 does not wait for".to_owned(),
        ));
    }
    let server = Server::at(bootstrap)?;
    // Before anything is made on the server: a file that cannot be read is a mistake of the caller.
    let input = lines::Input::open(arguments.file.as_deref())?;
    let target = target(&server, &arguments).await?;
    let progress = Progress::new(input.size_bytes());
    let started = Instant::now();

    let (batches, to_send) = mpsc::channel(BATCHES_AHEAD_MAX);
    let identity = identity(&server, arguments.acks).await?;
    let packer = Packer::new(&arguments, target, identity, batches);
    let packing = thread::Builder::new()
        .name("packer".to_owned())
        .spawn(move || lines::read_all(input, packer))?;

    let (topic, acks) = (arguments.topic.clone(), arguments.acks);
    let limits = (arguments.delivery_timeout.0, arguments.expected_offset);
    let delivery = Delivery::new(&server, topic, acks, limits, to_send, &progress);
    let sent = delivery.run().await;
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

/// An identity under which repeated batches are known; none where nobody waits for answers.
async fn identity(server: &Server, acks: Acks) -> Result<Option<Identity>, Failure> {
    if acks == Acks::None {
        return Ok(None);
    }
    let request = proto::InitProducerRequest {};
    let response = ProducerClient::new(server.channel())
        .init_producer(request)
        .await
        .map_err(|status| server.failed(status))?;
    let proto::InitProducerResponse { producer_id, producer_epoch } = response.into_inner();
    let epoch = i16::try_from(producer_epoch)
        .map_err(|_| Failure::Protocol(format!("producer epoch {producer_epoch}")))?;
    Ok(Some(Identity { id: ProducerId(producer_id), epoch: ProducerEpoch(epoch) }))
}

fn report(arguments: &Produce, totals: &Totals, started: Instant) -> Result<(), Failure> {
    let elapsed = started.elapsed();
    let Totals { records, input_bytes, batches, retries } = *totals;
    match arguments.output {
        OutputFormat::Json => {
            let facts = json!({
                "topic": arguments.topic.as_str(),
                "records": records,
                "bytes": input_bytes,
                "batches": batches,
                "retries": retries,
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
