//! AlterConfigs and IncrementalAlterConfigs: handed to the controller, answered resource by resource as they were asked.
//!
//! What a list becomes is decided by the controller, on the newest image: two clients that append at once both count. An answer that
//! reports success is sent when this node has taken the change over: the next batch it gets is measured by it.

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, alter_configs as whole, incremental_alter_configs as single,
};
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;

use crate::configs::target;
use crate::{Member, Refusal};
use thalweg_controller_client::{Alteration, ConfigEdit};

/// Numbers of the operations of IncrementalAlterConfigs (KIP-339).
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A resource as the client named it, and what became of it.
struct Altered {
    resource_type: i8,
    resource_name: KafkaString,
    result: Result<(), Refusal>,
}

/// The same before it is carried out.
struct Wanted {
    resource_type: i8,
    resource_name: KafkaString,
    /// What the controller is asked for, or why it is not.
    alteration: Result<Alteration, Refusal>,
}

pub(crate) async fn alter_configs<M: Member>(
    member: &M,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let wanted = request.resources.into_iter().map(Wanted::whole).collect();
    let altered = alter(member, wanted, request.validate_only).await;
    let response = |altered: Altered| {
        let (error_code, error_message) = told(altered.result);
        whole::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: altered.resource_type,
            resource_name: altered.resource_name,
        }
    };
    AlterConfigsResponse {
        responses: altered.into_iter().map(response).collect(),
        ..Default::default()
    }
}

pub(crate) async fn incremental_alter_configs<M: Member>(
    member: &M,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let wanted = request.resources.into_iter().map(Wanted::single).collect();
    let altered = alter(member, wanted, request.validate_only).await;
    let response = |altered: Altered| {
        let (error_code, error_message) = told(altered.result);
        single::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: altered.resource_type,
            resource_name: altered.resource_name,
        }
    };
    IncrementalAlterConfigsResponse {
        responses: altered.into_iter().map(response).collect(),
        ..Default::default()
    }
}

/// Asks the controller for everything that can be asked of it, in one call.
async fn alter<M: Member>(member: &M, wanted: Vec<Wanted>, validate_only: bool) -> Vec<Altered> {
    let asked: Vec<_> =
        wanted.iter().filter_map(|one| one.alteration.as_ref().ok()).cloned().collect();
    let asked_count = asked.len();
    let results: Vec<Result<(), Error>> = match asked_count {
        0 => Vec::new(),
        _ => match member.controller().alter_configs(asked, validate_only).await {
            Ok(answer) => {
                member.served(answer.index).await;
                answer.items
            }
            Err(error) => vec![Err(error); asked_count],
        },
    };
    merge(wanted, results)
}

/// Puts the controller's results, which are for what it was asked only, where they belong.
fn merge(wanted: Vec<Wanted>, results: Vec<Result<(), Error>>) -> Vec<Altered> {
    let mut results = results.into_iter();
    let mut result_of = |alteration: Result<Alteration, Refusal>| {
        alteration?;
        let missing = || Err(Error::new(ErrorCode::UnknownServerError, "no answer"));
        results.next().unwrap_or_else(missing).map_err(|error| (error.code, error.message))
    };
    let altered = |one: Wanted| Altered {
        resource_type: one.resource_type,
        resource_name: one.resource_name,
        result: result_of(one.alteration),
    };
    wanted.into_iter().map(altered).collect()
}

impl Wanted {
    fn whole(resource: whole::AlterConfigsResource) -> Self {
        let edit = |config: whole::AlterableConfig| edit(SET, config.name, config.value);
        let edits = resource.configs.into_iter().map(edit).collect();
        Self::new(resource.resource_type, resource.resource_name, edits, true)
    }

    fn single(resource: single::AlterConfigsResource) -> Self {
        let edit = |config: single::AlterableConfig| {
            edit(config.config_operation, config.name, config.value)
        };
        let edits = resource.configs.into_iter().map(edit).collect();
        Self::new(resource.resource_type, resource.resource_name, edits, false)
    }

    fn new(
        resource_type: i8,
        resource_name: KafkaString,
        edits: Result<Vec<(String, ConfigEdit)>, Refusal>,
        replace: bool,
    ) -> Self {
        let alteration = target(resource_type, &resource_name)
            .and_then(|owner| Ok(Alteration { owner, edits: edits?, replace }));
        Self { resource_type, resource_name, alteration }
    }
}

fn edit(
    operation: i8,
    name: KafkaString,
    value: Option<KafkaString>,
) -> Result<(String, ConfigEdit), Refusal> {
    let edit = match (operation, value) {
        (DELETE, _) => ConfigEdit::Delete,
        (SET, Some(value)) => ConfigEdit::Set(value.to_string()),
        (APPEND, Some(items)) => ConfigEdit::Append(items.to_string()),
        (SUBTRACT, Some(items)) => ConfigEdit::Subtract(items.to_string()),
        (SET | APPEND | SUBTRACT, None) => {
            return Err((ErrorCode::InvalidRequest, format!("config {name} has no value")));
        }
        (other, _) => {
            let message = format!("config {name}: there is no operation {other}");
            return Err((ErrorCode::InvalidRequest, message));
        }
    };
    Ok((name.to_string(), edit))
}

fn told(result: Result<(), Refusal>) -> (i16, Option<KafkaString>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err((code, message)) => (code.code(), Some(KafkaString::from(message))),
    }
}

#[cfg(test)]
mod tests {
    use thalweg_metadata_core::ConfigTarget;
    use thalweg_types::NodeId;

    use super::*;
    use crate::configs::{BROKER, TOPIC};

    fn resource(
        resource_type: i8,
        name: &str,
        configs: &[(i8, Option<&str>)],
    ) -> single::AlterConfigsResource {
        let config = |(operation, value): &(i8, Option<&str>)| single::AlterableConfig {
            name: "cleanup.policy".into(),
            config_operation: *operation,
            value: value.map(KafkaString::from),
        };
        single::AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: configs.iter().map(config).collect(),
        }
    }

    #[test]
    fn operations_are_read_by_their_numbers_and_need_values() {
        let all = [(0, Some("a")), (1, None), (2, Some("b")), (3, Some("c"))];
        let wanted = Wanted::single(resource(TOPIC, "t", &all)).alteration.unwrap();
        let edits: Vec<_> = wanted.edits.into_iter().map(|(_, edit)| edit).collect();
        assert_eq!(wanted.owner, ConfigTarget::Topic("t".to_owned()));
        assert!(!wanted.replace);
        let [a, b, c] = ["a", "b", "c"].map(str::to_owned);
        let expected = [
            ConfigEdit::Set(a),
            ConfigEdit::Delete,
            ConfigEdit::Append(b),
            ConfigEdit::Subtract(c),
        ];
        assert_eq!(edits, expected);
        for wrong in [(0, None), (2, None), (3, None), (4, Some("x")), (-1, Some("x"))] {
            let refused = Wanted::single(resource(TOPIC, "t", &[(0, Some("a")), wrong]));
            assert_eq!(refused.alteration.unwrap_err().0, ErrorCode::InvalidRequest, "{wrong:?}");
        }
    }

    #[test]
    fn owners_are_topics_brokers_and_all_brokers() {
        assert_eq!(target(BROKER, "3").unwrap(), ConfigTarget::Broker(NodeId(3)));
        assert_eq!(target(BROKER, "").unwrap(), ConfigTarget::Cluster);
        for (kind, name) in [(BROKER, "three"), (8, "1"), (0, "t"), (32, "group")] {
            assert_eq!(target(kind, name).unwrap_err().0, ErrorCode::InvalidRequest, "{kind}");
        }
    }

    #[test]
    fn the_controllers_results_go_to_the_resources_it_was_asked_about() {
        let names = ["first", "nobody", "second", "third"];
        let kinds = [TOPIC, 9, TOPIC, TOPIC];
        let wanted =
            kinds.iter().zip(names).map(|(kind, name)| Wanted::single(resource(*kind, name, &[])));
        let refused = Error::new(ErrorCode::InvalidConfig, "no");
        let altered = merge(wanted.collect(), vec![Ok(()), Err(refused), Ok(())]);
        let codes: Vec<_> = altered
            .into_iter()
            .map(|one| (one.resource_name.to_string(), told(one.result).0))
            .collect();
        let expected =
            [ErrorCode::None, ErrorCode::InvalidRequest, ErrorCode::InvalidConfig, ErrorCode::None];
        let expected: Vec<_> = names
            .iter()
            .zip(expected)
            .map(|(name, code)| ((*name).to_owned(), code.code()))
            .collect();
        assert_eq!(codes, expected);
    }
}
