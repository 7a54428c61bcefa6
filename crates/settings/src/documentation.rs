//! The reference of all keys, written from the catalogue into docs/configuration.md.

use std::fmt::Write as _;

use crate::catalogue::{Default, Key, RELATIONS};
use crate::check;
use crate::print::{in_sections, split};

/// The table of every key, in Markdown.
pub fn reference() -> String {
    let mut text = String::new();
    let mut section = "";
    for key in in_sections() {
        let (key_section, _) = split(key);
        if key_section != section {
            section = key_section;
            let _ = write!(
                text,
                "\n### `[{section}]`\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n"
            );
        }
        let _ = writeln!(text, "{}", row(key));
    }
    text.push_str("\n### Together\n\nBesides its own range, this must hold between keys:\n\n");
    for relation in RELATIONS {
        let _ = writeln!(text, "- `{}` is {relation}", relation.small);
    }
    text
}

fn row(key: &Key) -> String {
    let default = match key.default {
        Default::Required => "must be set".to_owned(),
        Default::Integer(number) => format!("`{number}`"),
        Default::Boolean(yes) => format!("`{yes}`"),
        Default::Text(text) => format!("`\"{text}\"`"),
        Default::Processors => "the number of processors".to_owned(),
        Default::HostOf(listener) => {
            format!("the host of `{listener}`; the host name when that is every interface")
        }
    };
    let kafka = key.broker_config.map(|name| format!(" Kafka's `{name}`.")).unwrap_or_default();
    let cluster = if key.in_cluster_only { " Not read by `standalone`." } else { "" };
    let allowed = check::allowed(key.kind);
    format!("| `{}` | {default} | {allowed} | {}{kafka}{cluster} |", key.path, key.doc)
}
