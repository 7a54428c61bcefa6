//! What one config is: its type, its default, what may be written to it.

use std::collections::BTreeSet;
use std::fmt;

use super::{topic_config, topic_configs};

/// One config of the catalogue.
#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: not set, another config decides.
    pub default: Option<&'static str>,
    pub allowed: Allowed,
    /// Broker configs that give a topic config its value, strongest first; of a broker config, itself and those that stand in for it
    /// while it is not set, or nothing.
    pub synonyms: &'static [Synonym],
    pub scope: Scope,
    pub doc: &'static str,
}

/// A broker config, and what its unit is worth in the topic config's.
#[derive(Debug, Clone, Copy)]
pub struct Synonym {
    pub name: &'static str,
    pub factor: i64,
}

/// Type of a config's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    /// Separated by commas.
    List,
}

/// Where a config can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// At run time.
    Dynamic,
    /// At run time, on topics and as the default of all brokers: the controller goes by it, so brokers cannot differ in it.
    AllBrokers,
    /// In the settings file, at start.
    ReadOnly,
}

/// Values that a config takes, beyond being of its type.
#[derive(Debug, Clone, Copy)]
pub enum Allowed {
    Any,
    /// Inclusive.
    Range(i64, i64),
    /// Inclusive; for [`Kind::Double`].
    Fraction(f64, f64),
    /// Inclusive range, or one more value outside of it.
    RangeOr(i64, i64, i64),
    OneOf(&'static [&'static str]),
    /// Any of these, each at most once; for [`Kind::List`].
    Among(&'static [&'static str]),
}

/// The value or name cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    #[error("unknown {what} config name: {name}{}", hint.map(|hint| format!("; {hint}")).unwrap_or_default())]
    Unknown {
        what: &'static str,
        name: String,
        /// What may have been meant.
        hint: Option<Elsewhere>,
    },
    #[error("invalid value {value:?} for config {name}: {allowed}")]
    Value { name: &'static str, value: String, allowed: String },
    #[error("config {name} is no list: nothing can be appended to it or subtracted from it")]
    NotAList { name: &'static str },
    #[error("the value of config {name} has {bytes} bytes, at most {VALUE_BYTES_MAX} are kept")]
    TooLong { name: &'static str, bytes: usize },
    #[error("config {name} needs a value")]
    Missing { name: &'static str },
    #[error("config {name} can only be changed in the settings file, at start")]
    ReadOnly { name: &'static str },
    #[error(
        "config {name} cannot differ between brokers: set it as the default of all brokers (without a broker's id) or on topics"
    )]
    NotPerBroker { name: &'static str },
}

/// The config of another kind of resource that a name, or what it means, belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    /// `topics` or `brokers`.
    pub of: &'static str,
    pub name: &'static str,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} it is {}", self.of, self.name)
    }
}

/// Every node holds every value in memory and in its metadata: the longest that make sense are lists of some thousand partitions.
const VALUE_BYTES_MAX: usize = 256 << 10;

/// Longest value that an error message repeats.
const SHOWN_CHARS_MAX: usize = 100;

impl Definition {
    /// Whether `value` may be written to this config.
    pub fn check(&self, value: &str) -> Result<(), InvalidConfig> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(InvalidConfig::TooLong { name: self.name, bytes: value.len() });
        }
        let fits = match self.kind {
            Kind::Boolean => boolean(value)
                .is_some_and(|flag| self.allowed.admits_text(if flag { "true" } else { "false" })),
            Kind::String => self.allowed.admits_text(value),
            Kind::Int => integer(value, i64::from(i32::MIN), i64::from(i32::MAX))
                .is_some_and(|number| self.allowed.admits_integer(number)),
            Kind::Short => integer(value, i64::from(i16::MIN), i64::from(i16::MAX))
                .is_some_and(|number| self.allowed.admits_integer(number)),
            Kind::Long => integer(value, i64::MIN, i64::MAX)
                .is_some_and(|number| self.allowed.admits_integer(number)),
            Kind::Double => {
                value.trim().parse().is_ok_and(|number| self.allowed.admits_double(number))
            }
            Kind::List => self.allowed.admits_list(value),
        };
        if fits { Ok(()) } else { Err(self.refusal(value)) }
    }

    fn refusal(&self, value: &str) -> InvalidConfig {
        InvalidConfig::Value {
            name: self.name,
            value: value.chars().take(SHOWN_CHARS_MAX).collect(),
            allowed: match self.allowed {
                Allowed::Any => format!("it must be {}", self.kind),
                Allowed::OneOf(_) => format!("it must be {}", self.allowed),
                _ => format!("it must be {} {}", self.kind, self.allowed),
            },
        }
    }
}

impl InvalidConfig {
    pub(crate) fn unknown_of_topics(name: &str) -> Self {
        let means = |topic: &&Definition| topic.synonyms.iter().any(|broker| broker.name == name);
        let meant = topic_configs().iter().find(means);
        Self::unknown(
            "topic",
            name,
            meant.map(|topic| Elsewhere { of: "topics", name: topic.name }),
        )
    }

    pub(crate) fn unknown_of_brokers(name: &str) -> Self {
        let meant = topic_config(name).and_then(|topic| topic.synonyms.first());
        let hint = meant.map(|broker| Elsewhere { of: "brokers", name: broker.name });
        Self::unknown("broker", name, hint)
    }

    fn unknown(what: &'static str, name: &str, hint: Option<Elsewhere>) -> Self {
        Self::Unknown { what, name: name.chars().take(SHOWN_CHARS_MAX).collect(), hint }
    }
}

impl Allowed {
    fn admits_integer(&self, number: i64) -> bool {
        match self {
            Self::Range(min, max) => (*min..=*max).contains(&number),
            Self::RangeOr(min, max, other) => (*min..=*max).contains(&number) || number == *other,
            _ => true,
        }
    }

    fn admits_double(&self, number: f64) -> bool {
        match self {
            Self::Fraction(min, max) => (*min..=*max).contains(&number),
            _ => number.is_finite(),
        }
    }

    fn admits_text(&self, value: &str) -> bool {
        match self {
            Self::OneOf(choices) => choices.contains(&value),
            _ => true,
        }
    }

    fn admits_list(&self, value: &str) -> bool {
        let Self::Among(choices) = self else { return true };
        let items: Vec<&str> = list(value).collect();
        !items.is_empty()
            && items.iter().all(|item| choices.contains(item))
            && items.iter().enumerate().all(|(at, item)| !items[..at].contains(item))
    }
}

impl Kind {
    /// The number of the type in a DescribeConfigs answer (KIP-569).
    pub fn wire_code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "true or false",
            Self::String => "a text",
            Self::Int | Self::Short | Self::Long => "a whole number",
            Self::Double => "a number",
            Self::List => "a list",
        })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Range(min, i64::MAX) => write!(f, "of at least {min}"),
            Self::Range(min, max) => write!(f, "from {min} to {max}"),
            Self::Fraction(min, max) => write!(f, "from {min} to {max}"),
            Self::RangeOr(min, max, other) => write!(f, "from {min} to {max}, or {other}"),
            Self::OneOf(choices) => write!(f, "one of {}", choices.join(", ")),
            Self::Among(choices) => write!(f, "of one or more of {}", choices.join(", ")),
        }
    }
}

pub(super) fn boolean(value: &str) -> Option<bool> {
    let value = value.trim();
    match value {
        _ if value.eq_ignore_ascii_case("true") => Some(true),
        _ if value.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

pub(super) fn integer(value: &str, min: i64, max: i64) -> Option<i64> {
    value.trim().parse().ok().filter(|number| (min..=max).contains(number))
}

/// Items of a list, without the blanks around them; empty items do not count.
pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The list with those of `items` behind it that it lacks.
pub(crate) fn list_with(value: &str, items: &str) -> String {
    let mut present = BTreeSet::new();
    let all = list(value).chain(list(items)).filter(|item| present.insert(*item));
    all.collect::<Vec<_>>().join(",")
}

/// The list without those of its items that are among `items`.
pub(crate) fn list_without(value: &str, items: &str) -> String {
    let taken: BTreeSet<_> = list(items).collect();
    list(value).filter(|item| !taken.contains(item)).collect::<Vec<_>>().join(",")
}
