//! `scripts/kill-loop [ROUNDS [SEED]]`: kills the server that `THALWEG_BIN` names under load, prints what came of it, fails when
//! anything was broken.

use std::process::ExitCode;

use thalweg_testkit::{Client, Library, Server, kill_loop};

const ROUNDS: usize = 30;

fn main() -> ExitCode {
    let number = |at| std::env::args().nth(at).map(|text| text.parse::<u64>().expect("a number"));
    let rounds = number(1).map_or(ROUNDS, |rounds| usize::try_from(rounds).unwrap_or(usize::MAX));
    let seed = number(2).unwrap_or_else(|| u64::from(std::process::id()));
    let test = "kill loop";
    let (Some(client), Some(mut server)) =
        (Client::find(Library::Librdkafka, test), Server::start(test))
    else {
        return ExitCode::from(2);
    };
    let report = kill_loop(&mut server, client, rounds, seed);
    println!("rounds        {rounds}");
    print!("{report}");
    let is_sound = report.verdict.violations.is_empty() && report.complaints.is_empty();
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
