//! When to ask the ACME server for something, and when to leave it alone. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::super::validity::Validity;

/// When a certificate is renewed: after two thirds of its life, and earlier by up to a twelfth, so that those
/// that were issued together do not all come back together.
///
/// `spread` says where in that twelfth, from 0 to `u16::MAX`.
pub(super) fn renewal(valid: Validity, spread: u16) -> SystemTime {
    let life = valid.not_after.duration_since(valid.not_before).unwrap_or_default();
    let early = (life / 12).mul_f64(f64::from(spread) / f64::from(u16::MAX));
    valid.not_before + (life / 3 * 2).saturating_sub(early)
}

/// What was tried, so that a server is not asked too often.
#[derive(Debug)]
pub(super) struct Attempts {
    failed: HashMap<String, Failed>,
    /// Orders that may be made now, as a bucket that fills up again.
    left: f64,
    filled_at: Instant,
    /// The server said that it was enough, of these registered domains.
    quiet_until: HashMap<String, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    again_at: Instant,
}

impl Attempts {
    pub(super) fn new(now: Instant) -> Self {
        Self { failed: HashMap::new(), left: BURST, filled_at: now, quiet_until: HashMap::new() }
    }

    /// Takes an order, if one may be made for that name.
    pub(super) fn take(&mut self, name: &str, why: Why, now: Instant) -> bool {
        let is_quiet = self.quiet_until.get(domain_of(name)).is_some_and(|until| now < *until);
        let is_early = self.failed.get(name).is_some_and(|failed| now < failed.again_at);
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.left = (self.left + passed * ORDERS_PER_HOUR / 3_600.0).min(BURST);
        self.filled_at = now;
        let least = match why {
            Why::First => 1.0 + RESERVE,
            Why::Renewal => 1.0,
        };
        if is_quiet || is_early || self.left < least {
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// An order came to nothing. Returns how long its name has to wait.
    pub(super) fn failed(&mut self, name: &str, now: Instant, is_rate_limit: bool) -> Duration {
        if is_rate_limit {
            self.quiet_until.retain(|_, until| now < *until);
            self.quiet_until.insert(domain_of(name).to_owned(), now + QUIET);
        }
        if self.failed.len() >= MOST_REMEMBERED {
            self.failed.retain(|_, failed| now < failed.again_at);
        }
        let times = self.failed.get(name).map_or(0, |failed| failed.times);
        let pause = FIRST_PAUSE.saturating_mul(1 << times.min(16)).min(LONGEST_PAUSE);
        let failed = Failed { times: times + 1, again_at: now + pause };
        self.failed.insert(name.to_owned(), failed);
        pause
    }

    pub(super) fn succeeded(&mut self, name: &str) {
        self.failed.remove(name);
    }
}

/// What an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A host that has no certificate.
    First,
    /// One that has one, which ends some day.
    Renewal,
}

/// Its last two labels, for which ACME servers count most of what they count. Under a suffix like `co.uk` that is
/// more names than they count together, and so only more careful.
fn domain_of(name: &str) -> &str {
    let end_of_first = name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
    &name[end_of_first..]
}

/// Let's Encrypt takes five failed validations of a name in an hour. An order may cost two, and with this pause,
/// doubled each time, an hour has two to three orders.
const FIRST_PAUSE: Duration = Duration::from_secs(15 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// Let's Encrypt takes 300 orders in three hours; whoever registers hosts by the dozen shall not use them up.
const ORDERS_PER_HOUR: f64 = 50.0;
const BURST: f64 = 50.0;

/// Of those, so many are kept for renewals: whoever registers many hosts is not to let the certificates of others
/// end.
const RESERVE: f64 = 15.0;

/// When a server says that it has had enough, all names of that registered domain are left alone for that long.
const QUIET: Duration = Duration::from_secs(3_600);

/// Names whose failures are remembered, at about 100 bytes each.
const MOST_REMEMBERED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_certificate_is_renewed_well_before_its_end_and_not_at_one_time_with_others() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let day = Duration::from_secs(86_400);
        let valid = Validity { not_before: start, not_after: start + 90 * day };
        assert_eq!(renewal(valid, 0), start + 60 * day);
        let earliest = renewal(valid, u16::MAX);
        assert!(earliest > start + 52 * day && earliest < start + 53 * day);
        let backwards = Validity { not_before: start, not_after: start - day };
        assert_eq!(renewal(backwards, u16::MAX), start);
    }

    #[test]
    fn a_name_that_fails_waits_longer_each_time_and_others_do_not() {
        let start = Instant::now();
        let mut attempts = Attempts::new(start);
        assert!(attempts.take("a", Why::First, start));
        assert_eq!(attempts.failed("a", start, false), FIRST_PAUSE);
        assert!(!attempts.take("a", Why::First, start + FIRST_PAUSE - MINUTE));
        assert!(attempts.take("b", Why::First, start));
        assert!(attempts.take("a", Why::First, start + FIRST_PAUSE));
        assert_eq!(attempts.failed("a", start + FIRST_PAUSE, false), 2 * FIRST_PAUSE);
        for _ in 0..40 {
            attempts.failed("a", start, false);
        }
        assert_eq!(attempts.failed("a", start, false), LONGEST_PAUSE);
        attempts.succeeded("a");
        assert!(attempts.take("a", Why::First, start + FIRST_PAUSE));
    }

    #[test]
    fn there_are_so_many_orders_an_hour_and_no_more() {
        let start = Instant::now();
        let mut attempts = Attempts::new(start);
        let take = |attempts: &mut Attempts, why, now| {
            (0..1_000).filter(|number| attempts.take(&number.to_string(), why, now)).count()
        };
        assert_eq!(take(&mut attempts, Why::First, start), 35);
        assert_eq!(take(&mut attempts, Why::Renewal, start), 15, "they are kept for those");
        assert_eq!(take(&mut attempts, Why::First, start + 30 * MINUTE), 10);
        assert_eq!(take(&mut attempts, Why::Renewal, start + 6_000 * MINUTE), 50);
    }

    #[test]
    fn a_server_that_has_had_enough_of_a_domain_is_left_alone_by_all_its_names() {
        let start = Instant::now();
        let mut attempts = Attempts::new(start);
        attempts.failed("a.x.example", start, true);
        let almost = start + QUIET - MINUTE;
        assert!(!attempts.take("b.x.example", Why::First, almost));
        assert!(!attempts.take("x.example", Why::Renewal, almost));
        assert!(attempts.take("b.y.example.com", Why::First, almost));
        assert!(attempts.take("b.x.example", Why::First, start + QUIET));
    }
}
