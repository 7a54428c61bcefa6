//! libFuzzer over one target, named by `THALWEG_FUZZ_TARGET`. Built and run by `scripts/fuzz`, which instruments the code.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use thalweg_fuzz::{Target, find};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("THALWEG_FUZZ_TARGET").unwrap_or_default();
    match find(&name) {
        Some(target) => target,
        None => {
            eprintln!("THALWEG_FUZZ_TARGET={name} is no target; these are:");
            for target in thalweg_fuzz::TARGETS {
                eprintln!("  {}", target.name);
            }
            std::process::exit(2);
        }
    }
});

fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
    },
    |input: &[u8]| (TARGET.run)(input)
);
