//! `thalweg cluster features`.

use serde_json::json;
use thalweg_proto::admin::v1 as proto;

use crate::cli::OutputFormat;
use crate::cli::cluster::FeatureLevel;
use crate::client::{Failure, Server, output};

pub(super) async fn run(
    server: &Server,
    levels: Vec<FeatureLevel>,
    downgrade: bool,
    validate_only: bool,
    format: OutputFormat,
) -> Result<(), Failure> {
    if !levels.is_empty() {
        let update = |FeatureLevel { name, level }| proto::FeatureUpdate { name, level, downgrade };
        let updates = levels.into_iter().map(update).collect();
        let request = proto::UpdateFeaturesRequest { updates, validate_only };
        server.admin().update_features(request).await.map_err(|status| server.failed(status))?;
    }
    let request = proto::DescribeFeaturesRequest {};
    let response =
        server.admin().describe_features(request).await.map_err(|status| server.failed(status))?;
    let features = response.into_inner().features;
    let facts: Vec<_> = features
        .iter()
        .map(|feature| {
            json!({
                "name": feature.name,
                "level": feature.level,
                "level_min": feature.level_min,
                "level_max": feature.level_max,
            })
        })
        .collect();
    let rows = features.iter().map(|feature| {
        let supported = format!("{} to {}", feature.level_min, feature.level_max);
        vec![feature.name.clone(), feature.level.to_string(), supported]
    });
    Ok(output::write(format, &facts, &["feature", "level", "supported"], rows.collect())?)
}
