//! Data directories that a server must not start on: it ends with an error that says what is wrong and what to do, and what is on the disk
//! stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use thalweg_testkit::{Finished, Server, finish};

const TEST: &str = "strange data directories";

/// A server that was stopped cleanly, with a topic that has one record.
fn stopped_server() -> Option<Server> {
    let mut server = Server::start(TEST)?;
    finish(&mut server.command(&["topic", "create", "orders"]), &[]).expect_success();
    finish(&mut server.command(&["produce", "orders"]), b"kept\n").expect_success();
    assert!(server.terminate().success());
    Some(server)
}

fn start_on(server: &Server, data: &Path) -> Finished {
    let mut command = Command::new(server.program());
    command.arg("standalone").arg("--data-dir").arg(data);
    for address in ["--kafka-address", "--grpc-address", "--http-address"] {
        command.args([address, "127.0.0.1:0"]);
    }
    finish(&mut command, &[])
}

/// The end of the process and its last words: exit code 1, and one error that has all of `words`.
fn refused(finished: Finished, words: &[&str]) {
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    let said = finished.stderr.lines().find(|line| line.starts_with("thalweg: "));
    let said = said.unwrap_or_else(|| panic!("no error in {}", finished.stderr));
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("the file can be read");
                found.insert(path, bytes);
            }
        }
    }
    found
}

fn same(before: &BTreeMap<PathBuf, Vec<u8>>, folder: &Path) {
    let after = files(folder);
    let changed: Vec<_> = before
        .iter()
        .filter(|(path, bytes)| after.get(*path) != Some(*bytes))
        .map(|(path, _)| path)
        .chain(after.keys().filter(|path| !before.contains_key(*path)))
        .collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}

fn is_served(server: &Server) {
    let mut consume = server.command(&["consume", "orders"]);
    assert!(finish(&mut consume, &[]).expect_success().contains("kept"));
}

#[test]
fn half_a_data_directory_is_refused_and_left_alone_until_the_other_half_is_back() {
    let Some(mut server) = stopped_server() else { return };
    let data = server.data_directory();
    let away = tempfile::tempdir_in(data.parent().expect("it is in a directory"))
        .expect("the temporary directory is writable");
    for (lost, words) in [
        ("logs", ["storage.meta", "not mounted", "empty directory"]),
        ("metadata", ["missing or empty", "not mounted", "empty directory"]),
    ] {
        let aside = away.path().join(lost);
        fs::rename(data.join(lost), &aside).expect("both are on one disk");
        for emptied in [false, true] {
            if emptied {
                fs::create_dir(data.join(lost)).expect("the data directory is writable");
            }
            let before = files(&data);
            refused(start_on(&server, &data), &words);
            same(&before, &data);
        }
        fs::remove_dir_all(data.join(lost)).expect("it is empty");
        fs::rename(&aside, data.join(lost)).expect("both are on one disk");
    }
    server.restart();
    is_served(&server);
}

#[test]
fn logs_of_another_cluster_are_refused_and_left_alone_until_they_are_where_they_belong() {
    let (Some(mut server), Some(other)) = (stopped_server(), stopped_server()) else { return };
    let (own, foreign) =
        (server.data_directory().join("logs"), other.data_directory().join("logs"));
    let aside = server.data_directory().join("aside");
    fs::rename(&own, &aside).expect("both are on one disk");
    fs::rename(&foreign, &own).expect("both are on one disk");
    let before = files(&own);

    refused(
        start_on(&server, &server.data_directory()),
        &["belongs to cluster", "Put the one back"],
    );

    same(&before, &own);
    fs::rename(&own, &foreign).expect("both are on one disk");
    fs::rename(&aside, &own).expect("both are on one disk");
    server.restart();
    is_served(&server);
}

#[test]
fn what_is_no_directory_or_has_no_readable_identity_is_refused_with_advice() {
    let Some(server) = stopped_server() else { return };
    let data = server.data_directory();
    let file = data.with_file_name("file");
    fs::write(&file, "not a directory").expect("the temporary directory is writable");
    refused(start_on(&server, &file), &["A file is in the way", "--data-dir"]);
    refused(start_on(&server, &file.join("below")), &["A file is in the way"]);
    assert_eq!(fs::read(&file).expect("it is there"), b"not a directory");

    let meta = data.join("logs").join("storage.meta");
    let text = fs::read_to_string(&meta).expect("it is text");
    fs::write(&meta, text.replace("node.id=1", "node.id=2")).expect("it is writable");
    let before = files(&data);
    refused(start_on(&server, &data), &["storage.meta", "damaged", "Restore it"]);
    same(&before, &data);
}
