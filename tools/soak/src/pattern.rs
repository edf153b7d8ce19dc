//! What every byte of a conversation has to be.
//!
//! Each direction of each conversation reads one large pool of random bytes in a circle, from a
//! place of its own on. So both ends know every byte without keeping any, comparing costs what
//! comparing memory costs, and a byte that is lost, doubled, changed, or that belongs to another
//! conversation is found at once: from there on nothing fits any more. That is sharper than a
//! checksum, which would have to wait for the end.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::dice::{Dice, mixed};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the visitor to the local service.
    Up,
    /// From the local service to the visitor.
    Down,
}

/// One direction of one conversation, and how far it has come.
#[derive(Clone, Debug)]
pub struct Pattern {
    start: usize,
    position: u64,
}

/// The first byte that is not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs {
    /// Where it is, from the beginning of the direction.
    pub at: u64,
}

impl Pattern {
    /// The one of that number and direction, at its beginning.
    #[must_use]
    pub fn of(number: u64, way: Way) -> Self {
        let start = mixed(number.wrapping_mul(2) + u64::from(way == Way::Down)) % POOL as u64;
        Self { start: start as usize, position: 0 }
    }

    /// Bytes so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes, at most `most` and at least one, if that is not 0. They are not copied.
    pub fn next(&mut self, most: u64) -> Bytes {
        let at = self.place();
        let count = (POOL - at).min(usize::try_from(most).unwrap_or(usize::MAX)).min(CHUNK);
        self.position += count as u64;
        pool().slice(at..at + count)
    }

    /// Goes on if these are the next bytes.
    ///
    /// # Errors
    /// One of them is another.
    pub fn check(&mut self, mut bytes: &[u8]) -> Result<(), Differs> {
        while !bytes.is_empty() {
            let at = self.place();
            let count = (POOL - at).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            let wanted = &pool()[at..at + count];
            if now != wanted {
                let same = now.iter().zip(wanted).take_while(|(is, should)| is == should).count();
                return Err(Differs { at: self.position + same as u64 });
            }
            self.position += count as u64;
            bytes = later;
        }
        Ok(())
    }

    fn place(&self) -> usize {
        ((self.start as u64 + self.position) % POOL as u64) as usize
    }
}

/// Random bytes, the same in every run: what is random is who reads them from where.
fn pool() -> &'static Bytes {
    static BYTES: OnceLock<Bytes> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut dice = Dice::of(0);
        let words = (0..=POOL / 8).flat_map(|_| dice.below(u64::MAX).to_le_bytes());
        words.take(POOL).collect::<Vec<_>>().into()
    })
}

/// A prime, so that no power of two that somebody could lose at once is a full circle.
const POOL: usize = 1_048_573;

/// One write of a busy sender.
const CHUNK: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u64, way: Way, count: u64) -> Vec<u8> {
        let mut pattern = Pattern::of(number, way);
        let mut bytes = Vec::new();
        while pattern.position() < count {
            bytes.extend_from_slice(&pattern.next(count - pattern.position()));
        }
        bytes
    }

    #[test]
    fn what_was_made_is_what_is_expected_however_it_is_cut() {
        let sent = bytes(5, Way::Up, 3_000_000);
        for size in [1_000, 65_536, 1_500_000] {
            let mut pattern = Pattern::of(5, Way::Up);
            for piece in sent.chunks(size) {
                assert_eq!(pattern.check(piece), Ok(()));
            }
            assert_eq!(pattern.position(), 3_000_000);
        }
    }

    #[test]
    fn a_byte_that_is_lost_doubled_or_changed_is_found_where_it_is() {
        let sent = bytes(5, Way::Up, 100_000);
        let check = |bytes: &[u8]| Pattern::of(5, Way::Up).check(bytes);
        let near = |result: Result<(), Differs>| {
            // Now and then a neighbour is the same.
            let at = result.unwrap_err().at;
            assert!((50_000..50_010).contains(&at), "{at}");
        };
        near(check(&[&sent[..50_000], &sent[50_001..]].concat()));
        near(check(&[&sent[..50_000], &sent[49_999..]].concat()));
        near(check(&[&sent[..50_000], &sent[65_536 + 50_000 - 65_000..]].concat()));
        let mut changed = sent;
        changed[50_000] ^= 1;
        assert_eq!(check(&changed), Err(Differs { at: 50_000 }));
    }

    #[test]
    fn nobody_else_has_the_same_bytes() {
        for (number, way) in [(6, Way::Up), (5, Way::Down), (4, Way::Down)] {
            let other = bytes(number, way, 64);
            assert!(Pattern::of(5, Way::Up).check(&other).is_err(), "{number} {way:?}");
        }
    }
}
