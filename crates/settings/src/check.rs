//! Whether a value is what its key allows, alone and beside the others.

use std::net::SocketAddr;

use config::{Value, ValueKind};

use crate::catalogue::{Key, Kind};
use crate::endpoint::{Endpoints, Voters, is_host};

/// A value in the one form its key has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checked {
    Integer(i64),
    Boolean(bool),
    Text(String),
}

/// Longest value repeated in an error message.
const SHOWN_CHARS_MAX: usize = 80;

/// Brings a raw value into its key's form. Text becomes a number or boolean where the key is one, because environment variables and
/// flags are always text. `Err` says what is allowed.
pub(crate) fn value(key: &Key, raw: &Value) -> Result<Checked, String> {
    let checked = match (key.kind, &raw.kind) {
        (Kind::Integer { min, max }, kind) => {
            integer(kind).filter(|n| (min..=max).contains(n)).map(Checked::Integer)
        }
        (Kind::Boolean, ValueKind::Boolean(yes)) => Some(Checked::Boolean(*yes)),
        (Kind::Boolean, ValueKind::String(text)) => text.parse().ok().map(Checked::Boolean),
        (kind, ValueKind::String(text)) if text_fits(kind, text) => {
            Some(Checked::Text(text.clone()))
        }
        _ => None,
    };
    checked.ok_or_else(|| allowed(key.kind))
}

/// The value as error messages show it, bounded.
pub(crate) fn shown(raw: &Value) -> String {
    let text = match &raw.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        _ => raw.to_string(),
    };
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    text.chars().take(SHOWN_CHARS_MAX).chain("...".chars()).collect()
}

/// What a kind of key allows, in words.
pub(crate) fn allowed(kind: Kind) -> String {
    match kind {
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Boolean => "true or false".to_owned(),
        Kind::Choice(words) => format!("one of: {}", words.join(", ")),
        Kind::Address => "an IP address and a port, such as 127.0.0.1:9092".to_owned(),
        Kind::Host => "a host name or an IP address, without a port".to_owned(),
        Kind::Endpoints => {
            "different addresses such as controller-1:9190,controller-2:9190".to_owned()
        }
        Kind::Voters => {
            "different ids above 0 with different addresses, such as 1@controller-1:9190,2@controller-2:9190"
                .to_owned()
        }
        Kind::Name => "letters, digits, '.', '_' and '-'".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::Filter => "a log filter, such as info or info,thalweg_storage=debug".to_owned(),
    }
}

impl Checked {
    /// As TOML text.
    pub(crate) fn to_toml(&self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Boolean(yes) => yes.to_string(),
            Self::Text(text) => toml::Value::String(text.clone()).to_string(),
        }
    }

    /// Without quotes.
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => other.to_toml(),
        }
    }
}

impl From<Checked> for ValueKind {
    fn from(checked: Checked) -> Self {
        match checked {
            Checked::Integer(number) => Self::I64(number),
            Checked::Boolean(yes) => Self::Boolean(yes),
            Checked::Text(text) => Self::String(text),
        }
    }
}

fn integer(kind: &ValueKind) -> Option<i64> {
    match kind {
        ValueKind::I64(number) => Some(*number),
        ValueKind::U64(number) => i64::try_from(*number).ok(),
        ValueKind::I128(number) => i64::try_from(*number).ok(),
        ValueKind::U128(number) => i64::try_from(*number).ok(),
        ValueKind::String(text) => text.trim().replace('_', "").parse().ok(),
        _ => None,
    }
}

fn text_fits(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::Choice(words) => words.contains(&text),
        Kind::Address => text.parse::<SocketAddr>().is_ok(),
        Kind::Host => is_host(text),
        Kind::Endpoints => !text.is_empty() && text.parse::<Endpoints>().is_ok(),
        Kind::Voters => !text.is_empty() && text.parse::<Voters>().is_ok(),
        Kind::Name => {
            text.len() <= 249
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
        Kind::Path => !text.is_empty() && !text.contains('\0'),
        Kind::Filter => !text.is_empty(),
        Kind::Integer { .. } | Kind::Boolean => false,
    }
}
