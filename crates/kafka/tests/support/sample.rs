//! Makes up values of every message, from a seed.

#![allow(
    dead_code,
    reason = "not every type of the notation occurs yet, nor is everything used by each test"
)]
#![allow(clippy::field_reassign_with_default, reason = "generated, as the messages are")]

use bytes::{Bytes, BytesMut};
use thalweg_kafka::KafkaString;
use thalweg_types::Uuid;

/// A deterministic stream of choices (splitmix64).
pub(crate) struct Source {
    state: u64,
    /// Lists get shorter as they nest, or the messages explode.
    depth: usize,
}

/// A value that can be said in `version`: fields that it lacks stay at their defaults.
pub(crate) trait Sample {
    fn sample(version: i16, source: &mut Source) -> Self;
}

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, depth: 0 }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).expect("small")
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.coin()
    }

    /// Small and extreme numbers more often than others.
    pub(crate) fn i64(&mut self) -> i64 {
        match self.below(6) {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            _ => self.next() as i64,
        }
    }

    pub(crate) fn i8(&mut self) -> i8 {
        self.i64() as i8
    }

    pub(crate) fn i16(&mut self) -> i16 {
        self.i64() as i16
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.i64() as u16
    }

    pub(crate) fn i32(&mut self) -> i32 {
        self.i64() as i32
    }

    pub(crate) fn u32(&mut self) -> u32 {
        self.i64() as u32
    }

    pub(crate) fn f64(&mut self) -> f64 {
        self.i32().into()
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        if self.below(4) == 0 {
            return Uuid::ZERO;
        }
        Uuid::from_bytes((u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes())
    }

    pub(crate) fn string(&mut self) -> KafkaString {
        // Now and then longer than a one-byte compact length can say.
        let length = if self.below(16) == 0 { 150 } else { self.below(9) };
        let letters = ['a', 'Z', '0', '.', '-', 'ä', '漢', '\u{1f980}', '\n', '\0'];
        let text: String = (0..length).map(|_| letters[self.below(10)]).collect();
        KafkaString::from(text)
    }

    fn octets(&mut self) -> Vec<u8> {
        let length = if self.below(8) == 0 { 300 } else { self.below(40) };
        (0..length).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        self.octets().into()
    }

    pub(crate) fn records(&mut self) -> BytesMut {
        BytesMut::from(&self.octets()[..])
    }

    pub(crate) fn shared_records(&mut self) -> Vec<Bytes> {
        let octets = self.octets();
        if octets.is_empty() { Vec::new() } else { vec![octets.into()] }
    }

    pub(crate) fn list<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = if self.depth > 2 { self.below(2) } else { self.below(4) };
        self.depth += 1;
        let items = (0..count).map(|_| make(self)).collect();
        self.depth -= 1;
        items
    }

    pub(crate) fn optional<T>(
        &mut self,
        nullable: bool,
        make: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        if nullable && self.below(3) == 0 { None } else { Some(make(self)) }
    }
}

include!(concat!(env!("OUT_DIR"), "/samples.rs"));
