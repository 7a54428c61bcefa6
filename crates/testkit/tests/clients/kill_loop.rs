//! kill -9 under producers that were promised their records are safe, over both protocols at once. `scripts/kill-loop` does more rounds.

use thalweg_testkit::{Client, Library, Server, kill_loop};

const ROUNDS: usize = 4;

#[test]
fn kill_minus_nine_loses_repeats_and_reorders_nothing() {
    let test = "kill -9 under producers";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let Some(mut server) = Server::start(test) else { return };

    let report = kill_loop(&mut server, client, ROUNDS, 7);

    println!("{report}");
    report.expect_sound();
    assert_eq!(report.recoveries.len(), ROUNDS);
    assert!(report.verdict.acknowledged > 500 && report.verdict.failed > 0, "{report}");
}
