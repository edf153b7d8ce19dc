//! Plaintext that lies in several slices.

use std::io::IoSlice;

/// The front of a list of slices, taken from piece by piece.
pub(super) struct Gather<'a> {
    front: &'a [u8],
    behind: std::slice::Iter<'a, IoSlice<'a>>,
    left: usize,
}

impl<'a> Gather<'a> {
    /// At most the first `limit` bytes of `slices`.
    pub(super) fn new(slices: &'a [IoSlice<'a>], limit: usize) -> Self {
        let mut left = 0_usize;
        for slice in slices {
            left = left.saturating_add(slice.len()).min(limit);
        }
        Self { front: &[], behind: slices.iter(), left }
    }

    /// How many bytes there are.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// How many of the next bytes go well into one record of at most `most`: pieces that are worth
    /// one each, since they need not be copied for it, and others joined.
    pub(super) fn next_len(&mut self, most: usize) -> usize {
        while self.front.is_empty() {
            let Some(next) = self.behind.next() else { return 0 };
            self.front = next;
        }
        let mut len = self.front.len();
        if len < ALONE {
            for slice in self.behind.clone().take_while(|slice| slice.len() < ALONE) {
                len += slice.len();
                if len >= most {
                    break;
                }
            }
        }
        len.min(most).min(self.left)
    }

    /// The next `count` bytes, if they lie together.
    pub(super) fn together(&mut self, count: usize) -> Option<&'a [u8]> {
        while self.front.is_empty() {
            self.front = self.behind.next()?;
        }
        let (piece, rest) = self.front.split_at_checked(count)?;
        self.front = rest;
        self.left = self.left.saturating_sub(count);
        Some(piece)
    }

    /// Copies the next bytes; there must be as many.
    pub(super) fn copy_to(&mut self, mut to: &mut [u8]) {
        while !to.is_empty() {
            let Some(piece) = self.together(self.front.len().min(to.len())) else { return };
            let (now, later) = to.split_at_mut(piece.len());
            now.copy_from_slice(piece);
            to = later;
        }
    }
}

/// To copy less than this costs less than one record more.
const ALONE: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_whole_where_they_lie_together() {
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cdefgh")];
        let mut gather = Gather::new(&slices, 7);
        assert_eq!(gather.left(), 7);
        assert_eq!(gather.together(3), None);
        let mut copied = [0; 4];
        gather.copy_to(&mut copied);
        assert_eq!(&copied, b"abcd");
        assert_eq!(gather.together(3), Some(&b"efg"[..]));
        assert_eq!(gather.left(), 0);
    }
    #[test]
    fn large_pieces_go_alone_and_small_ones_together() {
        let (small, large) = ([1; 100], [2; 20_000]);
        let slices = [&small[..], &large, &small, &[], &small, &large].map(IoSlice::new);
        let mut gather = Gather::new(&slices, 40_250);
        let mut lens = Vec::new();
        while gather.left() > 0 {
            let len = gather.next_len(16_384);
            lens.push(len);
            gather.copy_to(&mut vec![0; len]);
        }
        assert_eq!(lens, [100, 16_384, 3_816, 16_384, 3_566]);
    }
}
