//! Inputs made of other inputs: bit flips, cuts, splices, lengths that lie. The same seed gives the same inputs.

/// Numbers that a length, a count or an offset is most often wrong by.
const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    -2,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    0x7fff,
    0x1_0000,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
];

/// Longest input that is made; long ones only cost time.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// A deterministic stream of inputs.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number (splitmix64).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }

    /// An input made of one or two of `inputs`, which must not be empty, by one to four changes.
    pub fn make(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.below(inputs.len())].clone();
        let other = &inputs[self.below(inputs.len())];
        for _ in 0..=self.below(4) {
            self.change(&mut input, other);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        match self.below(9) {
            0 | 1 => self.flip(input),
            2 => self.set_byte(input),
            3 => input.truncate(self.below(input.len() + 1)),
            4 => self.splice(input, other),
            5 | 6 => self.set_number(input),
            7 => self.insert(input),
            _ => self.remove(input),
        }
    }

    fn flip(&mut self, input: &mut [u8]) {
        let (at, bit) = (self.below(input.len()), self.below(8));
        if let Some(byte) = input.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    fn set_byte(&mut self, input: &mut [u8]) {
        let at = self.below(input.len());
        let value = self.next().to_le_bytes()[0];
        if let Some(byte) = input.get_mut(at) {
            *byte = value;
        }
    }

    /// Puts the end of another input in the place of this one's end.
    fn splice(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        input.truncate(self.below(input.len() + 1));
        let from = self.below(other.len() + 1);
        input.extend_from_slice(other.get(from..).unwrap_or_default());
    }

    /// Overwrites a field of 1, 2, 4 or 8 bytes, in either order, with a number that lengths are wrong by.
    fn set_number(&mut self, input: &mut [u8]) {
        let width = [1, 2, 4, 8][self.below(4)];
        let number = NUMBERS[self.below(NUMBERS.len())];
        let mut bytes = number.to_le_bytes();
        let field = &mut bytes[..width];
        if self.below(2) == 0 {
            field.reverse();
        }
        let at = self.below((input.len() + 1).saturating_sub(width));
        if let Some(target) = input.get_mut(at..at + width) {
            target.copy_from_slice(field);
        }
    }

    fn insert(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let value = if self.below(2) == 0 { 0 } else { self.next().to_le_bytes()[0] };
        let count = 1 + self.below(16);
        input.splice(at..at, std::iter::repeat_n(value, count));
    }

    fn remove(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        let end = (at + 1 + self.below(16)).min(input.len());
        input.drain(at.min(end)..end);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_many_different_ones() {
        let inputs = [vec![0; 40], b"abcdefgh".to_vec(), Vec::new()];
        let make = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..500).map(|_| mutator.make(&inputs)).collect::<Vec<_>>()
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
        assert!(make(7).into_iter().collect::<HashSet<_>>().len() > 300);
    }
}
