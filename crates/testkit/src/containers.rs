//! The cluster of `deploy/compose.yaml` in containers, as whoever operates it handles it: by `scripts/compose` and `docker`.
//!
//! A project of its own, on ports of its own, with volumes that go when the value is dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Finished, finish, finish_within};

/// Longest wait for a container to be well.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest run of a script: a rolling restart waits for every replica of every broker.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(200);

/// A compose project that is up.
#[derive(Debug)]
pub struct Containers {
    project: String,
    image: String,
    kafka: SocketAddr,
    grpc: SocketAddr,
    http: SocketAddr,
}

/// How many containers a service has, where it is not what the file says.
pub type Scale<'a> = &'a [(&'a str, usize)];

impl Containers {
    /// A project that is not up yet. Its ports are free at this moment.
    pub fn prepare(project: &str, image: &str) -> Self {
        let free = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("bound")
        };
        let (kafka, grpc, http) = (free(), free(), free());
        Self { project: project.to_owned(), image: image.to_owned(), kafka, grpc, http }
    }

    /// Starts what is not running and waits until it serves; gives how long that took.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up(&self, scale: Scale<'_>) -> Duration {
        let begun = Instant::now();
        let mut command = self.script("cluster");
        command.arg("up").arg("--no-recreate");
        for (service, count) in scale {
            command.arg("--scale").arg(format!("{service}={count}"));
        }
        finish(&mut command, b"").expect_success();
        begun.elapsed()
    }

    /// Stops and removes the containers; volumes are kept.
    pub fn down(&self) {
        finish(self.script("cluster").arg("down"), b"").expect_success();
    }

    /// Runs a script of the repository on this project.
    pub fn run_script(&self, name: &str, arguments: &[&str]) -> Finished {
        finish_within(self.script(name).args(arguments), b"", SCRIPT_PATIENCE)
    }

    /// Running containers of a service, in the order of their numbers.
    pub fn of(&self, service: &str) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let number = "{{.Label \"com.docker.compose.container-number\"}} {{.ID}}";
        let arguments = ["ps", "--filter", &project, "--filter", &service, "--format", number];
        let listed = docker(&arguments);
        let mut numbered: Vec<(u32, String)> = listed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(number, id)| (number.parse().unwrap_or(0), id.to_owned()))
            .collect();
        numbered.sort();
        numbered.into_iter().map(|(_, id)| id).collect()
    }

    /// Waits until a container's own health check is content.
    ///
    /// # Panics
    /// When it is not in time; shows the end of its log.
    pub fn wait_healthy(&self, container: &str) {
        let end = Instant::now() + PATIENCE;
        while docker(&["inspect", "--format", "{{.State.Health.Status}}", container]).trim()
            != "healthy"
        {
            if Instant::now() >= end {
                let log =
                    finish(Command::new("docker").args(["logs", "--tail", "20", container]), b"");
                panic!("{container} does not become healthy: {log:?}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Every interface of the container is gone, until it is put back.
    pub fn disconnect(&self, container: &str) {
        docker(&["network", "disconnect", "--force", &self.network(), container]);
    }

    pub fn reconnect(&self, container: &str) {
        docker(&["network", "connect", &self.network(), container]);
    }

    /// `thalweg ARGUMENTS` in a container of the image, against the gateways.
    pub fn thalweg(&self, arguments: &[&str]) -> Finished {
        let network = self.network();
        let fixed =
            ["run", "--rm", "--network", &network, &self.image, "--bootstrap", "edge:50051"];
        finish(Command::new("docker").args(fixed).args(arguments), b"")
    }

    /// Where Kafka clients outside begin.
    pub fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    fn network(&self) -> String {
        format!("{}_default", self.project)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(repository().join("scripts").join(name));
        command
            .env("THALWEG_PROJECT", &self.project)
            .env("THALWEG_IMAGE", &self.image)
            .env("THALWEG_KAFKA_PORT", self.kafka.port().to_string())
            .env("THALWEG_GRPC_PORT", self.grpc.port().to_string())
            .env("THALWEG_HTTP_PORT", self.http.port().to_string());
        command
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        // What is left over would be in the way of nobody but its owner.
        let _ = self.script("cluster").arg("destroy").output();
    }
}

/// Runs `docker` to its end; gives its output.
///
/// # Panics
/// When it fails.
pub fn docker(arguments: &[&str]) -> String {
    finish(Command::new("docker").args(arguments), b"").expect_success()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
