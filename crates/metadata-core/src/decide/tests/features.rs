//! Features: what a new cluster has, and how levels move.

use super::*;
use crate::{FeatureUpdate, GROUP_VERSION};

fn to(name: &str, level: i16, may_lower: bool) -> FeatureUpdate {
    FeatureUpdate { name: name.to_owned(), level, may_lower }
}

#[test]
fn a_new_cluster_has_the_default_levels_and_only_what_is_asked_for_moves_them() {
    let mut cluster = Cluster::of_brokers(1);
    assert_eq!(cluster.image.feature_level(GROUP_VERSION), 1);
    let mut update = |updates: &[FeatureUpdate], validate_only| {
        let decision = cluster.image.decide_update_features(updates, validate_only);
        let decision = decision.map_err(|error| error.code())?;
        cluster.commit(&decision.records);
        Ok((decision.records.len(), cluster.image.feature_level(GROUP_VERSION)))
    };
    assert_eq!(update(&[to(GROUP_VERSION, 1, false)], false), Ok((0, 1)), "it is there already");
    let wrong = Err(ErrorCode::InvalidUpdateVersion);
    assert_eq!(update(&[to(GROUP_VERSION, 0, false)], false), wrong, "lowered without a word");
    assert_eq!(update(&[to(GROUP_VERSION, 2, false)], false), wrong);
    assert_eq!(update(&[to(GROUP_VERSION, -1, true)], false), wrong);
    assert_eq!(update(&[to("no.such", 1, false)], false), wrong);
    let both = [to(GROUP_VERSION, 0, true), to("no.such", 1, false)];
    assert_eq!(update(&both, false), wrong, "all or none");
    let twice = [to(GROUP_VERSION, 0, true), to(GROUP_VERSION, 0, true)];
    assert_eq!(update(&twice, false), Err(ErrorCode::InvalidRequest));
    assert_eq!(update(&[to(GROUP_VERSION, 0, true)], true), Ok((0, 1)), "only checked");
    assert_eq!(update(&[to(GROUP_VERSION, 0, true)], false), Ok((1, 0)));
    assert_eq!(update(&[to(GROUP_VERSION, 1, true)], false), wrong, "that is no downgrade");
    assert_eq!(update(&[to(GROUP_VERSION, 1, false)], false), Ok((1, 1)));
    let image = &cluster.image;
    assert_eq!(Image::restore(image.position(), &image.to_records()), *image);
}
