//! The client commands: what they share.

use std::process::ExitCode;
use std::time::Duration;

use thalweg_proto::admin::v1 as admin;
use thalweg_proto::admin::v1::admin_client::AdminClient;
use thalweg_rpc::MESSAGE_BYTES_MAX;
use tokio::runtime;
use tonic::transport::Channel;

use crate::cli::values::Bootstrap;

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod group;
pub(crate) mod health;
pub(crate) mod output;
pub(crate) mod produce;
pub(crate) mod topic;

mod failure;

pub(crate) use failure::Failure;

/// How long a topic just made may be without leaders before a command gives up on it.
const LEADER_WAIT: Duration = Duration::from_secs(10);
const LEADER_POLL: Duration = Duration::from_millis(50);

/// Runs a command to its end and turns the outcome into an exit code.
pub(crate) fn run(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let outcome =
        runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from).and_then(
            |runtime| {
                let outcome = runtime.block_on(command);
                // A reader may sit in a read of standard input that never returns.
                runtime.shutdown_background();
                outcome
            },
        );
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough (`| head`).
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("thalweg: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The system as a client sees it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    uri: String,
    channel: Channel,
}

impl Server {
    /// Opens no connection yet; the first call does.
    pub(crate) fn at(bootstrap: &Bootstrap) -> Result<Self, Failure> {
        let channel = thalweg_rpc::channel(&bootstrap.uri)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Self { uri: bootstrap.uri.clone(), channel })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A failed call, told with the address it went to.
    pub(crate) fn failed(&self, status: tonic::Status) -> Failure {
        Failure::from_status(&self.uri, status)
    }

    /// Partitions, replicas and configs of one topic.
    pub(crate) async fn describe_topic(
        &self,
        name: &str,
    ) -> Result<admin::TopicDescription, Failure> {
        let request =
            admin::DescribeTopicsRequest { names: vec![name.to_owned()], topic_ids: Vec::new() };
        let response =
            self.admin().describe_topics(request).await.map_err(|status| self.failed(status))?;
        match response.into_inner().topics.into_iter().next() {
            Some(admin::TopicDescription { error: Some(error), .. }) => {
                Err(Failure::refused(format!("topic {name}"), error))
            }
            Some(topic) => Ok(topic),
            None => Err(Failure::Protocol(format!("no answer about topic {name}"))),
        }
    }

    /// Describes a topic once every partition has a leader: right after its creation it takes a moment.
    pub(crate) async fn describe_led_topic(
        &self,
        name: &str,
    ) -> Result<admin::TopicDescription, Failure> {
        let waiting_since = tokio::time::Instant::now();
        loop {
            let topic = self.describe_topic(name).await?;
            let led = topic.partitions.iter().all(|partition| partition.leader >= 0);
            if led || waiting_since.elapsed() > LEADER_WAIT {
                return Ok(topic);
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }
}
