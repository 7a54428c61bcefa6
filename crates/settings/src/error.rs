//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use crate::layers::Source;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read or is not TOML.
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// No key is called this.
    #[error("unknown key `{key}` ({origin}){}", nearest.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownKey { key: String, origin: Source, nearest: Option<&'static str> },
    /// The value is outside what the key allows.
    #[error("`{key}` = {value} ({origin}) is not allowed: expected {allowed}")]
    BadValue { key: &'static str, value: String, origin: Source, allowed: String },
    /// A key without a default was not set.
    #[error(
        "`{key}` is not set: give the flag, the key in the configuration file, or the variable {variable}"
    )]
    Missing { key: &'static str, variable: String },
    /// The environment holds something unreadable.
    #[error("environment: {0}")]
    Environment(String),
    /// Catalogue and typed settings disagree: a defect of this program, not of the configuration.
    #[error("the settings do not fit their types: {0}")]
    Typed(String),
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for SettingsError {}
