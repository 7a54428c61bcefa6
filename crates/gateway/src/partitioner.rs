//! Which partition a record goes to when its producer does not say: the same as Kafka's default partitioner, so that producers of
//! both protocols keep equal keys together.

use std::sync::atomic::{AtomicU32, Ordering};

use thalweg_types::PartitionIndex;

/// Kafka's seed.
const SEED: u32 = 0x9747_b28c;

/// Chooses partitions for records without a key: one for a whole request, so that batches stay large, then the next one.
#[derive(Debug, Default)]
pub(crate) struct Rotation(AtomicU32);

impl Rotation {
    /// The next partition out of `partition_count`, which is at least 1.
    pub(crate) fn next(&self, partition_count: u32) -> PartitionIndex {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        index(turn, partition_count)
    }
}

/// The partition of a key out of `partition_count`, which is at least 1.
pub(crate) fn partition_of(key: &[u8], partition_count: u32) -> PartitionIndex {
    index(murmur2(key) & 0x7fff_ffff, partition_count)
}

fn index(number: u32, partition_count: u32) -> PartitionIndex {
    let remainder = number % partition_count.max(1);
    PartitionIndex(i32::try_from(remainder).expect("partition counts fit in i32"))
}

/// MurmurHash2 for 32 bits, by Austin Appleby, with Kafka's seed.
fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    // The length enters the hash modulo 2^32, as it does in the original.
    let mut hash = SEED ^ (bytes.len() & 0xffff_ffff) as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_java_client() {
        let expected = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in expected {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn equal_keys_meet_and_a_rotation_visits_every_partition() {
        assert_eq!(partition_of(b"order-1", 7), partition_of(b"order-1", 7));
        assert_eq!(partition_of(b"anything", 1), PartitionIndex(0));
        let rotation = Rotation::default();
        let visited: Vec<i32> = (0..6).map(|_| rotation.next(3).0).collect();
        assert_eq!(visited, [0, 1, 2, 0, 1, 2]);
    }
}
