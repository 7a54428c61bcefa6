//! What must hold at the end: nothing acknowledged is lost, nothing refused is there, and everybody knows the same.

use thalweg_metadata_core::Image;

use crate::client::History;

/// The first thing that is not as it must be, of the image of `host`.
pub(crate) fn check_image(host: &str, image: &Image, history: &History) -> Result<(), String> {
    let is_there = |name: &&String| image.topic(name).is_some();
    if let Some(lost) = history.created.iter().find(|name| !is_there(name)) {
        return Err(format!("I1: {lost} was created, and {host} does not know it"));
    }
    if let Some(phantom) = history.refused.iter().find(is_there) {
        return Err(format!("I10: {phantom} was refused, and {host} knows it"));
    }
    let asked = history.created.iter().chain(&history.unknown);
    let asked: std::collections::BTreeSet<_> = asked.map(String::as_str).collect();
    let strange = image.topics().find(|topic| !asked.contains(&*topic.name.to_string()));
    match strange {
        Some(topic) => Err(format!("I10: {} was never asked for", topic.name)),
        None => Ok(()),
    }
}

/// I16: at one position there is one image.
pub(crate) fn check_agreement(images: &[(String, std::sync::Arc<Image>)]) -> Result<(), String> {
    for (one, first) in images {
        for (other, second) in images {
            if first.position() == second.position() && first != second {
                return Err(format!("I16: {one} and {other} differ at {:?}", first.position()));
            }
        }
    }
    Ok(())
}
