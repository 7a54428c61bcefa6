//! The loads.

use std::fmt;

use super::{CAUGHT_UP_BYTES, Cases};
use crate::Protocol;

/// One load: what is sent, and by how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) protocol: Protocol,
    pub(super) record_bytes: u32,
    pub(super) batch_bytes: u32,
    /// On each connection.
    pub(super) in_flight: u32,
    pub(super) connections: u32,
    pub(super) partitions: i32,
}

/// The middle of all loads; the others differ from it in what they are about.
const MIDDLE: Case = Case {
    protocol: Protocol::Kafka,
    record_bytes: 1024,
    batch_bytes: 64 * 1024,
    in_flight: 5,
    connections: 1,
    partitions: 1,
};

const BATCH_BYTES: [u32; 3] = [16 * 1024, 64 * 1024, 1024 * 1024];

pub(super) fn of(cases: Cases) -> Vec<Case> {
    match cases {
        Cases::Sizes => BATCH_BYTES.map(|batch_bytes| Case { batch_bytes, ..MIDDLE }).to_vec(),
        Cases::Partitions => [1, 1000].map(|partitions| Case { partitions, ..MIDDLE }).to_vec(),
        Cases::Latency => {
            vec![Case { batch_bytes: 1024, in_flight: 1, ..MIDDLE }]
        }
        Cases::Matrix => matrix(),
    }
}

fn matrix() -> Vec<Case> {
    let mut all = Vec::new();
    for protocol in [Protocol::Kafka, Protocol::Grpc] {
        for record_bytes in [100, 1024] {
            for batch_bytes in BATCH_BYTES {
                for connections in [1_u32, 10, 100] {
                    // As many partitions as connections, at most ten: producers that share one are not left out either.
                    let partitions = connections.min(10).cast_signed();
                    all.push(Case {
                        protocol,
                        record_bytes,
                        batch_bytes,
                        connections,
                        partitions,
                        ..MIDDLE
                    });
                }
            }
        }
    }
    all
}

impl Case {
    /// Of the bytes each run moves, what this load moves: single records are many answers for few bytes.
    pub(super) fn bytes(&self, of: u64) -> u64 {
        match self.in_flight {
            1 => of.min(CAUGHT_UP_BYTES) / 16,
            _ => of,
        }
    }
}

/// `protocol, batch size / record size`, and in what else the load is not the middle one.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Kafka => "Kafka",
            Protocol::Grpc => "gRPC",
        };
        write!(f, "{protocol}, {} / {}", size(self.batch_bytes), size(self.record_bytes))?;
        if self.in_flight != MIDDLE.in_flight {
            write!(f, ", {} in flight", self.in_flight)?;
        }
        if self.connections != MIDDLE.connections {
            write!(f, ", {} connections", self.connections)?;
        }
        if self.partitions != MIDDLE.partitions {
            write!(f, ", {} partitions", self.partitions)?;
        }
        Ok(())
    }
}

fn size(bytes: u32) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_every_combination_once() {
        let all = matrix();
        assert_eq!(all.len(), 2 * 2 * 3 * 3);
        for (index, case) in all.iter().enumerate() {
            assert!(!all[..index].contains(case), "{case}");
        }
    }

    #[test]
    fn a_load_says_what_it_is() {
        assert_eq!(MIDDLE.to_string(), "Kafka, 64 KiB / 1 KiB");
        let many = Case { record_bytes: 100, connections: 10, partitions: 10, ..MIDDLE };
        let expected = "Kafka, 64 KiB / 100 B, 10 connections, 10 partitions";
        assert_eq!(many.to_string(), expected);
    }
}
