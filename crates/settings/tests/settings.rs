//! Precedence of the layers, and what is said about mistakes.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use thalweg_settings::catalogue::{Default, KEYS, Kind};
use thalweg_settings::{Broker, Layers, Loaded, Problem, Service, SettingsError, Source};
use thalweg_types::Durability;

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("a file that can be written");
    file
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn with_data_dir() -> Layers {
    Layers::new().flag("standalone.data_dir", "--data-dir", Some("/tmp/data"))
}

fn load_file(text: &str) -> Result<Loaded, SettingsError> {
    with_data_dir().file(Some(file(text).path().to_owned())).load(Service::Standalone)
}

#[test]
fn defaults_fill_every_setting_but_the_data_directory() {
    let loaded = with_data_dir().load(Service::Standalone).unwrap();

    assert_eq!(loaded.settings.standalone.data_dir, Path::new("/tmp/data"));
    assert_eq!(loaded.settings.broker.log.segment_bytes, 1 << 30);
    assert_eq!(loaded.settings.broker.durability, Durability::Fsync);
    assert_eq!(loaded.settings.broker.kafka.advertised_host, "127.0.0.1");
    assert!(loaded.settings.broker.kafka.runtimes >= 1);
    assert_eq!(loaded.source("broker.log.segment_bytes"), Some(&Source::Default));
    assert!(loaded.broker_configs().is_empty());
}

#[test]
fn each_layer_overrides_the_one_below_it() {
    let config = file(
        "[broker.log]\nsegment_bytes = 2000000\nretention_ms = 1000\nindex_interval_bytes = 100\n",
    );
    let loaded = with_data_dir()
        .file(Some(config.path().to_owned()))
        .environment(variables(&[
            ("THALWEG__BROKER__LOG__SEGMENT_BYTES", "3000000"),
            ("THALWEG__BROKER__LOG__RETENTION_MS", "-1"),
            ("THALWEG_BOOTSTRAP", "elsewhere:1"),
            ("PATH", "/bin"),
        ]))
        .flag("broker.log.segment_bytes", "--segment-bytes", Some(4_000_000))
        .load(Service::Standalone)
        .unwrap();

    let log = &loaded.settings.broker.log;
    assert_eq!(
        (log.segment_bytes, log.retention_ms, log.index_interval_bytes),
        (4_000_000, -1, 100)
    );
    let variable = "THALWEG__BROKER__LOG__RETENTION_MS".to_owned();
    assert_eq!(loaded.source("broker.log.segment_bytes"), Some(&Source::Flag("--segment-bytes")));
    assert_eq!(loaded.source("broker.log.retention_ms"), Some(&Source::Environment(variable)));
    let path = config.path().to_owned();
    assert_eq!(loaded.source("broker.log.index_interval_bytes"), Some(&Source::File(path)));
    assert_eq!(
        loaded.broker_configs(),
        [
            ("log.segment.bytes", "4000000".to_owned()),
            ("log.index.interval.bytes", "100".to_owned()),
            ("log.retention.ms", "-1".to_owned()),
        ]
    );
}

#[test]
fn text_from_the_environment_takes_the_type_of_its_key_and_never_becomes_a_list() {
    let loaded = with_data_dir()
        .environment(variables(&[
            ("THALWEG__STANDALONE__DATA_DIR", "/ignored"),
            ("THALWEG__OPERATIONS__LOG_FILTER", "info,thalweg_storage=debug"),
            ("THALWEG__BROKER__KAFKA__ADVERTISED_HOST", "12"),
            ("THALWEG__BROKER__AUTO_CREATE_TOPICS", "false"),
        ]))
        .load(Service::Standalone)
        .unwrap();

    assert_eq!(loaded.settings.operations.log_filter, "info,thalweg_storage=debug");
    assert_eq!(loaded.settings.broker.kafka.advertised_host, "12");
    assert!(!loaded.settings.broker.auto_create_topics);
}

#[test]
fn an_unknown_key_is_named_with_its_origin_and_the_nearest_known_one() {
    let config = file("[broker.log]\nsegment_byte = 1\n[broker.journl]\n");
    let error = with_data_dir()
        .file(Some(config.path().to_owned()))
        .environment(variables(&[("THALWEG__BROKER__KAFKA__ADRESS", "127.0.0.1:1")]))
        .load(Service::Standalone)
        .unwrap_err();

    let text = error.to_string();
    assert_eq!(error.problems.len(), 3, "{text}");
    assert!(text.contains("unknown key `broker.log.segment_byte` (file /"), "{text}");
    assert!(text.contains("did you mean `broker.log.segment_bytes`?"), "{text}");
    assert!(text.contains("unknown key `broker.journl`"), "{text}");
    assert!(
        text.contains(
            "unknown key `broker.kafka.adress` (environment THALWEG__BROKER__KAFKA__ADRESS)"
        ),
        "{text}"
    );
}

#[test]
fn an_impossible_value_is_named_with_key_value_origin_and_range() {
    let error = with_data_dir()
        .environment(variables(&[("THALWEG__BROKER__LOG__SEGMENT_BYTES", "17")]))
        .flag("broker.kafka.address", "--kafka-address", Some("nowhere"))
        .load(Service::Standalone)
        .unwrap_err();

    let text = error.to_string();
    assert!(
        text.contains(
            "`broker.log.segment_bytes` = \"17\" (environment THALWEG__BROKER__LOG__SEGMENT_BYTES) is not allowed: \
             expected a whole number from 1048576 to 2147483647"
        ),
        "{text}"
    );
    assert!(
        text.contains("`broker.kafka.address` = \"nowhere\" (flag --kafka-address) is not allowed"),
        "{text}"
    );
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    for text in [
        "[broker.log]\nsegment_bytes = 2.5e6\n",
        "[broker.log]\nsegment_bytes = [1048576]\n",
        "[broker.log]\nsegment_bytes = {}\n",
        "[broker]\nauto_create_topics = 1\n",
        "[broker]\ndurability = \"sync\"\n",
        "[broker.kafka]\naddress = \"localhost:9092\"\n",
        "[broker.kafka]\nadvertised_host = \"example:9092\"\n",
        "[operations]\nlog_format = \"xml\"\n",
    ] {
        let error = load_file(text).expect_err(text);
        assert!(
            error.problems.iter().all(|problem| matches!(problem, Problem::BadValue { .. })),
            "{text}: {error}"
        );
    }
}

#[test]
fn values_that_do_not_fit_together_are_refused() {
    let error = load_file(
        "[broker.journal]\nfile_bytes = 134217728\nspace_bytes_max = 134217728\n\
         [broker.log]\nmax_message_bytes = 2000000\nsegment_bytes = 1048576\n",
    )
    .unwrap_err();

    let text = error.to_string();
    assert!(
        text.contains("expected at most 1/4 of `broker.journal.space_bytes_max` (134217728)"),
        "{text}"
    );
    assert!(text.contains("expected at most `broker.log.segment_bytes` (1048576)"), "{text}");
}

#[test]
fn a_missing_required_key_says_how_to_set_it() {
    let error = Layers::new().load(Service::Standalone).unwrap_err();
    assert!(error.to_string().contains("THALWEG__STANDALONE__DATA_DIR"), "{error}");
}

#[test]
fn a_file_that_is_absent_or_not_toml_is_an_error_with_its_path() {
    let absent = with_data_dir()
        .file(Some(PathBuf::from("/nowhere/thalweg.toml")))
        .load(Service::Standalone);
    assert!(absent.unwrap_err().to_string().contains("/nowhere/thalweg.toml"));

    let error = load_file("[broker\n").unwrap_err();
    assert!(matches!(error.problems[..], [Problem::File { .. }]), "{error}");
}

#[test]
fn the_printed_configuration_loads_to_the_same_settings() {
    let loaded = with_data_dir()
        .flag("broker.log.retention_ms", "--retention", Some(-1))
        .flag("operations.log_filter", "--filter", Some("a=\"b\\c\",info"))
        .load(Service::Standalone)
        .unwrap();
    let printed = loaded.to_string();

    let again = Layers::new()
        .file(Some(file(&printed).path().to_owned()))
        .load(Service::Standalone)
        .unwrap();

    assert_eq!(again.settings, loaded.settings);
    let lines = printed.lines().filter(|line| line.contains(" = "));
    let read = KEYS.iter().filter(|key| key.is_read_by(Service::Standalone));
    assert_eq!(lines.clone().count(), read.count());
    assert!(lines.clone().all(|line| line.contains("  # ")), "{printed}");
    assert!(printed.contains("# flag --retention"), "{printed}");
}

/// A file with what every service must have, of which each takes its own.
const CLUSTER: &str = "[cluster]\ncontrollers = \"a:9190,b:9190\"\n\
    [controller]\nnode_id = 2\nvoters = \"1@a:9190, 2@b:9190\"\ndata_dir = \"/tmp/controller\"\n\
    [broker]\ndata_dir = \"/tmp/broker\"\nrack = \"r1\"\ninternal.address = \"127.0.0.2:9191\"\n";

#[test]
fn one_file_serves_every_service_and_each_prints_what_it_reads() {
    let config = file(CLUSTER);
    let services = [Service::Controller, Service::Broker, Service::Coordinator, Service::Gateway];
    for service in services {
        let loaded = Layers::new().file(Some(config.path().to_owned())).load(service).unwrap();
        let printed = loaded.to_string();

        let again = Layers::new().file(Some(file(&printed).path().to_owned())).load(service);
        assert_eq!(again.unwrap().to_string().lines().count(), printed.lines().count());
        let prints = |key: &str| printed.contains(key);
        assert_eq!(prints("voters = "), service == Service::Controller, "{printed}");
        assert_eq!(prints("controllers = "), service != Service::Controller, "{printed}");
        assert_eq!(prints("[broker.kafka]\naddress"), service == Service::Broker, "{printed}");
        let knows_topics = matches!(service, Service::Controller | Service::Broker);
        assert_eq!(prints("num_partitions"), knows_topics, "{printed}");
    }
    let loaded = Layers::new().file(Some(config.path().to_owned())).load(Service::Broker).unwrap();
    let Broker { data_dir, rack, internal, .. } = loaded.settings.broker;
    assert_eq!((data_dir.to_str(), rack.as_str()), (Some("/tmp/broker"), "r1"));
    assert_eq!(internal.advertised_host, "127.0.0.2");
    let controllers: Vec<_> =
        loaded.settings.cluster.controllers.iter().map(ToString::to_string).collect();
    assert_eq!(controllers, ["a:9190", "b:9190"]);
    assert_eq!(loaded.settings.controller.voters[1].node_id, 2);
}

#[test]
fn each_service_asks_for_what_it_cannot_do_without() {
    let missing = |service| {
        let error = Layers::new().load(service).unwrap_err();
        let keys = error.problems.iter().filter_map(|problem| match problem {
            Problem::Missing { key, .. } => Some(*key),
            _ => None,
        });
        keys.collect::<Vec<_>>()
    };
    assert_eq!(missing(Service::Standalone), ["standalone.data_dir"]);
    assert_eq!(
        missing(Service::Controller),
        ["controller.node_id", "controller.voters", "controller.data_dir"]
    );
    assert_eq!(missing(Service::Broker), ["cluster.controllers", "broker.data_dir"]);
    assert_eq!(missing(Service::Gateway), ["cluster.controllers"]);
}

#[test]
fn a_controller_must_be_one_of_the_voters() {
    let load = |id: &str, voters: &str| {
        Layers::new()
            .flag("controller.node_id", "--node-id", Some(id))
            .flag("controller.voters", "--voters", Some(voters))
            .flag("controller.data_dir", "--data-dir", Some("/tmp/data"))
            .load(Service::Controller)
    };
    assert!(load("2", "1@a:1,2@b:1").is_ok());

    let text = load("3", "1@a:1,2@b:1").unwrap_err().to_string();
    assert!(
        text.contains(
            "`controller.node_id` = 3 (flag --node-id) is not allowed: expected one of the ids in `controller.voters`: 1, 2"
        ),
        "{text}"
    );
    for voters in ["", "1@a:1,1@b:1", "1@a:1,2@a:1", "1@a", "a:1", "0@a:1"] {
        let text = load("1", voters).unwrap_err().to_string();
        assert!(text.contains("`controller.voters` = "), "{text}");
        assert!(text.contains("1@controller-1:9190,2@controller-2:9190"), "{text}");
    }
}

#[test]
fn every_default_lies_within_its_own_range() {
    for key in KEYS {
        match (key.default, key.kind) {
            (Default::Integer(number), Kind::Integer { min, max }) => {
                assert!((min..=max).contains(&number), "{}", key.path);
            }
            (Default::Text(text), Kind::Choice(words)) => {
                assert!(words.contains(&text), "{}", key.path)
            }
            _ => {}
        }
    }
}

/// Run with `UPDATE_DOCS=1` to write the reference anew.
#[test]
fn the_reference_in_the_documentation_is_the_catalogue() {
    const BEGIN: &str = "<!-- keys: begin -->\n";
    const END: &str = "\n<!-- keys: end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();

    let expected = format!("{before}{BEGIN}{}{END}{after}", thalweg_settings::reference());

    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == expected,
        "docs/configuration.md is behind the catalogue: run the tests of thalweg-settings with UPDATE_DOCS=1"
    );
}
