//! The cuts that followers wait for: they wait for the disk, and so are made on threads that may.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::Hub;
use crate::partition::Partition;

/// Cuts made at a time.
const CUTS_MAX: usize = 4;

/// Until a cut that failed is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// Makes every cut, some at a time, again and again until it is made or not wanted any more.
pub(crate) async fn make_cuts(hub: Arc<Hub>) {
    loop {
        let waiting = futures_util::stream::iter(hub.cuts.take().await);
        let failed: Vec<_> = waiting
            .map(make_cut)
            .buffer_unordered(CUTS_MAX)
            .filter_map(async |it| it)
            .collect()
            .await;
        if !failed.is_empty() {
            tokio::time::sleep(RETRY_WAIT).await;
            failed.into_iter().for_each(|partition| hub.cuts.put(partition));
        }
    }
}

/// The partition again, if its cut could not be made.
async fn make_cut(partition: Arc<Partition>) -> Option<Arc<Partition>> {
    let cutting = Arc::clone(&partition);
    match tokio::task::spawn_blocking(move || cutting.make_cut()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::warn!(partition = %partition.name(), %error, "the log could not be cut yet");
            Some(partition)
        }
        Err(error) => {
            tracing::error!(partition = %partition.name(), %error, "cutting the log failed");
            None
        }
    }
}
