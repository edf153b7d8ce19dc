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
}
