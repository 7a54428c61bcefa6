//! UpdateFeatures (KIP-584), and what ApiVersions says of features.

use thalweg_kafka::messages::update_features::{FeatureUpdateKey, UpdatableFeatureResult};
use thalweg_kafka::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use thalweg_kafka::{Features, KafkaString};
use thalweg_metadata_core::{FEATURES, FeatureUpdate, Image};
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, LogIndex};

use crate::Member;

/// Values of `upgrade_type`.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// First version that says which way a level is to go.
const UPGRADE_TYPE_SINCE: i16 = 1;

/// What this build can do, and what of it is on.
pub fn features(image: &Image) -> Features {
    let supported = FEATURES.iter().map(|it| (it.name, it.level_min, it.level_max));
    let finalized = image.features().map(|(name, level)| (name.to_owned(), level));
    Features {
        supported: supported.collect(),
        epoch: i64::try_from(image.position().index.0).unwrap_or(i64::MAX),
        finalized: finalized.collect(),
    }
}

pub(crate) async fn update_features<M: Member>(
    member: &M,
    version: i16,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let names: Vec<_> = request.feature_updates.iter().map(|one| one.feature.clone()).collect();
    let image = member.image();
    let updates = request.feature_updates.into_iter().map(|wanted| update(&image, version, wanted));
    let updated = match updates.collect::<Result<Vec<_>, _>>() {
        Ok(updates) => member.controller().update_features(updates, request.validate_only).await,
        Err(error) => Err(error),
    };
    if let Ok(index) = updated {
        member.served(index).await;
    }
    answer(&names, &updated)
}

fn update(image: &Image, version: i16, wanted: FeatureUpdateKey) -> Result<FeatureUpdate, Error> {
    let (name, level) = (wanted.feature.to_string(), wanted.max_version_level);
    let may_lower = match wanted.upgrade_type {
        // Then it is allowed, not asked for.
        _ if version < UPGRADE_TYPE_SINCE => {
            wanted.allow_downgrade && level < image.feature_level(&name)
        }
        UPGRADE => false,
        SAFE_DOWNGRADE | UNSAFE_DOWNGRADE => true,
        other => {
            let message = format!("feature {name:?}: there is no upgrade type {other}");
            return Err(Error::new(ErrorCode::InvalidUpdateVersion, message).not_applied());
        }
    };
    Ok(FeatureUpdate { name, level, may_lower })
}

/// All happened, or none: what is wrong with one is told of the call, and of each in the versions that have a place for it.
fn answer(names: &[KafkaString], updated: &Result<LogIndex, Error>) -> UpdateFeaturesResponse {
    let (error_code, error_message) = match updated {
        Ok(_) => (ErrorCode::None.code(), None),
        Err(error) => (error.code.code(), Some(KafkaString::from(error.message.clone()))),
    };
    let result = |feature: &KafkaString| UpdatableFeatureResult {
        feature: feature.clone(),
        error_code,
        error_message: error_message.clone(),
    };
    UpdateFeaturesResponse {
        throttle_time_ms: 0,
        error_code,
        error_message: error_message.clone(),
        results: names.iter().map(result).collect(),
    }
}
