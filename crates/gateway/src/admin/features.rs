//! Features of the whole cluster: told from the image, changed by the controller.

use std::collections::BTreeSet;

use thalweg_metadata_core::{FEATURES, Feature, Image};
use thalweg_proto::admin::v1 as proto;
use thalweg_proto::internal::controller::v1 as controller;
use thalweg_rpc::{Deadline, Error};

use super::changes::CHANGE_TIME_MAX;
use crate::port::BrokerPort;
use crate::shared::{Shared, on_behalf};
use crate::words;

/// Features of one call.
const UPDATES_MAX: usize = 1_000;

pub(super) fn describe(image: &Image) -> proto::DescribeFeaturesResponse {
    let known = FEATURES.iter().map(|feature| feature.name);
    let names: BTreeSet<&str> = known.chain(image.features().map(|(name, _)| name)).collect();
    let describe = |name: &str| {
        let feature = Feature::find(name);
        proto::FeatureDescription {
            name: name.to_owned(),
            level: image.feature_level(name).into(),
            level_min: feature.map_or(0, |feature| feature.level_min.into()),
            level_max: feature.map_or(0, |feature| feature.level_max.into()),
        }
    };
    proto::DescribeFeaturesResponse {
        features: names.into_iter().map(describe).collect(),
        metadata_index: image.position().index.0,
    }
}

pub(super) async fn update<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::UpdateFeaturesRequest,
    deadline: Deadline,
) -> Result<proto::UpdateFeaturesResponse, Error> {
    words::some_but_at_most("updates", request.updates.len(), UPDATES_MAX)?;
    let update = |update: proto::FeatureUpdate| controller::FeatureUpdate {
        name: update.name,
        level: update.level,
        downgrade: update.downgrade,
    };
    let message = controller::UpdateFeaturesRequest {
        updates: request.updates.into_iter().map(update).collect(),
        validate_only: request.validate_only,
    };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().update_features(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    Ok(proto::UpdateFeaturesResponse {})
}
