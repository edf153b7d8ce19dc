//! How often visitors of one source may come.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    str::FromStr,
    time::{Duration, Instant},
};

use ferrotunnel_core::Source;
use parking_lot::Mutex;

/// So many requests in so much time, for each source: an IPv4 address, or a /64 of IPv6. All of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitorRate {
    requests: u32,
    per: Duration,
}

impl VisitorRate {
    /// Of wrong passwords: ten at once for fingers that slip, and then one in six seconds.
    pub(super) const PASSWORDS: Self = Self { requests: 10, per: Duration::from_secs(60) };

    /// A rate, unless it is none that can be kept to: from 1 to 1,000,000 requests in a whole number of seconds, of which
    /// a day has the most.
    pub fn new(requests: u32, per: Duration) -> Option<Self> {
        let fits = (1..=MOST_REQUESTS).contains(&requests)
            && per.subsec_nanos() == 0
            && (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&per);
        fits.then_some(Self { requests, per })
    }

    /// How many.
    pub fn requests(self) -> u32 {
        self.requests
    }

    /// In how much time.
    pub fn per(self) -> Duration {
        self.per
    }
}

impl FromStr for VisitorRate {
    type Err = String;

    /// `10/s`, `100/m`, `1000/h`, `5000/d`, and `10/30s` for what is in between.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no rate like 10/s, 100/m, 1000/h or 5000/d, of at most 1000000 requests"
            )
        };
        let (requests, time) = text.split_once('/').ok_or_else(wrong)?;
        let unit = time.trim_start_matches(|c: char| c.is_ascii_digit());
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let times = time.strip_suffix(unit).filter(|times| !times.is_empty()).unwrap_or("1");
        let times: u64 = times.parse().map_err(|_| wrong())?;
        let digits = requests.bytes().all(|byte| byte.is_ascii_digit());
        let requests = requests.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        let per = Duration::from_secs(times.saturating_mul(*seconds));
        Self::new(requests, per).ok_or_else(wrong)
    }
}

impl fmt::Display for VisitorRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        match UNITS.iter().find(|(_, unit)| *unit == seconds) {
            Some((name, _)) => write!(f, "{}/{name}", self.requests),
            None => write!(f, "{}/{seconds}s", self.requests),
        }
    }
}

/// Keeps every source to a rate (GCRA: what a source is ahead of its rate is one point in time).
///
/// Sources that are within their rate are forgotten. When as many as [`MOST_SOURCES`] are not, those who come share
/// places: it is as if they had one address, so a crowd can neither come in unseen nor take more memory.
#[derive(Debug)]
pub(crate) struct Limiter {
    rate: VisitorRate,
    began: Instant,
    hasher: RandomState,
    ahead: Mutex<Ahead>,
}

/// Until when each has used its rate up, since the beginning.
#[derive(Debug, Default)]
struct Ahead {
    own: HashMap<Source, Duration>,
    shared: Vec<Duration>,
    swept: Duration,
}

impl Limiter {
    pub(crate) fn new(rate: VisitorRate, now: Instant) -> Self {
        let (hasher, ahead) = (RandomState::new(), Mutex::default());
        Self { rate, began: now, hasher, ahead }
    }

    /// One more from there.
    ///
    /// # Errors
    /// Not yet: it is to come again after that time.
    pub(crate) fn take(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        self.look(from, now, true)
    }

    /// Whether one more could come from there. It is not counted.
    ///
    /// # Errors
    /// As for [`take`](Self::take).
    pub(crate) fn check(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        self.look(from, now, false)
    }

    fn look(&self, from: IpAddr, now: Instant, takes: bool) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.began);
        let step = self.rate.per / self.rate.requests;
        let burst = step * (self.rate.requests - 1);
        let source = Source::of(from);
        let mut ahead = self.ahead.lock();
        let used = ahead.place(source, now, &self.hasher);
        let until = used.as_deref().map_or(now, |used| (*used).max(now));
        if let Some(early) = (until - now).checked_sub(burst).filter(|early| !early.is_zero()) {
            return Err(early);
        }
        if takes {
            match used {
                Some(used) => *used = until + step,
                None => drop(ahead.own.insert(source, until + step)),
            }
        }
        Ok(())
    }

    #[cfg(test)]
    fn known(&self) -> usize {
        self.ahead.lock().own.len()
    }
}

impl Ahead {
    /// `None`: it has none yet, and there is room for one.
    fn place(
        &mut self,
        source: Source,
        now: Duration,
        hasher: &RandomState,
    ) -> Option<&mut Duration> {
        if self.own.len() >= MOST_SOURCES && now >= self.swept + SWEEP_EVERY {
            self.swept = now;
            self.own.retain(|_, until| *until > now);
        }
        if self.own.len() >= MOST_SOURCES && !self.own.contains_key(&source) {
            self.shared.resize(SHARED_PLACES, Duration::ZERO);
            let place = hasher.hash_one(source) % SHARED_PLACES as u64;
            return self.shared.get_mut(usize::try_from(place).unwrap_or(0));
        }
        self.own.get_mut(&source)
    }
}

/// Where a number a second is more than one process answers, it is a mistake.
const MOST_REQUESTS: u32 = 1_000_000;

/// Some 600 KiB for a tunnel that is visited from everywhere at once.
const MOST_SOURCES: usize = 8_192;

/// For those beyond: 4 KiB.
const SHARED_PLACES: usize = 256;

/// A look at all sources takes some 50 us.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::from(last.to_be_bytes())
    }

    fn limiter(text: &str) -> (Limiter, Instant) {
        let now = Instant::now();
        (Limiter::new(text.parse().unwrap(), now), now)
    }

    #[test]
    fn as_many_as_the_rate_come_at_once_and_then_one_at_a_time() {
        let (limiter, now) = limiter("4/s");
        for _ in 0..4 {
            assert_eq!(limiter.check(address(1), now), Ok(()));
            assert_eq!(limiter.take(address(1), now), Ok(()));
        }
        let wait = Err(Duration::from_millis(250));
        assert_eq!((limiter.check(address(1), now), limiter.take(address(1), now)), (wait, wait));
        assert_eq!(limiter.take(address(2), now), Ok(()));
        let later = now + Duration::from_millis(250);
        assert_eq!(limiter.take(address(1), later), Ok(()));
        assert_eq!(limiter.take(address(1), later), wait);
        let much_later = now + Duration::from_secs(60);
        for _ in 0..4 {
            assert_eq!(limiter.take(address(1), much_later), Ok(()));
        }
        assert!(limiter.take(address(1), much_later).is_err());
    }

    #[test]
    fn a_crowd_takes_no_more_memory_and_comes_in_no_more_often() {
        let (limiter, now) = limiter("1/h");
        let mut taken = 0;
        for source in 0..100_000 {
            taken += usize::from(limiter.take(address(source), now).is_ok());
        }
        assert_eq!(limiter.known(), MOST_SOURCES);
        assert!((MOST_SOURCES..=MOST_SOURCES + SHARED_PLACES).contains(&taken), "{taken}");
        // Once they are within their rate they are forgotten.
        let later = now + Duration::from_secs(3_601);
        assert_eq!(limiter.take(address(200_000), later), Ok(()));
        assert_eq!(limiter.known(), 1);
    }

    #[test]
    fn rates_are_written_as_they_are_read() {
        for text in ["10/s", "1/m", "1000/h", "1000000/d", "10/30s", "10/90s"] {
            assert_eq!(text.parse::<VisitorRate>().unwrap().to_string(), text);
        }
        assert_eq!("10/2m".parse(), "10/120s".parse::<VisitorRate>());
        for bad in [
            "",
            "10",
            "10/",
            "/s",
            "0/s",
            "-1/s",
            "+1/s",
            "1/y",
            "10/S",
            "1000001/s",
            "1/s/s",
            "1/0s",
            "1/2d",
            "1/-1s",
            "1/5",
        ] {
            assert!(bad.parse::<VisitorRate>().unwrap_err().contains("10/s"), "{bad:?}");
        }
    }
}
