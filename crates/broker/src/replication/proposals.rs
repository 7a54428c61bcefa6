//! What leaders here propose to the controller, gathered into one call at a time; and the reports of replicas that are unfit.
//!
//! What became of a proposal is always told to its partition, and a call without an answer is told as lost: only the controller's own word
//! that nothing was applied lets a leader stop waiting for whom it has proposed (R8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thalweg_metadata_core::{AlterPartition, Partition};
use thalweg_replication_core::{AlterOutcome, Proposal};
use thalweg_rpc::Error;
use thalweg_types::TopicIdPartition;

use super::{Hub, of_image};
use crate::hosting::Hosted;
use thalweg_controller_client::ControllerClient;

/// Proposals in one call.
const CALL_PROPOSALS_MAX: usize = 5_000;

/// How long a call may take. A leader whose proposal is lost asks again.
const CALL_TIME_MAX: Duration = Duration::from_secs(3);

/// Between two attempts to tell the controller who is unfit.
const REPORT_RETRY_WAIT: Duration = Duration::from_millis(500);

/// Delivers every proposal once, and its fate.
pub(crate) async fn propose(hub: Arc<Hub>, hosted: Arc<Hosted>, controller: ControllerClient) {
    loop {
        let mut newest = BTreeMap::new();
        for (id, proposal) in hub.proposals.take().await {
            // The controller takes one of each partition.
            if let Some(older) = newest.insert(id, proposal) {
                tell(&hosted, id, &older, &AlterOutcome::Lost);
            }
        }
        let newest: Vec<_> = newest.into_iter().collect();
        for proposals in newest.chunks(CALL_PROPOSALS_MAX) {
            let outcomes = call(&hub, &controller, proposals).await;
            for ((id, proposal), outcome) in proposals.iter().zip(&outcomes) {
                tracing::debug!(partition = %id, isr = ?proposal.isr, ?outcome, "in-sync replicas proposed");
                tell(&hosted, *id, proposal, outcome);
            }
        }
    }
}

/// One outcome for each proposal.
async fn call(
    hub: &Hub,
    controller: &ControllerClient,
    proposals: &[(TopicIdPartition, Proposal)],
) -> Vec<AlterOutcome> {
    let me = hub.me();
    let requests: Vec<_> = proposals.iter().map(|(id, proposal)| request(*id, proposal)).collect();
    let calling = controller.alter_partitions(me.node, me.broker_epoch, &requests);
    match tokio::time::timeout(CALL_TIME_MAX, calling).await {
        Ok(Ok(answers)) => {
            let outcome = |answer: Result<Partition, Error>| match answer {
                Ok(state) => AlterOutcome::Committed(of_image(&state)),
                Err(error) => AlterOutcome::Refused(error.code),
            };
            answers.into_iter().map(outcome).collect()
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the in-sync replicas could not be proposed");
            vec![AlterOutcome::Lost; proposals.len()]
        }
        Err(_elapsed) => vec![AlterOutcome::Lost; proposals.len()],
    }
}

fn request(id: TopicIdPartition, proposal: &Proposal) -> AlterPartition {
    AlterPartition {
        id,
        leader: proposal.leader,
        broker_epoch: proposal.broker_epoch,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr.clone(),
        recovering: proposal.recovering,
        unfit: proposal.unfit.clone(),
        proven: proposal.proven.clone(),
    }
}

fn tell(hosted: &Hosted, id: TopicIdPartition, proposal: &Proposal, outcome: &AlterOutcome) {
    if let Some(partition) = hosted.get(id) {
        let attempt = (proposal.leader_epoch, proposal.attempt);
        partition.handle_alter_outcome(attempt, outcome);
    }
}

/// Tells the controller which replicas here are unfit, until it has heard it.
pub(crate) async fn report_unfit(hub: Arc<Hub>, controller: ControllerClient) {
    let me = hub.me();
    loop {
        let mut unfit = BTreeSet::new();
        for (id, fitness) in hub.unfit.take().await {
            tracing::error!(partition = %id, ?fitness, "the replica here may be incomplete");
            unfit.insert(id);
        }
        loop {
            let calling = controller.report_unfit_replicas(me.node, me.broker_epoch, &unfit);
            match tokio::time::timeout(CALL_TIME_MAX, calling).await {
                Ok(Ok(_index)) => break,
                Ok(Err(error)) if !error.retriable => {
                    tracing::error!(%error, "unfit replicas could not be reported");
                    break;
                }
                Ok(Err(_)) | Err(_) => tokio::time::sleep(REPORT_RETRY_WAIT).await,
            }
        }
    }
}
