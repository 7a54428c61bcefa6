//! Writes the stored inputs that are made by our own encoders: `cargo run -p thalweg-fuzz --bin corpus [TARGET ...]`.

use thalweg_fuzz::{TARGETS, corpus};

fn main() -> std::io::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|given| given == name);
    for target in TARGETS.iter().filter(|target| is_wanted(target.name)) {
        let count = corpus::write_made(target)?;
        println!("{:24} {count} inputs", target.name);
    }
    Ok(())
}
