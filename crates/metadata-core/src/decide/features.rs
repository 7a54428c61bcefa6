//! Raising and lowering the levels of features (KIP-584). The changes of one request happen all or none.

use std::collections::BTreeSet;

use super::Decision;
use crate::error::{Error, FeatureRefusal};
use crate::features::{FEATURES, Feature};
use crate::image::Image;
use crate::record::Record;

/// A level wanted for one feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureUpdate {
    pub name: String,
    /// 0 switches it off.
    pub level: i16,
    /// Otherwise it may only be raised. What a lower level cannot work with is not looked for: whoever uses the feature is told so then.
    pub may_lower: bool,
}

impl Image {
    /// The facts that a new cluster begins with.
    pub(super) fn first_features() -> impl Iterator<Item = Record> {
        let on = FEATURES.iter().filter(|feature| feature.level_default > 0);
        on.map(|feature| Record::FeatureSet {
            name: feature.name.to_owned(),
            level: feature.level_default,
        })
    }

    pub fn decide_update_features(
        &self,
        updates: &[FeatureUpdate],
        validate_only: bool,
    ) -> Result<Decision<()>, Error> {
        let mut records = Vec::new();
        let mut seen = BTreeSet::new();
        for update in updates {
            let refuse = |reason| Error::InvalidFeature { name: update.name.clone(), reason };
            if !seen.insert(&update.name) {
                return Err(refuse(FeatureRefusal::Repeated));
            }
            if self.check_update(update).map_err(refuse)? {
                let (name, level) = (update.name.clone(), update.level);
                records.push(Record::FeatureSet { name, level });
            }
        }
        if validate_only {
            records.clear();
        }
        Ok(Decision { records, response: () })
    }

    /// Whether it changes anything.
    fn check_update(&self, update: &FeatureUpdate) -> Result<bool, FeatureRefusal> {
        let FeatureUpdate { name, level, may_lower } = update;
        let feature = Feature::find(name).ok_or(FeatureRefusal::Unknown)?;
        if !feature.supports(*level) {
            let (min, max) = (feature.level_min, feature.level_max);
            return Err(FeatureRefusal::Unsupported { level: *level, min, max });
        }
        let current = self.feature_level(name);
        if *level < current && !may_lower {
            return Err(FeatureRefusal::Lower { level: *level, current });
        }
        if *level > current && *may_lower {
            return Err(FeatureRefusal::Higher { level: *level, current });
        }
        Ok(*level != current)
    }
}
