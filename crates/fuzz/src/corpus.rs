//! The stored inputs of a target: `corpus/<target>/`, one file each.
//!
//! | name | from |
//! |---|---|
//! | `made-*` | our own encoders; written again by the `corpus` program |
//! | `found-*` | libFuzzer, because they reach code that the others do not |
//! | `failed-*` | a failure that has been mended since |

use std::path::PathBuf;
use std::{fs, io};

use crate::Target;

/// Prefix of the inputs that the `corpus` program writes and removes.
const MADE: &str = "made-";

/// Longest stored input.
pub const INPUT_BYTES_MAX: u64 = 8 * 1024;

/// The folder of a target's inputs.
pub fn folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The stored inputs with their names, in order of the names.
pub fn read(target: &Target) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(folder(target))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        inputs.push((name, fs::read(entry.path())?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Replaces the inputs that are made by encoders; returns how many there are now. What is longer than a stored input may be is left to
/// the replay, which makes all of them.
pub fn write_made(target: &Target) -> io::Result<usize> {
    let folder = folder(target);
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(MADE) {
            fs::remove_file(entry.path())?;
        }
    }
    let seeds = (target.seeds)();
    let small = seeds.iter().filter(|(_, input)| input.len() as u64 <= INPUT_BYTES_MAX);
    let mut count = 0;
    for (what, input) in small {
        fs::write(folder.join(format!("{MADE}{what}")), input)?;
        count += 1;
    }
    Ok(count)
}
