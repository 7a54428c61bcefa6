//! What a node holds its session by: a stream that stays open for as long as the node lives.
//!
//! A process that dies leaves no word, but its connections end, and long before its session would. So the node is given only a little time
//! to come back. A stream that this controller ends itself says nothing about the node: it does so when it stops or does not lead any more.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_util::Stream;
use thalweg_metadata_core::{Decision, HoldId};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_raft::Leadership;
use thalweg_types::{BrokerEpoch, NodeId};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::Server;
use crate::task::Calls;

type Message = Result<proto::HoldSessionResponse, Status>;

/// The stream that tonic sends. Dropped with the call or its connection, which is what it is for.
pub struct Hold(mpsc::Receiver<Message>);

impl Stream for Hold {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_recv(cx)
    }
}

/// Whose session it is.
#[derive(Debug, Clone, Copy)]
struct Held {
    node_id: NodeId,
    broker_epoch: BrokerEpoch,
    hold: HoldId,
}

/// Refuses who has no session here.
pub(super) async fn start(
    server: &Server,
    request: &proto::HoldSessionRequest,
) -> Result<Hold, Status> {
    let hold = HoldId(server.holds.fetch_add(1, Ordering::Relaxed));
    let (node_id, broker_epoch) = (NodeId(request.node_id), BrokerEpoch(request.broker_epoch));
    let held = Held { node_id, broker_epoch, hold };
    let ended = no_longer_leading(server.quorum.leadership());
    let begun = server.calls.decide_in_session(move |image, sessions, _| {
        image.check_session(node_id, broker_epoch)?;
        sessions.held(node_id, broker_epoch, hold);
        Ok(Decision { records: Vec::new(), response: () })
    });
    begun.await.map_err(|error| server.status(error))?;
    let (sender, receiver) = mpsc::channel(1);
    let (calls, stop) = (server.calls.clone(), server.stop.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => let_go(&calls, held).await,
            () = ended => {}
            () = stopped(stop) => {}
        }
    });
    Ok(Hold(receiver))
}

/// Resolves when this controller does not lead any more, or leads anew: then it has heard of nobody.
fn no_longer_leading(mut leadership: watch::Receiver<Leadership>) -> impl Future<Output = ()> {
    let began_in = *leadership.borrow_and_update();
    async move {
        let _ = leadership.wait_for(|now| *now != began_in).await;
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn let_go(calls: &Calls, Held { node_id, broker_epoch, hold }: Held) {
    let told = calls.decide_in_session(move |_, sessions, now| {
        sessions.let_go(node_id, broker_epoch, hold, now);
        Ok(Decision { records: Vec::new(), response: () })
    });
    match told.await {
        Ok(_) => tracing::info!(%node_id, %broker_epoch, "a node's stream has ended"),
        // Whoever is active now has streams of its own.
        Err(error) => tracing::debug!(%node_id, %error, "the end of a node's stream was not noted"),
    }
}
