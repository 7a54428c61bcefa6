//! Which calls, in which versions, a listener answers.

use crate::codec::{DecodeError, EncodeError};
use crate::messages::ApiKey;

/// Versions `min..=max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}

/// One line of the table: a call and the versions of it that are advertised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiRange {
    pub key: ApiKey,
    pub versions: VersionRange,
}

/// The calls of one listener. ApiVersions is always among them, since the listener itself answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTable {
    ranges: Vec<ApiRange>,
}

impl VersionRange {
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub(crate) fn check_decode(self, version: i16) -> Result<(), DecodeError> {
        let Self { min, max } = self;
        if self.contains(version) {
            return Ok(());
        }
        Err(DecodeError::UnsupportedVersion { version, min, max })
    }

    pub(crate) fn check_encode(self, version: i16) -> Result<(), EncodeError> {
        let Self { min, max } = self;
        if self.contains(version) {
            return Ok(());
        }
        Err(EncodeError::UnsupportedVersion { version, min, max })
    }
}

impl ApiTable {
    /// `keys` in every version this crate knows.
    pub fn of(keys: &[ApiKey]) -> Self {
        let mut ranges: Vec<_> = keys
            .iter()
            .chain([&ApiKey::ApiVersions])
            .map(|key| ApiRange { key: *key, versions: advertised(*key) })
            .collect();
        ranges.sort_by_key(|range| range.key);
        ranges.dedup_by_key(|range| range.key);
        Self { ranges }
    }

    /// The same table with fewer versions of `key`, or with `key` added.
    #[must_use]
    pub fn with(mut self, key: ApiKey, versions: VersionRange) -> Self {
        self.ranges.retain(|range| range.key != key);
        self.ranges.push(ApiRange { key, versions });
        self.ranges.sort_by_key(|range| range.key);
        self
    }

    pub fn get(&self, key: ApiKey) -> Option<VersionRange> {
        self.ranges.iter().find(|range| range.key == key).map(|range| range.versions)
    }

    pub fn ranges(&self) -> &[ApiRange] {
        &self.ranges
    }
}

/// What is said to clients. Produce is offered from version 0 although 0-2 are refused: librdkafka takes a higher minimum for a
/// server without message format 2 and drops features (KAFKA-18659).
fn advertised(key: ApiKey) -> VersionRange {
    let versions = key.versions();
    match key {
        ApiKey::Produce => VersionRange { min: 0, ..versions },
        _ => versions,
    }
}
