//! Gathers the layers, strongest last, and turns them into settings.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use config::{Config, Environment, File, FileFormat, Source as _, Value, ValueKind};

use crate::advertised;
use crate::catalogue::{self, Default, KEYS, Key, Kind, PREFIX, RELATIONS, Relation, Service};
use crate::check::{self, Checked};
use crate::error::{Problem, SettingsError};
use crate::sections::Settings;

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    /// Name of the variable.
    Environment(String),
    /// The flag as typed, with its dashes.
    Flag(&'static str),
}

/// The layers of one start, before they are read.
#[derive(Debug, Clone, std::default::Default)]
pub struct Layers {
    file: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    flags: Vec<(&'static str, &'static str, String)>,
}

/// Checked settings, with the origin of every value.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub settings: Settings,
    pub(crate) service: Service,
    pub(crate) values: BTreeMap<&'static str, (Checked, Source)>,
}

/// Raw values by key path, weaker layers overwritten by stronger ones.
type Raw = BTreeMap<String, (Value, Source)>;

impl Layers {
    pub fn new() -> Self {
        Self::default()
    }

    /// The TOML file, if one is given.
    #[must_use]
    pub fn file(mut self, path: Option<PathBuf>) -> Self {
        self.file = path;
        self
    }

    /// The process environment, or what stands for it; names that do not begin with `THALWEG__` are ignored.
    #[must_use]
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        self.variables = variables.into_iter().collect();
        self
    }

    /// A flag as typed (`--kafka-address`), the key it sets, and its value if it was given.
    #[must_use]
    pub fn flag(
        mut self,
        key: &'static str,
        flag: &'static str,
        value: Option<impl ToString>,
    ) -> Self {
        self.flags.extend(value.map(|value| (key, flag, value.to_string())));
        self
    }

    /// Merges and checks everything, for one service. What others read is checked too, so that one file serves them all, but may be missing.
    ///
    /// # Errors
    /// All problems found, not only the first.
    pub fn load(self, service: Service) -> Result<Loaded, SettingsError> {
        let mut problems = Vec::new();
        let raw = self.gather(&mut problems);
        let mut values = check_all(&raw, &mut problems);
        fill_defaults(service, &mut values, &raw, &mut problems);
        if problems.is_empty() {
            check_relations(&values, &mut problems);
        }
        if !problems.is_empty() {
            return Err(SettingsError { problems });
        }
        match typed(&values) {
            Ok(settings) => {
                let loaded = Loaded { settings, service, values };
                match loaded.not_a_voter() {
                    None => Ok(loaded),
                    Some(problem) => Err(SettingsError { problems: vec![problem] }),
                }
            }
            Err(error) => Err(SettingsError { problems: vec![Problem::Typed(error.to_string())] }),
        }
    }

    fn gather(self, problems: &mut Vec<Problem>) -> Raw {
        let mut raw = Raw::new();
        if let Some(path) = self.file {
            let source = Source::File(path.clone());
            match File::from(path.clone()).format(FileFormat::Toml).collect() {
                Ok(table) => flatten("", table, &source, &mut raw),
                Err(error) => problems.push(Problem::File { path, reason: error.to_string() }),
            }
        }
        match variables(self.variables) {
            Ok(found) => raw.extend(found),
            Err(problem) => problems.push(problem),
        }
        for (key, flag, value) in self.flags {
            raw.insert(key.to_owned(), (Value::from(value), Source::Flag(flag)));
        }
        raw
    }
}

impl Loaded {
    /// Where the value of `key` is from; `None` for a key that does not exist.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.values.get(key).map(|(_, source)| source)
    }

    /// A controller that is none of the voters would wait for ever.
    fn not_a_voter(&self) -> Option<Problem> {
        let controller = &self.settings.controller;
        let is_voter = controller.voters.iter().any(|voter| voter.node_id == controller.node_id);
        if self.service != Service::Controller || is_voter {
            return None;
        }
        let ids: Vec<_> = controller.voters.iter().map(|voter| voter.node_id.to_string()).collect();
        Some(Problem::BadValue {
            key: "controller.node_id",
            value: controller.node_id.to_string(),
            origin: self.source("controller.node_id").cloned().unwrap_or(Source::Default),
            allowed: format!("one of the ids in `controller.voters`: {}", ids.join(", ")),
        })
    }

    /// What the operator has set, rather than left to its default, of the broker configs that Kafka knows, under their names there.
    pub fn broker_configs(&self) -> Vec<(&'static str, String)> {
        KEYS.iter()
            .filter_map(|key| {
                let (value, source) = self.values.get(key.path)?;
                let name = key.broker_config?;
                (*source != Source::Default).then(|| (name, value.plain()))
            })
            .collect()
    }
}

/// Reads the environment. Values stay text here and get their type from the catalogue: guessing types would turn a node called `12`
/// into a number, and list parsing would turn every string into a list.
fn variables(variables: Vec<(OsString, OsString)>) -> Result<Raw, Problem> {
    let mut named = HashMap::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("THALWEG__")) else {
            continue;
        };
        let Some(value) = value.to_str() else {
            return Err(Problem::Environment(format!("{name} is not valid UTF-8")));
        };
        named.insert(name.to_owned(), value.to_owned());
    }
    let table = Environment::with_prefix(PREFIX)
        .separator("__")
        .try_parsing(false)
        .source(Some(named))
        .collect()
        .map_err(|error| Problem::Environment(error.to_string()))?;
    let with_source = |(path, value): (String, Value)| {
        let variable = format!("{PREFIX}__{}", path.replace('.', "__").to_uppercase());
        (path, (value, Source::Environment(variable)))
    };
    Ok(table.into_iter().map(with_source).collect())
}

/// Nested tables to dotted paths. An empty table stays, so that a misspelt section is noticed.
fn flatten(prefix: &str, table: HashMap<String, Value>, source: &Source, into: &mut Raw) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            ValueKind::Table(inner) if !inner.is_empty() => flatten(&path, inner, source, into),
            _ => {
                into.insert(path, (value, source.clone()));
            }
        }
    }
}

fn check_all(raw: &Raw, problems: &mut Vec<Problem>) -> BTreeMap<&'static str, (Checked, Source)> {
    let mut values = BTreeMap::new();
    for (path, (value, source)) in raw {
        let Some(key) = catalogue::find(path) else {
            if !is_empty_section(path, value) {
                problems.push(Problem::UnknownKey {
                    key: path.chars().take(120).collect(),
                    origin: source.clone(),
                    nearest: nearest(path),
                });
            }
            continue;
        };
        match check::value(key, value) {
            Ok(checked) => {
                values.insert(key.path, (checked, source.clone()));
            }
            Err(allowed) => problems.push(Problem::BadValue {
                key: key.path,
                value: check::shown(value),
                origin: source.clone(),
                allowed,
            }),
        }
    }
    values
}

fn is_empty_section(path: &str, value: &Value) -> bool {
    matches!(&value.kind, ValueKind::Table(inner) if inner.is_empty())
        && KEYS
            .iter()
            .any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn fill_defaults(
    service: Service,
    values: &mut BTreeMap<&'static str, (Checked, Source)>,
    raw: &Raw,
    problems: &mut Vec<Problem>,
) {
    for key in KEYS.iter().filter(|key| !raw.contains_key(key.path)) {
        let checked = match key.default {
            Default::Required if !key.is_read_by(service) => nothing(key),
            Default::Required => {
                problems.push(Problem::Missing { key: key.path, variable: key.variable() });
                continue;
            }
            Default::Integer(number) => Checked::Integer(number),
            Default::Boolean(yes) => Checked::Boolean(yes),
            Default::Text(text) => Checked::Text(text.to_owned()),
            Default::Processors => Checked::Integer(processors(key)),
            Default::HostOf(listener) => match listening_on(values, listener) {
                Some(address) => Checked::Text(advertised::host(address)),
                // Only when the address is wrong, which is reported already.
                None => continue,
            },
        };
        values.insert(key.path, (checked, Source::Default));
    }
}

/// What a key says that must be set, but not here.
fn nothing(key: &Key) -> Checked {
    match key.kind {
        Kind::Integer { .. } => Checked::Integer(0),
        _ => Checked::Text(String::new()),
    }
}

/// A listener's address; its key stands before the advertised host's, so its default is filled in already.
fn listening_on(
    values: &BTreeMap<&'static str, (Checked, Source)>,
    listener: &str,
) -> Option<std::net::SocketAddr> {
    match values.get(listener) {
        Some((Checked::Text(text), _)) => text.parse().ok(),
        _ => None,
    }
}

fn processors(key: &Key) -> i64 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    match key.kind {
        Kind::Integer { min, max } => count.clamp(min, max),
        _ => count,
    }
}

fn check_relations(
    values: &BTreeMap<&'static str, (Checked, Source)>,
    problems: &mut Vec<Problem>,
) {
    for relation in RELATIONS {
        let Relation { small, factor, large } = relation;
        let (Some((Checked::Integer(a), origin)), Some((Checked::Integer(b), _))) =
            (values.get(*small), values.get(*large))
        else {
            continue;
        };
        if a.saturating_mul(*factor) > *b {
            problems.push(Problem::BadValue {
                key: small,
                value: a.to_string(),
                origin: origin.clone(),
                allowed: format!("{relation} ({b})"),
            });
        }
    }
}

fn typed(
    values: &BTreeMap<&'static str, (Checked, Source)>,
) -> Result<Settings, config::ConfigError> {
    let mut builder = Config::builder();
    for (path, (value, _)) in values {
        builder = builder.set_override(*path, ValueKind::from(value.clone()))?;
    }
    builder.build()?.try_deserialize()
}

/// The known key a misspelt one most probably means: the fewest edits, if they are few.
fn nearest(path: &str) -> Option<&'static str> {
    const EDITS_MAX: usize = 4;
    if path.len() > 120 {
        return None;
    }
    let same_last = |key: &&Key| {
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        last(key.path) == last(path)
    };
    KEYS.iter()
        .map(|key| (edits(path, key.path), key))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= EDITS_MAX)
        .map(|(_, key)| key)
        .or_else(|| KEYS.iter().find(same_last))
        .map(|key| key.path)
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_insertions_deletions_and_replacements() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("same", "same"), 0);
    }
}
