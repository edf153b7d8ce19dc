//! How many streams were broken off, by why.

use crate::frame::ResetCode;

/// Streams that were broken off by either end, by code. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resets {
    sent: [u64; CODES.len()],
    received: [u64; CODES.len()],
}

impl Resets {
    /// Those that this end broke off; codes without a name are counted as one.
    pub fn sent(&self) -> impl Iterator<Item = (ResetCode, u64)> {
        CODES.into_iter().zip(self.sent)
    }

    /// Those that the peer broke off.
    pub fn received(&self) -> impl Iterator<Item = (ResetCode, u64)> {
        CODES.into_iter().zip(self.received)
    }

    /// Adds those of another session.
    pub fn add(&mut self, other: &Self) {
        let sums = self.sent.iter_mut().chain(&mut self.received);
        for (sum, more) in sums.zip(other.sent.iter().chain(&other.received)) {
            *sum += more;
        }
    }

    /// The same as the peer counts them.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self { sent: self.received, received: self.sent }
    }

    pub(super) fn count_sent(&mut self, code: ResetCode) {
        count(&mut self.sent, code);
    }

    pub(super) fn count_received(&mut self, code: ResetCode) {
        count(&mut self.received, code);
    }
}

fn count(counts: &mut [u64; CODES.len()], code: ResetCode) {
    let at = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
    if let Some(count) = counts.get_mut(at) {
        *count += 1;
    }
}

/// The last stands for all that have no name.
const CODES: [ResetCode; 8] = [
    ResetCode::Cancelled,
    ResetCode::LocalUnreachable,
    ResetCode::LocalFailed,
    ResetCode::LimitExceeded,
    ResetCode::UnknownTunnel,
    ResetCode::Timeout,
    ResetCode::Internal,
    ResetCode::Other(0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_without_a_name_are_one() {
        let mut resets = Resets::default();
        for code in [ResetCode::Other(99), ResetCode::Other(7_000), ResetCode::Timeout] {
            resets.count_sent(code);
        }
        resets.count_received(ResetCode::Cancelled);
        let mut twice = resets;
        twice.add(&resets);
        let of = |counts: Vec<(ResetCode, u64)>, name| {
            counts.into_iter().find(|(code, _)| code.as_str() == name).unwrap().1
        };
        assert_eq!(of(twice.sent().collect(), "other"), 4);
        assert_eq!(of(twice.sent().collect(), "timeout"), 2);
        assert_eq!(of(twice.received().collect(), "cancelled"), 2);
        assert_eq!(of(twice.received().collect(), "timeout"), 0);
    }
}
