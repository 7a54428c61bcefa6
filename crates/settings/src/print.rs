//! `--print-config`: the settings in force as a TOML file, each line with where its value is from.

use std::fmt;

use crate::catalogue::{KEYS, Key};
use crate::layers::Loaded;

/// Column at which the origins begin, when the values leave room.
const ORIGIN_COLUMN: usize = 44;

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Settings of the {} in force, each with its origin.", self.service)?;
        let mut section = "";
        for key in in_sections().into_iter().filter(|key| key.is_read_by(self.service)) {
            let Some((value, source)) = self.values.get(key.path) else { continue };
            let (name_section, name) = split(key);
            if name_section != section {
                section = name_section;
                writeln!(f, "\n[{section}]")?;
            }
            let setting = format!("{name} = {}", value.to_toml());
            writeln!(f, "{setting:<ORIGIN_COLUMN$}  # {source}")?;
        }
        Ok(())
    }
}

/// The keys with those of one section together, sections in order of first appearance.
pub(crate) fn in_sections() -> Vec<&'static Key> {
    let mut sections: Vec<&str> = Vec::new();
    for key in KEYS {
        let (section, _) = split(key);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    sections
        .iter()
        .flat_map(|section| KEYS.iter().filter(move |key| split(key).0 == *section))
        .collect()
}

/// Section and name of a key.
pub(crate) fn split(key: &Key) -> (&'static str, &'static str) {
    key.path.rsplit_once('.').unwrap_or(("", key.path))
}
