//! Coordinators that die and stand still while groups read and commit: another one takes over, nothing is read by nobody, and
//! nothing committed is lost.

use std::time::{SystemTime, UNIX_EPOCH};

use thalweg_testkit::members::{
    Member, assert_commits_never_go_back, assert_owned_by_one, wait_until_read,
};
use thalweg_testkit::network::Party;
use thalweg_testkit::{Client, Cluster, Library, RecordLine, Shape};

const PARTITIONS: i32 = 4;
const RECORDS_PER_ROUND: i64 = 50;

fn records() -> Vec<RecordLine> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let timestamp_ms = i64::try_from(since.as_millis()).expect("it is before the year 200,000,000");
    let record = |i: i64| RecordLine {
        timestamp_ms,
        key: None,
        value: Some(vec![i as u8]),
        headers: vec![],
    };
    (0..RECORDS_PER_ROUND).map(record).collect()
}

#[test]
fn groups_survive_coordinators_that_die_and_stand_still() {
    let test = "groups survive their coordinators";
    let Some(client) = Client::find(Library::Librdkafka, test) else { return };
    let shape = Shape::new(1, 1, 0)
        .coordinators(2)
        .with("coordinator.groups.initial_rebalance_delay_ms", "300")
        .with("broker.offsets_topic_partitions", "4");
    let Some(mut cluster) = Cluster::start(test, &shape) else { return };
    let bootstrap = cluster.bootstrap();
    client.run(&bootstrap, "create", &["topic", &PARTITIONS.to_string()]).expect_success();
    let mut end = 0;
    let mut produce = || {
        for partition in 0..PARTITIONS {
            client.produce(&bootstrap, "topic", partition, "none", &records());
        }
        end += RECORDS_PER_ROUND;
        end
    };
    let join = |group: &str| Member::join(&client, &bootstrap, "topic", group, "range");
    // Several groups, so that each coordinator has some.
    let mut groups: Vec<Vec<Member>> =
        ["a", "b", "c", "d"].map(|group| vec![join(group), join(group)]).into();
    let all_read = |groups: &[Vec<Member>], end| {
        for members in groups {
            wait_until_read(members, PARTITIONS, end);
        }
    };
    all_read(&groups, produce());

    cluster.kill(Party::Coordinator(1));
    all_read(&groups, produce());
    cluster.restart(Party::Coordinator(1));
    all_read(&groups, produce());

    cluster.pause(Party::Coordinator(2));
    all_read(&groups, produce());
    cluster.resume(Party::Coordinator(2));
    all_read(&groups, produce());

    for members in &mut groups {
        members.iter_mut().for_each(Member::leave);
        assert_owned_by_one(members);
        assert_commits_never_go_back(members);
    }
}
