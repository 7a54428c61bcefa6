//! `cluster-figures failover|shutdown [RUNS [PARTITIONS]]`: three controllers, three brokers and a gateway with default timeouts, three
//! replicas a partition. Idempotent producers write over gRPC, one record at a time, to partitions of one broker, while that is killed or
//! told to stop. Prints for how long each of them was not acknowledged, and how often it was told that an outcome is unknown.
//!
//! `cluster-figures create [PARTITIONS]` prints how long creating them takes, in topics of 1,000, and until when a new gateway knows them.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thalweg_proto::admin::v1::admin_client::AdminClient;
use thalweg_proto::admin::v1::{self as admin, TopicDescription};
use thalweg_proto::producer::v1::producer_client::ProducerClient;
use thalweg_proto::producer::v1::{self as producer, produce_request::Payload};
use thalweg_rpc::{Error, channel};
use thalweg_testkit::cluster::Cluster;
use thalweg_testkit::network::Party;
use thalweg_testkit::{Shape, finish};
use thalweg_types::Outcome;

const TOPIC: &str = "figures";

/// Producers, each on a partition of its own.
const PRODUCERS: usize = 12;

/// Between an acknowledgement and the next record.
const PACE: Duration = Duration::from_millis(5);

/// Before the broker goes, and after everybody is acknowledged again.
const CALM: Duration = Duration::from_secs(2);

const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Killed,
    Stopped,
}

/// What one producer saw.
#[derive(Debug, Default)]
struct Seen {
    /// Longest time between two acknowledgements, in microseconds.
    gap_max: AtomicU64,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

fn main() -> ExitCode {
    let what = std::env::args().nth(1).unwrap_or_default();
    let number = |at| std::env::args().nth(at).map(|text| text.parse::<usize>().expect("a number"));
    let shape = Shape::new(3, 3, 1)
        .with("broker.session_timeout_ms", "9000")
        .with("broker.heartbeat_interval_ms", "2000");
    let Some(mut cluster) = Cluster::start("cluster figures", &shape) else {
        return ExitCode::from(2);
    };
    match what.as_str() {
        "failover" => interruptions(&mut cluster, End::Killed, (number(2), number(3))),
        "shutdown" => interruptions(&mut cluster, End::Stopped, (number(2), number(3))),
        "create" => creation(&mut cluster, number(2).unwrap_or(10_000)),
        _ => {
            eprintln!(
                "cluster-figures failover|shutdown [RUNS [PARTITIONS]] | create [PARTITIONS]"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

// ---- Interruptions --------------------------------------------------------------------------------------------------------------

fn interruptions(
    cluster: &mut Cluster,
    end: End,
    (runs, partitions): (Option<usize>, Option<usize>),
) {
    let (runs, partitions) = (runs.unwrap_or(10), partitions.unwrap_or(1_000));
    create(cluster, TOPIC, partitions);
    let (mut gaps, mut unknown, mut refused) = (Vec::new(), 0, 0);
    for run in 0..runs {
        wait_whole(cluster, partitions);
        let seen = interrupt(cluster, end, 1 + run % 3);
        let mut of_run: Vec<_> = seen.iter().map(|it| it.gap_max.load(Ordering::Relaxed)).collect();
        of_run.sort_unstable();
        let of_run_unknown: u64 = seen.iter().map(|it| it.unknown.load(Ordering::Relaxed)).sum();
        println!(
            "run {}: {} producers, not acknowledged for {} to {} ms, {of_run_unknown} unknown",
            run + 1,
            of_run.len(),
            of_run.first().map_or(0, |gap| gap / 1_000),
            of_run.last().map_or(0, |gap| gap / 1_000),
        );
        gaps.extend(of_run);
        unknown += of_run_unknown;
        refused += seen.iter().map(|it| it.refused.load(Ordering::Relaxed)).sum::<u64>();
    }
    gaps.sort_unstable();
    let at = |percent: usize| gaps.get((gaps.len() * percent / 100).min(gaps.len() - 1));
    let ms = |gap: Option<&u64>| gap.map_or(0, |gap| gap / 1_000);
    println!(
        "{end:?}, {partitions} partitions, {runs} runs: p50 {} ms, p99 {} ms, most {} ms; {unknown} unknown, {refused} refused",
        ms(at(50)),
        ms(at(99)),
        ms(gaps.last()),
    );
}

/// Producers on partitions of one broker, which ends under them and is started again.
fn interrupt(cluster: &mut Cluster, end: End, broker: usize) -> Vec<Arc<Seen>> {
    let grpc = cluster.grpc(1);
    let led = partitions_led_by(cluster, broker);
    assert!(led.len() >= PRODUCERS, "broker {broker} leads {} partitions", led.len());
    let stop = Arc::new(AtomicBool::new(false));
    let seen: Vec<_> = (0..PRODUCERS).map(|_| Arc::<Seen>::default()).collect();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    let step = led.len() / PRODUCERS;
    for (seen, partition) in seen.iter().zip(led.into_iter().step_by(step)) {
        runtime.spawn(produce(grpc, partition, Arc::clone(&stop), Arc::clone(seen)));
    }
    wait_served(&seen, &[0; PRODUCERS]);
    thread::sleep(CALM);
    for seen in &seen {
        seen.gap_max.store(0, Ordering::Relaxed);
    }
    match end {
        End::Killed => cluster.kill(Party::Broker(broker)),
        End::Stopped => drop(cluster.terminate(Party::Broker(broker))),
    }
    let before: Vec<_> = seen.iter().map(|it| it.acknowledged.load(Ordering::Relaxed)).collect();
    wait_served(&seen, &before);
    thread::sleep(CALM);
    stop.store(true, Ordering::Relaxed);
    cluster.restart(Party::Broker(broker));
    runtime.shutdown_timeout(Duration::from_secs(5));
    seen
}

/// Until each has acknowledgements that were not under way any more when it had as many as it had `before`.
fn wait_served(seen: &[Arc<Seen>], before: &[u64]) {
    let waiting = Instant::now();
    let is_served =
        |(it, before): (&Arc<Seen>, &u64)| it.acknowledged.load(Ordering::Relaxed) >= before + 3;
    while !seen.iter().zip(before).all(is_served) {
        assert!(waiting.elapsed() < PATIENCE, "a producer is not served");
        thread::sleep(Duration::from_millis(10));
    }
}

async fn produce(grpc: SocketAddr, partition: i32, stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    let channel = channel(&grpc.to_string()).expect("an address of a listener");
    let mut client = ProducerClient::new(channel);
    let identity = client.init_producer(producer::InitProducerRequest {}).await;
    let Ok(identity) = identity.map(tonic::Response::into_inner) else { return };
    let mut base_sequence = 0;
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let record = producer::Record { value: Some(vec![b'x'; 100].into()), ..Default::default() };
        let request = producer::ProduceRequest {
            topic: TOPIC.to_owned(),
            partition: Some(partition),
            payload: Some(Payload::Records(producer::Records { records: vec![record] })),
            producer: Some(producer::ProducerSequence {
                producer_id: identity.producer_id,
                producer_epoch: identity.producer_epoch,
                base_sequence,
            }),
            ..Default::default()
        };
        let error = match client.produce(request).await {
            Ok(answer) => {
                let first = answer.into_inner().partitions.pop();
                first.and_then(|partition| partition.error).map(Error::from_detail)
            }
            Err(status) => Some(Error::from(status)),
        };
        match error {
            None => {
                let gap = u64::try_from(last.elapsed().as_micros()).unwrap_or(u64::MAX);
                last = Instant::now();
                seen.gap_max.fetch_max(gap, Ordering::Relaxed);
                seen.acknowledged.fetch_add(1, Ordering::Relaxed);
                base_sequence += 1;
            }
            // Sent again with the same number: if it was written, it is not written twice.
            Some(error) if error.outcome == Outcome::Unknown => {
                seen.unknown.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => {
                seen.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

// ---- Creating -------------------------------------------------------------------------------------------------------------------

fn creation(cluster: &mut Cluster, partitions: usize) {
    let begun = Instant::now();
    for at in 0..partitions.div_ceil(1_000) {
        let since = Instant::now();
        create(cluster, &format!("figures-{at}"), partitions.min(1_000));
        println!("topic {at}: created in {} ms", since.elapsed().as_millis());
    }
    println!("{partitions} partitions: created in {} ms", begun.elapsed().as_millis());
    let begun = Instant::now();
    cluster.kill(Party::Gateway(1));
    cluster.spawn(Party::Gateway(1));
    cluster.wait_ready(Party::Gateway(1));
    println!("a new gateway is ready after {} ms", begun.elapsed().as_millis());
    let last = format!("figures-{}", partitions.div_ceil(1_000) - 1);
    while describe(cluster, &last).is_none_or(|topic| topic.error.is_some()) {
        thread::sleep(Duration::from_millis(5));
    }
    println!("a new gateway knows all of them after {} ms", begun.elapsed().as_millis());
}

// ---- The cluster ----------------------------------------------------------------------------------------------------------------

fn create(cluster: &Cluster, topic: &str, partitions: usize) {
    let count = partitions.to_string();
    let arguments = ["topic", "create", topic, "--partitions", &count, "--replication-factor", "3"];
    finish(&mut cluster.command(&arguments), b"").expect_success();
}

fn describe(cluster: &Cluster, topic: &str) -> Option<TopicDescription> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let mut client = AdminClient::new(channel(&cluster.grpc(1).to_string()).ok()?);
        let names = vec![topic.to_owned()];
        let request = admin::DescribeTopicsRequest { names, ..Default::default() };
        client.describe_topics(request).await.ok()?.into_inner().topics.pop()
    })
}

/// Waits until every replica is in sync, and gives the partitions back to their preferred leaders.
fn wait_whole(cluster: &Cluster, partitions: usize) {
    let waiting = Instant::now();
    loop {
        let mut topic = describe(cluster, TOPIC).unwrap_or_default();
        let known = topic.partitions.len();
        topic.partitions.retain(|it| it.in_sync_replicas.len() < 3);
        if known == partitions && topic.partitions.is_empty() {
            break;
        }
        let (lacking, one) = (topic.partitions.len(), topic.partitions.first());
        let what = "are known, and so many of them lack a replica in sync";
        assert!(waiting.elapsed() < PATIENCE, "{known} partitions {what}: {lacking}, {one:?}");
        thread::sleep(Duration::from_millis(100));
    }
    finish(&mut cluster.command(&["cluster", "elect"]), b"").expect_success();
    thread::sleep(CALM);
}

fn partitions_led_by(cluster: &Cluster, broker: usize) -> Vec<i32> {
    let mut led = Vec::new();
    let topic = describe(cluster, TOPIC).expect("the topic was made");
    let node = (0..topic.partitions.len())
        .find_map(|at| {
            let (leader, _) = cluster.replicas_of(TOPIC, at)?;
            (leader == broker).then(|| topic.partitions[at].leader)
        })
        .expect("the broker leads something");
    led.extend(topic.partitions.iter().filter(|it| it.leader == node).map(|it| it.partition));
    led
}
