//! `thalweg config` against the whole system: what it shows, what it changes, and that changes take effect.

use std::process::{Command, Output};

use serde_json::Value;
use thalweg_testkit::{Server, finish};

struct Shell(Server);

impl Shell {
    fn start() -> Option<Self> {
        Server::start("thalweg config").map(Self)
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_thalweg"))
            .args(arguments.split_whitespace())
            .args(["--bootstrap", &self.0.grpc().to_string()])
            .output()
            .expect("the binary")
    }

    fn ok(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", errors(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Name, value and source of every config shown for the first resource.
    fn shown(&self, arguments: &str) -> Vec<(String, String, String)> {
        let facts: Value =
            serde_json::from_str(&self.ok(&format!("{arguments} --output json"))).expect("JSON");
        let text =
            |config: &Value, field: &str| config[field].as_str().unwrap_or_default().to_owned();
        let configs = facts[0]["configs"].as_array().expect("configs").iter();
        configs
            .map(|config| (text(config, "name"), text(config, "value"), text(config, "source")))
            .collect()
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn set(name: &str, value: &str, source: &str) -> (String, String, String) {
    (name.to_owned(), value.to_owned(), source.to_owned())
}

#[test]
fn configs_are_set_shown_and_taken_back_on_every_level() {
    let Some(shell) = Shell::start() else { return };
    shell.ok("topic create orders");
    assert_eq!(shell.shown("config describe topic orders"), []);

    let changed = shell.shown("config set topic orders retention.ms=1d segment.bytes=256MiB");
    let by_topic =
        [set("retention.ms", "86400000", "topic"), set("segment.bytes", "268435456", "topic")];
    assert_eq!(changed, by_topic);
    shell.ok("config unset topic orders segment.bytes");
    shell.ok("config set cluster log.segment.bytes=3MiB");
    shell.ok("config set broker 1 log.segment.bytes=4MiB");
    let described = shell.shown("config describe topic orders");
    assert_eq!(
        described,
        [set("retention.ms", "86400000", "topic"), set("segment.bytes", "4194304", "broker")]
    );
    let of_all = shell.shown("config describe cluster");
    assert_eq!(of_all, [set("log.segment.bytes", "3145728", "all brokers")]);
    let everything = shell.shown("config describe broker --all");
    assert!(everything.contains(&set("node.id", "1", "settings")), "{everything:?}");
    assert!(everything.contains(&set("num.partitions", "1", "default")), "{everything:?}");
    let table = shell.ok("config describe broker 1");
    assert!(table.starts_with("RESOURCE  CONFIG"), "{table}");

    shell.ok("config append topic orders cleanup.policy=compact");
    let policy = shell.shown("config subtract topic orders cleanup.policy=delete");
    assert_eq!(policy, [set("cleanup.policy", "compact", "topic")]);
    let dry = shell.shown("config set topic orders cleanup.policy=delete --dry-run");
    assert_eq!(dry, policy);
}

#[test]
fn a_change_measures_the_next_batch_and_survives_a_restart() {
    let Some(mut shell) = Shell::start() else { return };
    shell.ok("topic create orders");
    let bootstrap = shell.0.grpc().to_string();
    let produce = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
        command.args(["produce", "orders", "--bootstrap", &bootstrap]);
        finish(&mut command, &[b'x'; 10_000])
    };
    produce().expect_success();
    shell.ok("config set cluster message.max.bytes=5000");
    assert!(produce().expect_failure().contains("MESSAGE_TOO_LARGE"));
    shell.ok("config set topic orders max.message.bytes=20000");
    produce().expect_success();

    assert!(shell.0.terminate().success());
    shell.0.restart();
    produce().expect_success();
    shell.ok("config unset topic orders max.message.bytes");
    assert!(produce().expect_failure().contains("MESSAGE_TOO_LARGE"));
    shell.ok("config unset cluster message.max.bytes");
    produce().expect_success();
}

#[test]
fn refusals_say_what_to_do() {
    let Some(shell) = Shell::start() else { return };
    shell.ok("topic create orders");
    for (arguments, code, said) in [
        ("config set topic orders segment.bytes=14", 1, "1048576 to 2147483647"),
        ("config set topic orders no.such=1", 1, "config describe topic orders --all"),
        ("config set cluster retention.ms=1d", 1, "of brokers it is log.retention.ms"),
        ("config set broker 1 num.partitions=3", 1, "settings file"),
        ("config set broker 1 min.insync.replicas=2", 1, "all brokers"),
        ("config set topic absent retention.ms=1d", 1, "UNKNOWN_TOPIC_OR_PARTITION"),
        ("config append topic orders retention.ms=1d", 1, "no list"),
        ("config describe topic absent", 1, "there is no topic absent"),
        ("config describe broker 9", 1, "broker 9"),
        ("config set topic orders retention.ms", 2, "NAME=VALUE"),
        ("config unset topic orders retention.ms=1d", 2, "without a value"),
        ("config set topic orders", 2, "which configs"),
        ("config describe topic", 2, "which topic"),
    ] {
        let output = shell.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {}", errors(&output));
        assert!(errors(&output).contains(said), "{arguments}: {}", errors(&output));
    }
    assert_eq!(shell.shown("config describe topic orders"), [], "nothing was changed");
}
