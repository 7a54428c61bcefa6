//! `make test-containers`: the cluster of deploy/compose.yaml under load from outside, while its containers are killed, paused, disconnected,
//! scaled, restarted and made anew. Prints what came of it, fails when anything was broken. The image is the one `THALWEG_IMAGE` names.

use std::process::ExitCode;

use thalweg_testkit::containers::Containers;
use thalweg_testkit::{Client, Library, Step, container_run};

fn main() -> ExitCode {
    let image = std::env::var("THALWEG_IMAGE").unwrap_or_else(|_| "thalweg:latest".to_owned());
    let Some(client) = Client::find(Library::Librdkafka, "container run") else {
        return ExitCode::from(2);
    };
    let containers = Containers::prepare("thalweg-test", &image);
    let report = container_run(&containers, client, &Step::ALL);
    print!("{report}");
    let is_sound = report.verdict.violations.is_empty() && report.complaints.is_empty();
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
