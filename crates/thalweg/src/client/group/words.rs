//! States, types, times and partitions in words.

use thalweg_proto::admin::v1 as proto;

use crate::cli::group::{State, Type};
use crate::client::consume::render;

pub(super) fn state_of(state: State) -> proto::GroupState {
    match state {
        State::Empty => proto::GroupState::Empty,
        State::PreparingRebalance => proto::GroupState::PreparingRebalance,
        State::CompletingRebalance => proto::GroupState::CompletingRebalance,
        State::Assigning => proto::GroupState::Assigning,
        State::Reconciling => proto::GroupState::Reconciling,
        State::Stable => proto::GroupState::Stable,
        State::Dead => proto::GroupState::Dead,
    }
}

pub(super) fn type_of(r#type: Type) -> proto::GroupType {
    match r#type {
        Type::Classic => proto::GroupType::Classic,
        Type::Consumer => proto::GroupType::Consumer,
    }
}

/// As they are typed on the command line.
pub(super) fn state(state: proto::GroupState) -> &'static str {
    match state {
        proto::GroupState::Unspecified => "unknown",
        proto::GroupState::Empty => "empty",
        proto::GroupState::PreparingRebalance => "preparing-rebalance",
        proto::GroupState::CompletingRebalance => "completing-rebalance",
        proto::GroupState::Assigning => "assigning",
        proto::GroupState::Reconciling => "reconciling",
        proto::GroupState::Stable => "stable",
        proto::GroupState::Dead => "dead",
    }
}

pub(super) fn group_type(r#type: proto::GroupType) -> &'static str {
    match r#type {
        proto::GroupType::Unspecified => "unknown",
        proto::GroupType::Classic => "classic",
        proto::GroupType::Consumer => "consumer",
    }
}

pub(super) fn diagnosis(kind: proto::DiagnosisKind) -> &'static str {
    use proto::DiagnosisKind as Kind;
    match kind {
        Kind::Unspecified => "unknown",
        Kind::KeepsUp => "keeps-up",
        Kind::NoMembers => "no-members",
        Kind::TooFewMembers => "too-few-members",
        Kind::AsManyMembersAsPartitions => "as-many-members-as-partitions",
        Kind::IdleMember => "idle-member",
        Kind::StuckMember => "stuck-member",
        Kind::HotPartition => "hot-partition",
        Kind::RebalanceStorm => "rebalance-storm",
        Kind::UnreadPartition => "unread-partition",
    }
}

/// `orders:0,2 returns:1`
pub(super) fn partitions(lists: &[proto::TopicPartitionList]) -> String {
    let one = |list: &proto::TopicPartitionList| {
        let partitions: Vec<_> = list.partitions.iter().map(ToString::to_string).collect();
        format!("{}:{}", list.topic, partitions.join(","))
    };
    let all: Vec<_> = lists.iter().map(one).collect();
    or_dash(&all.join(" "))
}

/// Other people's words, such that they cannot upset a terminal.
pub(super) fn shown(text: &str) -> String {
    render::text(Some(text.as_bytes()))
}

pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { shown(text) }
}

pub(super) fn number(value: Option<i64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A length of time in its two largest units.
pub(super) fn age(age_ms: Option<i64>) -> String {
    let Some(ms) = age_ms else { return "-".to_owned() };
    let seconds = ms / 1_000;
    match seconds {
        ..1 => format!("{ms}ms"),
        1..60 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

pub(super) fn absent_if_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_their_two_largest_units() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (1_250, "1.2s"),
            (61_000, "1m 1s"),
            (3_660_000, "1h 1m"),
            (90_000_000, "1d 1h"),
        ];
        for (ms, expected) in cases {
            assert_eq!(age(Some(ms)), expected);
        }
        assert_eq!(age(None), "-");
    }

    #[test]
    fn partitions_are_told_by_topic() {
        let list = |topic: &str, partitions: &[i32]| proto::TopicPartitionList {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        };
        assert_eq!(partitions(&[list("a", &[0, 2]), list("b", &[1])]), "a:0,2 b:1");
        assert_eq!(partitions(&[]), "-");
    }

    #[test]
    fn what_others_have_named_cannot_upset_a_terminal() {
        assert_eq!(shown("a\x1b[2J"), "a\\u{1b}[2J");
    }
}
