//! Sealed records on their way to the socket.

/// A buffer that is sealed into and written from. It is made anew for each burst: initialising it is
/// cheap beside sealing into it, and a quiet connection holds none.
#[derive(Default)]
pub(super) struct Outbox {
    /// Initialised all of it; what counts is `sent..filled`.
    buffer: Vec<u8>,
    sent: usize,
    filled: usize,
}

impl Outbox {
    pub(super) fn new(filled: Vec<u8>) -> Self {
        Self { filled: filled.len(), buffer: filled, sent: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.filled
    }

    pub(super) fn unsent(&self) -> &[u8] {
        self.buffer.get(self.sent..self.filled).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.filled);
        if self.is_empty() {
            (self.sent, self.filled) = (0, 0);
        }
    }

    /// Room for `bytes` more.
    pub(super) fn reserve(&mut self, bytes: usize) {
        if self.sent > 0 {
            // Little of it: as long as much waits, nothing new is sealed.
            self.buffer.copy_within(self.sent..self.filled, 0);
            (self.sent, self.filled) = (0, self.filled - self.sent);
        }
        let needed = self.filled + bytes;
        if self.buffer.len() >= needed {
            return;
        }
        if self.is_empty() {
            self.buffer = vec![0; needed];
        } else {
            // Not twice as much as there was, which is what a `Vec` takes by itself.
            self.buffer.reserve_exact(needed - self.buffer.len());
            self.buffer.resize(needed, 0);
        }
    }

    /// Where the next `bytes` go; they count as filled.
    pub(super) fn fill(&mut self, bytes: usize) -> &mut [u8] {
        self.reserve(bytes);
        let start = self.filled;
        self.filled += bytes;
        self.buffer.get_mut(start..self.filled).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives the memory back, if all was sent.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little that waits to leave with the next write must not double what that one takes.
    #[test]
    fn what_joins_a_write_costs_only_itself() {
        let mut outbox = Outbox::new(vec![1; 1_000]);
        outbox.fill(128 << 10).fill(2);
        assert_eq!(outbox.unsent().len(), 1_000 + (128 << 10));
        assert_eq!((outbox.unsent().first(), outbox.unsent().last()), (Some(&1), Some(&2)));
        assert!(outbox.held() < 130 << 10, "{}", outbox.held());
    }

    /// Also where most of the buffer was sent before.
    #[test]
    fn what_was_left_of_a_write_costs_the_next_one_only_itself() {
        let mut outbox = Outbox::default();
        outbox.fill(128 << 10).fill(1);
        outbox.advance((128 << 10) - 1_000);
        outbox.fill(128 << 10).fill(2);
        assert_eq!(outbox.unsent().len(), 1_000 + (128 << 10));
        assert!(outbox.held() < 130 << 10, "{}", outbox.held());
    }
}
