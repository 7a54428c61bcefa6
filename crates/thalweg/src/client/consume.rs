//! `thalweg consume`: one stream of ready-made batches, decoded here.
//!
//! The server pushes batches as they lie in the log, within the credit granted to it; a writer thread takes them apart, writes the
//! records to standard output and grants anew what it has worked off. A slow reader of our output therefore stops the server, not
//! this process's memory.

mod group;
mod plan;
pub(crate) mod render;
mod writer;

use std::thread;

use futures_util::StreamExt as _;
use thalweg_proto::consumer::v1 as proto;
use thalweg_proto::consumer::v1::consumer_client::ConsumerClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::cli::Consume;
use crate::cli::values::Bootstrap;
use crate::client::{Failure, Server};
use plan::Plan;
use render::Renderer;
use writer::Writer;

/// Bytes the server may have on the way to us.
const CREDIT_BYTES: u64 = 64 * 1024 * 1024;

/// Most bytes in one message; a larger batch comes alone.
const MESSAGE_BYTES: u32 = 4 * 1024 * 1024;

/// Messages between the network and the writer.
const MESSAGES_AHEAD_MAX: usize = 4;

pub(crate) async fn run(bootstrap: &Bootstrap, arguments: Consume) -> Result<(), Failure> {
    let server = Server::at(bootstrap)?;
    if let Some(group) = &arguments.group {
        return group::run(&server, &arguments, group).await;
    }
    let plan = Plan::make(&server, &arguments).await?;
    let renderer = Renderer::new(&arguments);
    if plan.is_done() || arguments.count == Some(0) {
        return Ok(());
    }
    let mut start = start(&plan);
    start.rack = arguments.rack.clone().unwrap_or_default();
    let (grants, granted) = mpsc::unbounded_channel();
    let (messages, to_write) = mpsc::channel(MESSAGES_AHEAD_MAX);
    let writer = Writer::new(plan, renderer, arguments.count, grants);
    let writing =
        thread::Builder::new().name("writer".to_owned()).spawn(move || writer.run(to_write))?;

    let received = receive(&server, start, granted, messages).await;
    let written =
        writing.join().map_err(|_| Failure::Protocol("the writer panicked".to_owned()))?;
    // The writer's end is the better story: a stream also ends because the writer had enough.
    match written {
        Ok(true) => Ok(()),
        Ok(false) => received.and_then(|()| {
            Err(Failure::Protocol("the stream ended before the records did".to_owned()))
        }),
        Err(failure) => Err(failure),
    }
}

/// Hands messages on until the writer has enough, the stream ends or fails.
async fn receive(
    server: &Server,
    start: proto::FetchStreamStart,
    granted: mpsc::UnboundedReceiver<u64>,
    messages: mpsc::Sender<proto::FetchStreamResponse>,
) -> Result<(), Failure> {
    use proto::fetch_stream_request::Message;
    let request = |message| proto::FetchStreamRequest { message: Some(message) };
    let requests = tokio_stream::once(request(Message::Start(start))).chain(
        UnboundedReceiverStream::new(granted)
            .map(move |bytes| request(Message::CreditBytes(bytes))),
    );
    let mut client = ConsumerClient::new(server.channel())
        .max_decoding_message_size(thalweg_rpc::MESSAGE_BYTES_MAX);
    let response = client.fetch_stream(requests).await.map_err(|status| server.failed(status))?;
    let mut stream = response.into_inner();
    loop {
        let message = tokio::select! {
            () = messages.closed() => return Ok(()),
            message = stream.message() => message.map_err(|status| server.failed(status))?,
        };
        let Some(message) = message else { return Ok(()) };
        if messages.send(message).await.is_err() {
            return Ok(());
        }
    }
}

fn start(plan: &Plan) -> proto::FetchStreamStart {
    proto::FetchStreamStart {
        partitions: plan
            .open()
            .map(|(partition, from)| proto::FetchPartition {
                topic: plan.topic().to_owned(),
                partition,
                offset: from.0,
                max_bytes: MESSAGE_BYTES,
                leader_epoch: None,
            })
            .collect(),
        max_bytes: MESSAGE_BYTES,
        format: proto::FetchFormat::Batches.into(),
        credit_bytes: CREDIT_BYTES,
        ..Default::default()
    }
}
