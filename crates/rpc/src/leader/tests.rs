//! Nodes that refuse, hang and answer, on loopback.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use thalweg_types::{LeaderEpoch, NodeId, PartitionIndex, TopicName, TopicPartition};
use tonic::server::NamedService;

use super::*;
use crate::{LeaderHint, Routes, Server, ServerHandle, ServerOptions};

/// Answers every call in the same way.
#[derive(Clone)]
struct Node {
    answer: Arc<dyn Fn() -> Status + Send + Sync>,
    calls: Arc<AtomicUsize>,
}

impl NamedService for Node {
    const NAME: &'static str = "test.Node";
}

impl Service<Request<Body>> for Node {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let node = self.clone();
        Box::pin(async move {
            assert_eq!(collect(request.into_body()).await.unwrap(), "what is asked");
            node.calls.fetch_add(1, Ordering::Relaxed);
            Ok((node.answer)().into_http())
        })
    }
}

struct Running {
    endpoint: String,
    calls: Arc<AtomicUsize>,
    _server: ServerHandle,
}

impl Running {
    fn count(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

fn node(answer: impl Fn() -> Status + Send + Sync + 'static) -> Running {
    let calls = Arc::new(AtomicUsize::new(0));
    let node = Node { answer: Arc::new(answer), calls: Arc::clone(&calls) };
    let server = Server::new(ServerOptions::default());
    let server = server.serve("127.0.0.1:0".parse().unwrap(), Routes::new().with(node)).unwrap();
    Running { endpoint: server.local_addr().unwrap().to_string(), calls, _server: server }
}

fn fine() -> Status {
    Status::ok("")
}

fn refusal(endpoint: Option<String>) -> Status {
    let error = Error::new(ErrorCode::NotController, "ask the other one").not_applied();
    let partition = TopicPartition {
        topic: TopicName::new("__cluster_metadata").unwrap(),
        partition: PartitionIndex(0),
    };
    let hint = LeaderHint { partition, node_id: NodeId(2), leader_epoch: LeaderEpoch(1), endpoint };
    error.with_leader(hint).into()
}

/// Nobody listens there: the port was free a moment ago.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn channel_to(endpoints: &[&str]) -> LeaderChannel {
    let options = LeaderOptions {
        repeatable: |path| path.ends_with("/Repeat"),
        wait_first: Duration::from_millis(5),
        wait_max: Duration::from_millis(20),
        ..LeaderOptions::default()
    };
    LeaderChannel::new(endpoints.iter().map(|it| (*it).to_owned()).collect(), options).unwrap()
}

async fn call(channel: &LeaderChannel, method: &str, timeout: &str) -> Result<(), Error> {
    let request = Request::post(format!("http://test/test.Node/{method}"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", timeout)
        .body(Body::new(Whole::new(Bytes::from_static(b"what is asked"))))
        .unwrap();
    let response = channel.clone().oneshot(request).await.unwrap();
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != tonic::Code::Ok => Err(status.into()),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn a_refusal_points_to_the_leader_and_the_next_call_goes_there_at_once() {
    let leader = node(fine);
    let hint = leader.endpoint.clone();
    let follower = node(move || refusal(Some(hint.clone())));
    let channel = channel_to(&[&follower.endpoint]);
    call(&channel, "Once", "20S").await.unwrap();
    call(&channel, "Once", "20S").await.unwrap();
    assert_eq!((follower.count(), leader.count()), (1, 2));
}

#[tokio::test]
async fn a_node_that_is_not_there_is_passed_over() {
    let leader = node(fine);
    let channel = channel_to(&[&nobody(), &nobody(), &leader.endpoint]);
    call(&channel, "Once", "20S").await.unwrap();
    assert_eq!(leader.count(), 1);
}

#[tokio::test]
async fn an_unknown_outcome_is_told_unless_the_call_may_be_repeated() {
    let unsure = node(|| Error::from(ErrorCode::RequestTimedOut).outcome_unknown().into());
    let leader = node(fine);
    let channel = channel_to(&[&unsure.endpoint, &leader.endpoint]);
    let error = call(&channel, "Once", "20S").await.unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown);
    assert_eq!((unsure.count(), leader.count()), (1, 0));
    call(&channel, "Repeat", "20S").await.unwrap();
    assert_eq!((unsure.count(), leader.count()), (2, 1));
}

#[tokio::test]
async fn without_a_leader_the_callers_time_ends_it_and_nothing_was_applied() {
    let follower = node(|| refusal(None));
    let channel = channel_to(&[&follower.endpoint, &nobody()]);
    // A try that the caller's time cuts off is unknown, and rightly so: on a busy machine that may happen to some calls, never to all.
    for _ in 0..20 {
        let error = call(&channel, "Once", "300m").await.unwrap_err();
        if error.outcome == Outcome::NotApplied {
            assert!(follower.count() > 1);
            return;
        }
        assert_eq!(error.code, ErrorCode::RequestTimedOut, "{error}");
    }
    panic!("refusals alone never ended a call");
}

#[tokio::test]
async fn other_errors_are_answers() {
    let leader = node(|| Error::from(ErrorCode::TopicAlreadyExists).into());
    let other = node(fine);
    let channel = channel_to(&[&leader.endpoint, &other.endpoint]);
    let error = call(&channel, "Repeat", "20S").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::TopicAlreadyExists);
    assert_eq!((leader.count(), other.count()), (1, 0));
}

#[tokio::test]
async fn addresses_are_checked_first() {
    let options = LeaderOptions::default();
    assert!(matches!(LeaderChannel::new(Vec::new(), options), Err(InvalidEndpoints::Empty)));
    let wrong = vec!["no port".to_owned()];
    assert!(matches!(LeaderChannel::new(wrong, options), Err(InvalidEndpoints::Invalid(_))));
}

/// It takes connections and says nothing, as one that was stopped in its tracks.
#[tokio::test]
async fn who_gives_up_on_a_silent_node_asks_another_one_next() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let leader = node(fine);
    let channel = channel_to(&[&silent.local_addr().unwrap().to_string(), &leader.endpoint]);
    let patience = SILENCE_MIN + Duration::from_millis(50);
    let waited = tokio::time::timeout(patience, call(&channel, "Repeat", "20S")).await;
    assert!(waited.is_err());
    call(&channel, "Repeat", "20S").await.unwrap();
    assert_eq!(leader.count(), 1);
}
