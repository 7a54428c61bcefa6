//! The systems that are measured: how each is started, asked for a topic, and ended.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::Error;
use crate::figures;
use crate::{Protocol, kafka};

/// A system that takes longer to start, or to end, is broken.
const START_SECONDS_MAX: u64 = 60;
const PAUSE: Duration = Duration::from_millis(5);

/// What Apache Kafka's own start script gives its virtual machine.
const JAVA_OPTIONS: [&str; 7] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// What the systems are made of, and where they run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Site {
    /// The `thalweg` program.
    #[arg(long, default_value = "target/release/thalweg")]
    thalweg: PathBuf,
    /// Apache Kafka's jars; without them nothing is compared with it. `scripts/install-kafka` gets them.
    #[arg(long)]
    pub(crate) kafka_jars: Option<PathBuf>,
    /// Directory for data and logs; what it holds is deleted. On the file system that is to be measured.
    #[arg(long, default_value = "target/compare")]
    work: PathBuf,
}

/// A server in one of its ways to run.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    server: Server,
    topic_configs: &'static [(&'static str, &'static str)],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Thalweg,
    Kafka,
}

/// Ours, durable and not; then Apache Kafka as it comes (nothing is flushed before it is acknowledged) and flushing every batch.
pub(crate) fn all(with_kafka: bool) -> Vec<System> {
    let mut all = vec![
        System {
            name: "Thalweg, fsync",
            server: Server::Thalweg,
            topic_configs: &[("thalweg.durability", "fsync")],
        },
        System {
            name: "Thalweg, replicated",
            server: Server::Thalweg,
            topic_configs: &[("thalweg.durability", "replicated")],
        },
    ];
    if with_kafka {
        all.push(System { name: "Kafka", server: Server::Kafka, topic_configs: &[] });
        all.push(System {
            name: "Kafka, flush.messages=1",
            server: Server::Kafka,
            topic_configs: &[("flush.messages", "1")],
        });
    }
    all
}

impl System {
    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        self.server == Server::Thalweg || protocol == Protocol::Kafka
    }
}

/// A process that serves. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    name: &'static str,
    topic_configs: &'static [(&'static str, &'static str)],
    /// Kafka; gRPC, or Kafka's controller; HTTP.
    addresses: [SocketAddr; 3],
    log: PathBuf,
    pub(crate) started: Instant,
}

impl Running {
    /// On an empty directory.
    pub(crate) fn start(site: &Site, system: &System) -> Result<Self, Error> {
        let data = site.work.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::create_dir_all(&data)?;
        Self::start_on(site, system, [free_address()?, free_address()?, free_address()?])
    }

    /// Kills the server and starts it on what it left, at the same addresses. Returns once the new process runs.
    pub(crate) fn kill_and_restart(self, site: &Site, system: &System) -> Result<Self, Error> {
        let addresses = self.addresses;
        self.stop()?;
        Self::start_on(site, system, addresses)
    }

    fn start_on(site: &Site, system: &System, addresses: [SocketAddr; 3]) -> Result<Self, Error> {
        let data = site.work.join("data");
        let log = site.work.join("server.log");
        let mut command = match system.server {
            Server::Thalweg => thalweg(&site.thalweg, &data, addresses),
            Server::Kafka => {
                let jars = site.kafka_jars.clone().unwrap_or_default();
                apache_kafka(&jars, &site.work, &data, addresses)?
            }
        };
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        let child = command.spawn()?;
        let (name, topic_configs) = (system.name, system.topic_configs);
        Ok(Self { child, name, topic_configs, addresses, log, started })
    }

    /// Waits until the server makes the topic; returns how long that was after its start.
    pub(crate) fn make_topic(&self, topic: &str, partitions: i32) -> Result<Duration, Error> {
        loop {
            let made = kafka::Connection::open(self.address(Protocol::Kafka)).and_then(
                |mut connection| {
                    kafka::create_topic(&mut connection, topic, partitions, self.topic_configs)
                },
            );
            match made {
                Ok(()) => return Ok(self.started.elapsed()),
                Err(_) if self.started.elapsed().as_secs() < START_SECONDS_MAX => {
                    thread::sleep(PAUSE);
                }
                Err(_) => {
                    let log = self.log.display().to_string();
                    return Err(Error::NotReady(self.name, START_SECONDS_MAX, log));
                }
            }
        }
    }

    pub(crate) fn address(&self, protocol: Protocol) -> SocketAddr {
        let [kafka, grpc, _http] = self.addresses;
        match protocol {
            Protocol::Kafka => kafka,
            Protocol::Grpc => grpc,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        figures::resident_bytes(self.pid())
    }

    /// Ends it at once: what it has on disk is deleted before the next one starts.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended, or about to: there is nothing else to do about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn thalweg(program: &Path, data: &Path, [kafka, grpc, http]: [SocketAddr; 3]) -> Command {
    let mut command = Command::new(program);
    command.arg("standalone").arg("--data-dir").arg(data);
    command.args(["--kafka-address", &kafka.to_string()]);
    command.args(["--grpc-address", &grpc.to_string()]);
    command.args(["--http-address", &http.to_string()]);
    command
}

/// One node that is broker and controller, with default settings but for addresses and the replication of internal topics.
fn apache_kafka(
    jars: &Path,
    work: &Path,
    data: &Path,
    [address, controller, _]: [SocketAddr; 3],
) -> Result<Command, Error> {
    let properties = work.join("kafka.properties");
    let text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         log.dirs={}\n",
        data.display()
    );
    fs::write(&properties, text)?;
    let classes = format!("{}/*", jars.display());
    let mut command = Command::new("java");
    command.args(JAVA_OPTIONS).args(["-cp", &classes, "kafka.Kafka"]).arg(&properties);
    if data.join("meta.properties").exists() {
        return Ok(command);
    }
    let formatted = Command::new("java")
        .args(["-cp", &classes, "kafka.tools.StorageTool", "format"])
        .args(["-t", "AAAAAAAAQAAAAAAAAAAAAQ", "-c"])
        .arg(&properties)
        .stdout(Stdio::null())
        .stderr(File::create(work.join("format.log"))?)
        .status()?;
    if !formatted.success() {
        let log = work.join("format.log").display().to_string();
        return Err(Error::NotReady("Kafka's StorageTool", 0, log));
    }
    Ok(command)
}

/// An address nobody listens on at the moment.
fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
