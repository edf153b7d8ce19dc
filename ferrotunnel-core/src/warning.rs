//! Warnings about what comes again and again while it lasts.

use std::time::Duration;

use tokio::time::Instant;

/// Says the same thing once in a while only.
#[derive(Debug)]
pub(crate) struct Warning {
    every: Duration,
    said: Option<Instant>,
}

impl Warning {
    /// One that is due at once, and again after each such time.
    pub(crate) fn every(every: Duration) -> Self {
        Self { every, said: None }
    }

    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.said.is_none_or(|said| now.duration_since(said) >= self.every);
        if due {
            self.said = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);

    #[test]
    fn a_warning_is_said_again_after_a_while() {
        let (mut warning, begin) = (Warning::every(EVERY), Instant::now());
        assert!(warning.is_due(begin));
        assert!(!warning.is_due(begin + EVERY / 2));
        assert!(warning.is_due(begin + EVERY));
        assert!(!warning.is_due(begin + EVERY + EVERY / 2));
    }
}
