//! Features: what the whole cluster does or does not do yet, each by a level that an operator raises when every node can (KIP-584).
//!
//! What this build can do is the table here; what holds is a fact. A feature at level 0 is off, which is the same as not being named.

/// A feature this build knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// Levels this build can work at.
    pub level_min: i16,
    pub level_max: i16,
    /// Of a new cluster.
    pub level_default: i16,
}

/// The consumer group protocol of KIP-848.
pub const GROUP_VERSION: &str = "group.version";

/// All of them, in order of name, which are Kafka's.
pub const FEATURES: &[Feature] =
    &[Feature { name: GROUP_VERSION, level_min: 0, level_max: 1, level_default: 1 }];

impl Feature {
    pub fn find(name: &str) -> Option<&'static Self> {
        FEATURES.iter().find(|feature| feature.name == name)
    }

    pub fn supports(&self, level: i16) -> bool {
        (self.level_min..=self.level_max).contains(&level)
    }
}
