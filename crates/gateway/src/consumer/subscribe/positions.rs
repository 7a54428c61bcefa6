//! Where reading begins in partitions that were just assigned, or whose position is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{ErrorCode, IsolationLevel};
use tokio::time::{Instant, sleep};

use super::options::{Options, Reset};
use crate::consumer::stream::is_about_leader;
use crate::groups::offsets::{self, Name};
use crate::port::{BrokerPort, OffsetQuery};
use crate::shared::Shared;
use crate::words;

const PAUSE: Duration = Duration::from_millis(100);
/// Partitions whose ends are asked for at the same time.
const LOOKS_IN_FLIGHT_MAX: usize = 16;
const COMMITTED_WAIT_MAX: Duration = Duration::from_secs(30);

/// The committed offsets, and what the reset says where there is none.
pub(super) async fn beginnings<B: BrokerPort>(
    shared: &Shared<B>,
    options: &Options,
    names: BTreeSet<Name>,
) -> Result<BTreeMap<Name, i64>, Error> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let deadline = Deadline::at(Instant::now() + COMMITTED_WAIT_MAX);
    let wanted = Some(names.into_iter().collect());
    let kept = offsets::committed(shared, &options.group, wanted, false, deadline).await?;
    let looks: Vec<_> = kept
        .into_iter()
        .map(|(name, kept)| async move {
            let offset = match kept? {
                Some(position) => position.offset,
                None => reset(shared, options, &name).await?,
            };
            Ok::<_, Error>((name, offset))
        })
        .collect();
    stream::iter(looks).buffered(LOOKS_IN_FLIGHT_MAX).try_collect().await
}

/// The end of the log that the client has chosen.
pub(super) async fn reset<B: BrokerPort>(
    shared: &Shared<B>,
    options: &Options,
    name: &Name,
) -> Result<i64, Error> {
    let at = match options.reset {
        Reset::Earliest => OffsetQuery::Earliest,
        Reset::Latest => OffsetQuery::Latest,
        Reset::Refuse => {
            let (topic, partition) = name;
            let message = format!(
                "group {:?} has no offset in {topic}-{partition} that is there, and none may be chosen for it",
                words::shown(&options.group)
            );
            return Err(Error::new(ErrorCode::OffsetOutOfRange, message).not_applied());
        }
    };
    let (topic, partition) = (words::topic_name(&name.0)?, words::partition(name.1)?);
    let give_up = Instant::now() + shared.leader_wait_max;
    loop {
        // The end of what is committed, whatever the isolation: a transaction that is open now will be read when it ends.
        let isolation = IsolationLevel::ReadUncommitted;
        let asked = shared.broker.list_offset(topic.clone(), partition, at, isolation).await;
        match asked {
            Ok(Some(found)) => return Ok(found.offset.0),
            Ok(None) => return Ok(0),
            Err(error) if is_about_leader(&error) && Instant::now() < give_up => {
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}
