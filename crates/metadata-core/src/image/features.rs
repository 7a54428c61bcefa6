//! The levels that features have been raised to.

use std::sync::Arc;

use super::Image;

impl Image {
    /// The level at which a feature works; 0: it is off.
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Features that are on, in order of name.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    pub(super) fn set_feature(&mut self, name: &str, level: i16) {
        let features = Arc::make_mut(&mut self.features);
        match level {
            0 => features.remove(name),
            _ => features.insert(name.to_owned(), level),
        };
    }
}
