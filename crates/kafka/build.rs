//! Turns `schema/*.kafka` into Rust: `messages.rs` for the crate, `samples.rs` for its tests.

#[path = "generator/emit.rs"]
mod emit;
#[path = "generator/emit_samples.rs"]
mod emit_samples;
#[path = "generator/emit_struct.rs"]
mod emit_struct;
#[path = "generator/model.rs"]
mod model;
#[path = "generator/parse.rs"]
mod parse;

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=generator");
    let mut paths: Vec<_> = fs::read_dir("schema")
        .expect("the schema folder is part of the crate")
        .map(|entry| entry.expect("a readable schema folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "kafka"))
        .collect();
    paths.sort();
    let mut calls = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(path).expect("a readable schema file");
        match parse::parse(&text) {
            Ok(call) => calls.push(call),
            Err(error) => panic!("{}:{error}", path.display()),
        }
    }
    calls.sort_by_key(|call| call.key);
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    fs::write(out.join("messages.rs"), emit::messages(&calls)).expect("OUT_DIR is writable");
    fs::write(out.join("samples.rs"), emit_samples::samples(&calls)).expect("OUT_DIR is writable");
}
