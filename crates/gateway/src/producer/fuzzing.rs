//! Produce requests, open to the fuzzer.

use thalweg_proto::producer::v1 as proto;
use thalweg_record::{ProduceLimits, check_produced};

use super::order;
use super::order::Load;

/// Checks a request and packs its records; every batch made of records is one that the log takes.
pub fn check_and_pack(request: proto::ProduceRequest) {
    let Ok((order, load)) = order::check(request) else { return };
    assert!(!order.topic.is_internal());
    let made = matches!(load, Load::Records(_));
    let Ok(parts) = super::batches::pack_at(&order, load, 3) else { return };
    for part in parts.iter().filter(|_| made) {
        let limits = ProduceLimits { batch_bytes_max: usize::MAX };
        let header = check_produced(&part.batch, &limits).expect("our own batch");
        assert_eq!(u32::try_from(header.record_count), Ok(part.record_count));
    }
}
