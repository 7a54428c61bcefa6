//! Other people's Kafka clients, behind the command-line programs that `scripts/install-test-clients` builds.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Finished, finish};
use crate::record_line::RecordLine;
use crate::skip::skip;

/// A client library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// Through Python's `confluent-kafka`.
    Librdkafka,
    Java,
    FranzGo,
}

/// A client program that is installed.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    library: Library,
}

impl Library {
    pub const ALL: [Self; 3] = [Self::Librdkafka, Self::Java, Self::FranzGo];

    fn program(self) -> PathBuf {
        let file = match self {
            Self::Librdkafka => "python/.installed",
            Self::Java => "java/client.jar",
            Self::FranzGo => "go-client",
        };
        clients_directory().join(file)
    }
}

impl Client {
    /// The library's program, or a recorded skip of the test.
    pub fn find(library: Library, test: &str) -> Option<Self> {
        if library.program().exists() {
            return Some(Self { library });
        }
        skip(test, &format!("no {library:?} client: run scripts/install-test-clients"));
        None
    }

    pub fn library(&self) -> Library {
        self.library
    }

    /// The program with a verb of `clients/README.md` and its arguments, on the cluster that one of the addresses of `kafka` is of.
    pub fn command(&self, kafka: impl ToString, verb: &str, arguments: &[&str]) -> Command {
        let directory = clients_directory();
        let mut command = match self.library {
            Library::Librdkafka => {
                let mut command = Command::new(directory.join("python/bin/python"));
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/client.py"));
                command
            }
            Library::Java => {
                let mut command = Command::new("java");
                // The cheapest start: these processes live a second.
                command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-cp"]);
                command.arg(format!("{0}/java/client.jar:{0}/java/lib/*", directory.display()));
                command.arg("Client");
                command
            }
            Library::FranzGo => Command::new(directory.join("go-client")),
        };
        command.arg(kafka.to_string()).arg(verb).args(arguments);
        command
    }

    /// Runs a verb to its end.
    pub fn run(&self, kafka: impl ToString, verb: &str, arguments: &[&str]) -> Finished {
        finish(&mut self.command(kafka, verb, arguments), &[])
    }

    /// Produces `records`, idempotently and with acks=all; returns each record's offset.
    ///
    /// # Panics
    /// When any record is not acknowledged.
    pub fn produce(
        &self,
        kafka: impl ToString,
        topic: &str,
        partition: i32,
        codec: &str,
        records: &[RecordLine],
    ) -> Vec<i64> {
        let input: String = records.iter().map(RecordLine::to_line).collect();
        let arguments = [topic, &partition.to_string(), codec];
        let mut command = self.command(kafka, "produce", &arguments);
        let output = finish(&mut command, input.as_bytes()).expect_success();
        let mut offsets = vec![-1; records.len()];
        for line in output.lines() {
            let (index, offset) = parse_ack(line);
            offsets[index] = offset;
        }
        assert!(!offsets.contains(&-1), "{:?}: a record has no offset: {offsets:?}", self.library);
        offsets
    }

    /// Reads `count` records of a partition from an offset on, by assignment.
    ///
    /// # Panics
    /// When they do not come.
    pub fn consume(
        &self,
        kafka: impl ToString,
        topic: &str,
        partition: i32,
        from: i64,
        count: usize,
    ) -> Vec<(i64, RecordLine)> {
        let arguments = [topic, &partition.to_string(), &from.to_string(), &count.to_string()];
        let output = self.run(kafka, "consume", &arguments).expect_success();
        output.lines().map(RecordLine::parse).collect()
    }
}

/// Index and offset of an `ack INDEX OFFSET` line of the produce verb.
pub(crate) fn parse_ack(line: &str) -> (usize, i64) {
    let parts: Vec<_> = line.split(' ').collect();
    match parts[..] {
        ["ack", index, offset] => {
            (index.parse().expect("an index"), offset.parse().expect("an offset"))
        }
        _ => panic!("not an acknowledgement: {line:?}"),
    }
}

/// The system's kcat on a broker, or a recorded skip of the test.
pub fn kcat(kafka: SocketAddr, test: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(program) =
        std::env::split_paths(&path).map(|folder| folder.join("kcat")).find(|file| file.exists())
    else {
        skip(test, "no kcat: run scripts/install-test-clients");
        return None;
    };
    let mut command = Command::new(program);
    command.args(["-b", &kafka.to_string()]);
    Some(command)
}

/// Where the client programs were built.
pub(crate) fn clients_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients")
}
