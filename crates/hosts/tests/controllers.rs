//! Seeds of the simulated quorum, each in a process of its own, and the same seed twice.

#![expect(clippy::print_stdout, reason = "the figures of a run are part of its result")]

use std::process::{Command, Output};

/// Seeds of a test run.
const SEEDS: u64 = 20;

/// Further ones, run twice.
const TWICE: u64 = 4;

fn run(seed: u64) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg-hosts"));
    command.arg(seed.to_string()).arg("--trace").output().expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The number before a word of the last line.
fn figure(text: &str, word: &str) -> u64 {
    let words: Vec<_> = text.lines().last().unwrap_or_default().split([' ', ',']).collect();
    let at = words.iter().position(|it| *it == word).expect("the word is in the summary");
    words[at - 1].parse().expect("a number is before it")
}

fn end_of(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

#[test]
fn what_was_created_is_never_lost_and_everybody_learns_it() {
    let (mut created, mut unknown, mut faults, mut seconds) = (0, 0, 0, 0);
    for seed in 1..=SEEDS {
        let output = run(seed);
        let text = text(&output);
        assert!(output.status.success(), "seed {seed}:\n{}", end_of(&text));
        created += figure(&text, "created");
        unknown += figure(&text, "unknown");
        faults += figure(&text, "faults");
        seconds += figure(&text, "seconds");
    }
    println!("{SEEDS} seeds, {seconds} s, {faults} faults: {created} created, {unknown} unknown");
    assert!(created > 30 * SEEDS, "hardly anything was created: {created}");
    assert!(faults > 3 * SEEDS, "hardly anything went wrong: {faults}");
}

#[test]
fn the_same_seed_is_the_same_trace() {
    let mut traces = Vec::new();
    for seed in 101..=100 + TWICE {
        let (first, second) = (text(&run(seed)), text(&run(seed)));
        let parted = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert_eq!(parted, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert!(first.lines().count() > 100, "{first}");
        traces.push(first);
    }
    traces.dedup();
    assert_eq!(traces.len() as u64, TWICE, "different seeds are different runs");
}
