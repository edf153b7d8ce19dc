//! What visitors and services say: every byte follows from whose it is and where it stands.

/// One direction of one visit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    key: u64,
    len: usize,
}

impl Content {
    pub(super) fn new(tenant: u32, visit: u32, direction: u64, len: usize) -> Self {
        let key = (u64::from(tenant) << 40) ^ (u64::from(visit) << 2) ^ direction;
        Self { key, len }
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    fn byte(self, at: usize) -> u8 {
        let word = (self.key ^ ((at as u64 / 8) << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[at % 8]
    }

    /// From there on, so many.
    pub(super) fn bytes(self, from: usize, count: usize) -> Vec<u8> {
        (from..from + count).map(|at| self.byte(at)).collect()
    }

    /// Where what was received differs, or goes beyond the end.
    pub(super) fn differs(self, from: usize, received: &[u8]) -> Option<usize> {
        let is_right = |(at, byte): (usize, &u8)| at < self.len && *byte == self.byte(at);
        (from..).zip(received).find(|one| !is_right(*one)).map(|(at, _)| at)
    }
}

#[test]
fn content_of_one_visit_is_not_that_of_another() {
    let one = Content::new(1, 7, 0, 4_096);
    let bytes = one.bytes(0, 4_096);
    assert_eq!(one.differs(0, &bytes), None);
    assert_eq!(one.differs(8, &bytes[8..]), None);
    assert!(one.differs(8, &bytes[..64]).is_some(), "what comes twice is seen");
    assert!(one.differs(4_095, &bytes[4_095..]).is_none() && one.differs(4_096, &[0]).is_some());
    for other in [(2, 7, 0), (1, 8, 0), (1, 7, 1)] {
        let other = Content::new(other.0, other.1, other.2, 4_096);
        assert!(other.differs(0, &bytes[..16]).is_some());
    }
}
