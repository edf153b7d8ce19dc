//! Choices that a seed repeats. What it cannot repeat is the time at which they meet.

/// SplitMix64 (Steele, Lea and Flood 2014): every seed is a good one, and so is every number drawn
/// from another one's.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of somebody's own: the same for the same seed and number, and otherwise unrelated.
    #[must_use]
    pub fn of_one(seed: u64, number: u64) -> Self {
        Self(mixed(seed ^ mixed(number)))
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mixed(self.0) % end.max(1)
    }

    /// A number from `from` to below `end`.
    pub fn between(&mut self, from: u64, end: u64) -> u64 {
        from + self.below(end.saturating_sub(from))
    }

    /// One of several.
    pub fn one_of<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        things.get(self.below(things.len() as u64) as usize)
    }
}

pub(crate) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_falls_one_way() {
        let throw = |mut dice: Dice| (0..100).map(|_| dice.below(6)).collect::<Vec<_>>();
        assert_eq!(throw(Dice::of_one(7, 3)), throw(Dice::of_one(7, 3)));
        assert_ne!(throw(Dice::of_one(7, 3)), throw(Dice::of_one(7, 4)));
        assert_ne!(throw(Dice::of_one(7, 3)), throw(Dice::of_one(8, 3)));
    }

    #[test]
    fn every_number_within_the_bounds_comes_up() {
        let mut dice = Dice::of(1);
        let mut seen = [0; 6];
        for _ in 0..1_000 {
            seen[dice.below(6) as usize] += 1;
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
        assert!((0..100).all(|_| (3..5).contains(&dice.between(3, 5))));
        assert_eq!(dice.below(0), 0);
    }
}
