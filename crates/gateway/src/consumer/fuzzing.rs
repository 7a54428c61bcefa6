//! Fetch requests and stored batches, open to the fuzzer.

use std::collections::HashSet;

use bytes::Bytes;
use thalweg_proto::consumer::v1 as proto;
use thalweg_types::Offset;

use super::{decode, fetch};

/// Checks the partitions of a request: each once, nothing negative.
pub fn check_fetch(request: proto::FetchRequest) {
    let asked = request.partitions.len();
    let Ok(partitions) = fetch::partitions(request.partitions) else { return };
    assert_eq!(partitions.len(), asked);
    let places: HashSet<_> =
        partitions.iter().map(|one| (one.topic.as_str(), one.partition)).collect();
    assert_eq!(places.len(), asked);
    assert!(partitions.iter().all(|one| one.offset.0 >= 0 && one.max_bytes > 0));
}

/// Decodes batches to records from an offset on: none is below it, they go up, and only the first may exceed the budget.
pub fn decode_records(batches: &[Bytes], from: Offset, budget_bytes: usize) {
    let Ok(decoded) = decode::as_records(batches, from, budget_bytes) else { return };
    assert!(decoded.records.iter().all(|record| record.offset >= from.0));
    assert!(decoded.bytes <= budget_bytes || decoded.records.len() <= 1);
    if let (Some(last), Some(next)) = (decoded.records.last(), decoded.next_offset) {
        assert!(last.offset < next.0, "the last record {} is before {next}", last.offset);
    }
}
