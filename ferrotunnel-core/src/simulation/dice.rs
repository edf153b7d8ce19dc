//! Randomness that can be had again.

use std::cell::RefCell;
use std::time::Duration;

/// SplitMix64: any seed is a good one.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A size between 1 and `most`; small ones are as likely as large ones.
    pub(super) fn size(&mut self, most: usize) -> usize {
        let bits = self.below(most.ilog2() as usize + 1);
        (1 + self.below(2 << bits)).min(most)
    }

    /// Up to that many milliseconds.
    pub(super) fn millis(&mut self, most: usize) -> Duration {
        Duration::from_millis(self.below(most + 1) as u64)
    }

    /// Another one.
    pub(super) fn split(&mut self) -> Self {
        Self(self.next())
    }
}

thread_local! {
    static OF_THE_ENGINE: RefCell<Option<Dice>> = const { RefCell::new(None) };
}

/// While this lives, what the engine on this thread takes for the system's randomness follows from a seed.
pub(super) struct Seeded;

pub(super) fn seeded(seed: u64) -> Seeded {
    OF_THE_ENGINE.set(Some(Dice::new(!seed)));
    Seeded
}

impl Drop for Seeded {
    fn drop(&mut self) {
        OF_THE_ENGINE.set(None);
    }
}

/// Random bytes of a simulation. `false`: there is none on this thread.
pub(crate) fn throw(bytes: &mut [u8]) -> bool {
    OF_THE_ENGINE.with_borrow_mut(|dice| {
        let Some(dice) = dice else { return false };
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&dice.next().to_be_bytes()[..chunk.len()]);
        }
        true
    })
}
