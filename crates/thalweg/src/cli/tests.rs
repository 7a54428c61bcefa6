//! What is accepted, and what is not.

use clap::CommandFactory as _;
use thalweg_types::{Offset, Timestamp};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example() {
    fn check(command: &clap::Command) {
        if !command.has_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn bootstrap_may_stand_before_or_behind_the_command_and_loopback_is_an_address() {
    for line in [
        "thalweg --bootstrap localhost:1234 topic list",
        "thalweg topic list --bootstrap http://localhost:1234/",
    ] {
        assert_eq!(parse(line).unwrap().bootstrap.uri, "http://127.0.0.1:1234");
    }
    assert_eq!("node.example:50051".parse::<Bootstrap>().unwrap().uri, "http://node.example:50051");
    assert_eq!("[::1]:50051".parse::<Bootstrap>().unwrap().uri, "http://[::1]:50051");
    for wrong in ["", "localhost", ":1", "a b:1", "host:0", "host:70000", "https://host:1"] {
        assert!(wrong.parse::<Bootstrap>().is_err(), "{wrong}");
    }
}

#[test]
fn a_start_is_a_word_an_offset_or_a_time() {
    let start = |text: &str| text.parse::<StartAt>();
    assert_eq!(start("earliest"), Ok(StartAt::Earliest));
    assert_eq!(start("latest"), Ok(StartAt::Latest));
    assert_eq!(start("42"), Ok(StartAt::Offset(Offset(42))));
    assert_eq!(start("@42"), Ok(StartAt::Timestamp(Timestamp(42))));
    assert_eq!(start("1970-01-01T00:00:01Z"), Ok(StartAt::Timestamp(Timestamp(1000))));
    assert_eq!(start("1970-01-01T01:00:01.5+01:00"), Ok(StartAt::Timestamp(Timestamp(1500))));
    for wrong in ["", "-1", "@", "@-1", "@x", "yesterday", "1969-01-01T00:00:00Z"] {
        assert!(start(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn delimiters_know_the_usual_escapes() {
    let bytes = |text: &str| text.parse::<Delimiter>().map(|delimiter| delimiter.0);
    assert_eq!(bytes(r"\n"), Ok(b"\n".to_vec()));
    assert_eq!(bytes(r"a\tb\\c\x00\xffd"), Ok(b"a\tb\\c\x00\xffd".to_vec()));
    assert_eq!(bytes("ä"), Ok("ä".as_bytes().to_vec()));
    for wrong in ["", "\\", r"\q", r"\x1", r"\xzz", r"\xä"] {
        assert!(bytes(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn configs_take_times_and_sizes_with_units() {
    let value = |text: &str| text.parse::<Config>().unwrap().value;
    assert_eq!(value("retention.ms=1d"), "86400000");
    assert_eq!(value("retention.ms=90s"), "90000");
    assert_eq!(value("retention.ms=-1"), "-1");
    assert_eq!(value("segment.bytes=256MiB"), "268435456");
    assert_eq!(value("retention.bytes=5GB"), "5000000000");
    assert_eq!(value("retention.bytes=1000"), "1000");
    // What makes no sense is the server's to refuse, with the range.
    for strange in ["retention.ms=soon", "retention.ms=1y", "cleanup.policy=1d", "segment.bytes=d"]
    {
        assert_eq!(value(strange), strange.split_once('=').unwrap().1, "{strange}");
    }
    assert_eq!(value("retention.ms=99999999999999999999w"), "99999999999999999999w");
}

#[test]
fn configs_belong_to_a_topic_a_broker_or_the_cluster() {
    use super::config::{Config as Command, Resource};
    let change = |line: &str| match parse(line).unwrap().command {
        super::Command::Config(Command::Set(change)) => change.settings(),
        other => panic!("{other:?}"),
    };
    let (resource, settings) = change("thalweg config set topic t a=1 b=2").unwrap();
    assert_eq!(resource, Resource::Topic("t".parse().unwrap()));
    assert_eq!(settings.len(), 2);
    assert_eq!(change("thalweg config set broker 3 a=1").unwrap().0, Resource::Broker(3));
    assert_eq!(change("thalweg config set cluster a=1").unwrap().0, Resource::AllBrokers);
    for wrong in ["topic t", "topic a=1", "broker x a=1", "cluster a", "topic t/ a=1"] {
        assert!(change(&format!("thalweg config set {wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn wrong_usage_is_refused_with_exit_code_two() {
    for line in [
        "thalweg",
        "thalweg nonsense",
        "thalweg produce",
        "thalweg produce a/b",
        "thalweg produce t --acks 2",
        "thalweg produce t --compression brotli",
        "thalweg produce t --partition -1",
        "thalweg produce t --delivery-timeout 0s",
        "thalweg produce t --delivery-timeout 30",
        "thalweg produce t --delivery-timeout 5w",
        "thalweg consume t --from yesterday",
        "thalweg consume t --output xml",
        "thalweg consume t --no-delimiter --delimiter x",
        "thalweg topic create t --partitions 0",
        "thalweg topic create t --config retention.ms",
        "thalweg topic delete",
        "thalweg config",
        "thalweg config set",
        "thalweg config set group g a=1",
        "thalweg config describe",
        "thalweg standalone --data-dir d --kafka-address nowhere",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
}
