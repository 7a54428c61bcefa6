//! Walking batches that lie back to back: a fetched slice, a segment, a journal frame.

use crate::error::BatchError;
use crate::header::{BatchHeader, LENGTH_PREFIX_BYTES};

/// Iterator over whole batches at the front of a slice. Yields each batch's header and bytes; the CRC is not checked. Bytes that are
/// no batch, or only the beginning of one ([`BatchError::Truncated`]), are yielded once as an error, and then it ends.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Batches<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, position: 0 }
    }

    /// Bytes of the whole batches yielded so far: after an error, where the first bad byte's batch begins.
    pub fn position(&self) -> usize {
        self.position
    }

    fn split(&self) -> Result<(BatchHeader, &'a [u8], &'a [u8]), BatchError> {
        let have = self.rest.len();
        if have < LENGTH_PREFIX_BYTES {
            return Err(BatchError::Truncated { needed: LENGTH_PREFIX_BYTES, have });
        }
        let header = BatchHeader::parse(self.rest)?;
        let needed = header.size_bytes();
        let (batch, rest) =
            self.rest.split_at_checked(needed).ok_or(BatchError::Truncated { needed, have })?;
        Ok((header, batch, rest))
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.split() {
            Ok((header, batch, rest)) => {
                self.position += batch.len();
                self.rest = rest;
                Some(Ok((header, batch)))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Batches<'_> {}

#[cfg(test)]
mod tests {
    use thalweg_types::{CompressionType, Timestamp};

    use super::*;
    use crate::BatchBuilder;

    fn batch(value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(CompressionType::None);
        builder.push(Timestamp(1), None, Some(value), &[]).unwrap();
        builder.finish().unwrap().to_vec()
    }

    #[test]
    fn batches_come_one_by_one_and_a_cut_tail_is_an_error_at_its_start() {
        let (first, second) = (batch(b"first"), batch(b"second one"));
        let bytes = [first.clone(), second.clone()].concat();

        let whole: Vec<_> = Batches::new(&bytes).map(|item| item.unwrap().1.to_vec()).collect();
        assert_eq!(whole, [first.clone(), second]);

        for cut in first.len() + 1..bytes.len() {
            let mut batches = Batches::new(&bytes[..cut]);
            assert!(batches.next().unwrap().is_ok());
            assert!(matches!(batches.next(), Some(Err(BatchError::Truncated { .. }))), "{cut}");
            assert_eq!(batches.position(), first.len());
            assert!(batches.next().is_none());
        }
    }

    #[test]
    fn nothing_holds_no_batch() {
        assert!(Batches::new(&[]).next().is_none());
    }
}
