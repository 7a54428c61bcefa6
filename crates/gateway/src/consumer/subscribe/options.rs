//! What a client asks for at the start, checked.

use std::time::Duration;

use thalweg_proto::consumer::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::IsolationLevel;

use super::membership::Joining;
use crate::consumer::decode::Form;
use crate::consumer::fetch;
use crate::groups::group_id;
use crate::port::ClientRef;
use crate::words;

const TOPICS_MAX: usize = 1_000;
/// Longest pattern, assignor, client and instance id.
const TEXT_BYTES_MAX: usize = 4_096;
const MESSAGE_BYTES_DEFAULT: u32 = 1024 * 1024;
const COMMIT_INTERVAL_MS: (u32, u32) = (5_000, 600_000);
const REVOCATION_WAIT_MS: (u32, u32) = (10_000, 120_000);
const IDLE_WAIT_MS: (u32, u32) = (300_000, 86_400_000);

/// What the coordinator waits for a revocation beyond what the client is given: the last commit, and heartbeats.
const REVOCATION_MARGIN: Duration = Duration::from_secs(30);

/// What clients are called that do not call themselves anything.
const CLIENT_ID_DEFAULT: &str = "grpc";

/// Where reading begins without a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    Earliest,
    Latest,
    Refuse,
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) group: String,
    pub(super) client: ClientRef,
    topics: Vec<String>,
    pattern: Option<String>,
    instance_id: Option<String>,
    assignor: Option<String>,
    pub(super) reset: Reset,
    pub(super) isolation: IsolationLevel,
    pub(super) max_bytes: usize,
    pub(super) form: Form,
    pub(super) commit_interval: Duration,
    pub(super) revocation_wait: Duration,
    pub(super) idle_wait: Duration,
}

impl Options {
    pub(super) fn from_wire(start: proto::SubscribeStart, host: String) -> Result<Self, Error> {
        group_id(&start.group_id)?;
        let pattern = text("pattern", start.pattern)?;
        words::at_most("the number of topics", start.topics.len(), TOPICS_MAX)?;
        if start.topics.is_empty() && pattern.is_none() {
            return Err(Error::invalid_request("topics or a pattern must be given"));
        }
        for topic in &start.topics {
            words::topic_name(topic)?;
        }
        let client_id = text("client_id", start.client_id)?;
        let client_id = client_id.unwrap_or_else(|| CLIENT_ID_DEFAULT.to_owned());
        let max_bytes = fetch::bytes_or("max_bytes", start.max_bytes, MESSAGE_BYTES_DEFAULT)?;
        Ok(Self {
            group: start.group_id,
            client: ClientRef { id: client_id.into(), host: host.into() },
            topics: start.topics,
            pattern,
            instance_id: text("instance_id", start.instance_id)?,
            assignor: text("assignor", start.assignor)?,
            reset: reset(start.offset_reset)?,
            isolation: words::isolation_level(start.isolation_level)?,
            max_bytes: max_bytes as usize,
            form: Form::from_wire(start.format)?,
            commit_interval: ms(
                "commit_interval_ms",
                start.commit_interval_ms,
                COMMIT_INTERVAL_MS,
            )?,
            revocation_wait: ms(
                "revocation_wait_ms",
                start.revocation_wait_ms,
                REVOCATION_WAIT_MS,
            )?,
            idle_wait: ms("idle_wait_ms", start.idle_wait_ms, IDLE_WAIT_MS)?,
        })
    }

    pub(super) fn joining(&self) -> Joining {
        Joining {
            group: self.group.clone(),
            client: self.client.clone(),
            topics: self.topics.clone(),
            pattern: self.pattern.clone(),
            instance_id: self.instance_id.clone(),
            assignor: self.assignor.clone(),
            rebalance_timeout: self.revocation_wait + REVOCATION_MARGIN,
        }
    }
}

fn text(field: &str, text: String) -> Result<Option<String>, Error> {
    words::at_most(&format!("the bytes of {field}"), text.len(), TEXT_BYTES_MAX)?;
    Ok((!text.is_empty()).then_some(text))
}

/// Milliseconds with a default for 0 and a maximum.
fn ms(field: &str, given: u32, (default, max): (u32, u32)) -> Result<Duration, Error> {
    let ms = match words::at_most(field, given, max)? {
        0 => default,
        ms => ms,
    };
    Ok(Duration::from_millis(ms.into()))
}

fn reset(value: i32) -> Result<Reset, Error> {
    match proto::OffsetReset::try_from(value) {
        Ok(proto::OffsetReset::Unspecified | proto::OffsetReset::Latest) => Ok(Reset::Latest),
        Ok(proto::OffsetReset::Earliest) => Ok(Reset::Earliest),
        Ok(proto::OffsetReset::None) => Ok(Reset::Refuse),
        Err(_) => Err(Error::invalid_request(format!("offset_reset has no value {value}"))),
    }
}
