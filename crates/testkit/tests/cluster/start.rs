//! What a process says that cannot work, or not yet.

use std::process::Command;

use thalweg_testkit::network::Party;
use thalweg_testkit::{Cluster, Shape, finish};

use crate::alone;

/// A broker before its controllers, and one that loses them.
#[test]
fn a_broker_waits_for_controllers_and_says_so() {
    let _alone = alone();
    let shape = Shape::new(1, 1, 0);
    let Some(mut cluster) = Cluster::prepare("a broker without controllers", &shape) else {
        return;
    };
    let (controller, broker) = (Party::Controller(1), Party::Broker(1));
    cluster.spawn(broker);
    cluster.wait_readiness(broker, false, "no controller answers");
    assert!(!cluster.is_started(broker));

    cluster.spawn(controller);
    cluster.wait_ready(broker);
    cluster.wait_readiness(broker, true, "");

    cluster.kill(controller);
    cluster.wait_readiness(broker, false, "known up to");
    cluster.restart(controller);
    cluster.wait_readiness(broker, true, "");
}

/// A voter's promises are on its disk.
#[test]
fn a_controller_without_its_own_disk_does_not_vote() {
    let _alone = alone();
    let shape = Shape::new(3, 0, 0);
    let Some(mut cluster) = Cluster::start("a controller's disk", &shape) else { return };
    let third = Party::Controller(3);

    // Another process with the id of one that lives, on the same disk and on one of its own.
    let own = cluster.data_directory(third);
    let other = own.with_extension("other");
    for (data, why) in [(&own, "is in use by another process"), (&other, "with another one")] {
        let mut twin = cluster.bare_command(third);
        twin.arg(format!("--data-dir={}", data.display()));
        let said = finish(&mut twin, b"").expect_failure();
        assert!(said.contains(why), "{said}");
    }

    cluster.kill(third);
    std::fs::remove_dir_all(&own).expect("a directory of ours");
    cluster.spawn(third);
    assert_eq!(cluster.wait_end(third).code(), Some(1));
    let said = cluster.log(third);
    assert!(said.contains("node 3 is a member of the quorum with the disk"), "{said}");
    assert!(said.contains("Bring the old disk back"), "{said}");
    cluster.wait_active_controller(None);
}

#[test]
fn a_broker_does_not_touch_the_records_of_another_cluster() {
    let _alone = alone();
    let shape = Shape::new(1, 1, 0);
    let Some(mut one) = Cluster::start("a foreign disk", &shape) else { return };
    let Some(mut other) = Cluster::start("a foreign disk", &shape) else { return };
    let broker = Party::Broker(1);
    one.kill(broker);
    other.kill(broker);
    let (here, there) = (one.data_directory(broker), other.data_directory(broker));
    std::fs::remove_dir_all(&here).expect("a directory of ours");
    std::fs::rename(&there, &here).expect("one file system");
    let listed =
        || finish(Command::new("ls").args(["-lR", "--time-style=full-iso"]).arg(&here), b"");
    let before = listed().expect_success();

    one.spawn(broker);
    assert_eq!(one.wait_end(broker).code(), Some(1));
    let said = one.log(broker);
    assert!(said.contains("belongs to cluster") && said.contains("cluster.controllers"), "{said}");
    assert_eq!(listed().expect_success(), before);

    std::fs::rename(&here, &there).expect("one file system");
    other.restart(broker);
}
