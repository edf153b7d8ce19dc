//! How visitors are spread over several carriers and clients.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrotunnel_protocol::frame::TunnelOptions;

use crate::options;

/// How the visitors of a tunnel are spread over the sessions that have it: the carriers of a client, or
/// of all clients of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// To the one with the fewest open streams.
    #[default]
    LeastStreams,
    /// To each in turn.
    RoundRobin,
}

impl Balance {
    /// The value of the option.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeastStreams => "least-streams",
            Self::RoundRobin => "round-robin",
        }
    }

    /// As it was registered. What is unknown, as from a newer client, is the default.
    pub(crate) fn of(options: &TunnelOptions) -> Self {
        let value = options::value(options, options::BALANCE);
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Balance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::LeastStreams, Self::RoundRobin];
        let found = all.into_iter().find(|balance| balance.name() == text);
        found.ok_or_else(|| format!("{text:?} is neither least-streams nor round-robin"))
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicUsize);

impl Turn {
    /// The next of so many, which is not 0.
    pub(crate) fn next(&self, count: usize) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed) % count.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_how_visitors_are_spread() {
        for balance in [Balance::LeastStreams, Balance::RoundRobin] {
            assert_eq!(balance.name().parse(), Ok(balance));
            let options = vec![(options::BALANCE.to_owned(), balance.to_string())];
            assert_eq!(Balance::of(&options), balance);
        }
        assert!("fair".parse::<Balance>().is_err());
        assert_eq!(Balance::of(&Vec::new()), Balance::LeastStreams);
    }

    #[test]
    fn turns_go_round() {
        let turn = Turn::default();
        let turns: Vec<usize> = (0..5).map(|_| turn.next(2)).collect();
        assert_eq!(turns, [0, 1, 0, 1, 0]);
        assert_eq!(turn.next(0), 0);
    }
}
