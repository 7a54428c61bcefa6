//! Setting up logs. One process can do it once, so this file holds one test.

use thalweg_telemetry::{InitLogsError, LogFormat, init_logs};

#[test]
fn a_bad_filter_and_a_second_set_up_are_errors() {
    let error = init_logs(LogFormat::Text, "thalweg=loud").expect_err("not a level");
    assert!(matches!(error, InitLogsError::Filter { .. }), "{error}");
    assert!(error.to_string().contains("thalweg=loud"), "{error}");

    init_logs(LogFormat::Json, "info,thalweg_storage=debug").expect("a good filter");

    let error = init_logs(LogFormat::Json, "info").expect_err("a second time");
    assert!(matches!(error, InitLogsError::Twice(_)), "{error}");
}
