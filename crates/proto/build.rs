//! Compiles every `proto/thalweg/**/*.proto` of the workspace, without `protoc`.
//!
//! A new file is picked up by being there: its package becomes the module of the same name in this crate. The descriptors of
//! everything go to `OUT_DIR/thalweg.descriptors.bin`, for server reflection.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use protox::prost::Message as _;

/// Fails the build with the compiler's own words: it names file, line and column.
fn main() -> Result<(), Box<dyn Error>> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let proto_root = manifest_dir.join("../../proto").canonicalize()?;
    println!("cargo::rerun-if-changed={}", proto_root.display());

    let mut files = Vec::new();
    collect_protos(&proto_root.join("thalweg"), &mut files)?;
    // Directory order differs by machine; the generated code must not.
    files.sort();

    let descriptors = protox::compile(&files, [&proto_root])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("thalweg.descriptors.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        // Payload fields are slices of the received frame, not copies of it.
        .bytes(".")
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .include_file("thalweg.modules.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

/// Depth is bounded by the tree in the repository, which holds no links.
fn collect_protos(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
            collect_protos(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(())
}
