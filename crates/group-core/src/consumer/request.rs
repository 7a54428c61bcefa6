//! What is wrong with a heartbeat whatever the state of its group.

use thalweg_types::{ErrorCode, InstanceId};

use super::assignor::Assignor;
use super::member::{AWAY, LEAVING};
use super::refusal::Refusal;
use crate::config::ID_BYTES_MAX;
use crate::request::ConsumerHeartbeat;

/// What is wrong with a request whatever the state of its group.
pub(crate) fn check_request(
    request: &ConsumerHeartbeat,
    member_metadata_bytes_max: usize,
) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let epoch = request.member_epoch;
    let needs_id = request.requires_client_made_id || epoch.0 > 0 || epoch == LEAVING;
    if needs_id && request.member.is_empty() {
        return invalid("the member id must not be empty");
    }
    if request.group.is_empty() {
        return invalid("the group id must not be empty");
    }
    if request.instance.as_ref().is_some_and(InstanceId::is_empty) {
        return invalid("the instance id must not be empty");
    }
    if request.rack.as_ref().is_some_and(|rack| rack.is_empty()) {
        return invalid("the rack id must not be empty");
    }
    if epoch.0 < AWAY.0 {
        return invalid("there is no such member epoch");
    }
    if epoch == AWAY && request.instance.is_none() {
        return invalid("only a member with an instance id leaves for a while");
    }
    if epoch.0 == 0 {
        if request.rebalance_timeout_ms.is_none() {
            return invalid("a member that joins states its rebalance timeout");
        }
        if request.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("a member that joins owns no partitions, and says so");
        }
        if request.subscribed_names.is_none() && request.subscribed_regex.is_none() {
            return invalid("a member that joins states its subscription");
        }
    }
    if request.rebalance_timeout_ms.is_some_and(|timeout| timeout <= 0) {
        return invalid("the rebalance timeout must be positive");
    }
    check_sizes(request, member_metadata_bytes_max)?;
    if let Some(name) = &request.server_assignor
        && name.parse::<Assignor>().is_err()
    {
        let known: Vec<_> = Assignor::ALL.iter().map(|assignor| assignor.name()).collect();
        let message = format!("there is no such assignor; there are {}", known.join(", "));
        return Err(Refusal::new(ErrorCode::UnsupportedAssignor, message));
    }
    Ok(())
}

fn check_sizes(request: &ConsumerHeartbeat, bytes_max: usize) -> Result<(), Refusal> {
    let ids = [
        request.group.as_str(),
        request.member.as_str(),
        request.instance.as_ref().map_or("", InstanceId::as_str),
        request.rack.as_deref().unwrap_or(""),
    ];
    if ids.iter().any(|id| id.len() > ID_BYTES_MAX) {
        let message = format!("an id has at most {ID_BYTES_MAX} bytes");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let names = request.subscribed_names.iter().flatten();
    if names.map(|name| name.as_str().len()).sum::<usize>() > bytes_max {
        let message = format!("the names of a subscription have at most {bytes_max} bytes");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}
