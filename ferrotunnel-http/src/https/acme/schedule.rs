//! When to ask the ACME server for something, and when to leave it alone. Pure: the time is an argument.

use std::collections::HashMap;
use std::ops::Range;
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

/// When a certificate is renewed whose server has said when it would like that: somewhere within, where `spread` says
/// (RFC 9773, section 4.2). `None` if that is no time.
///
/// It is not taken at its word where that would have us order again and again, or wait until it is too late.
pub(super) fn within(
    window: Range<SystemTime>,
    valid: Validity,
    spread: u16,
) -> Option<SystemTime> {
    let length = window.end.duration_since(window.start).ok().filter(|length| !length.is_zero())?;
    let life = valid.not_after.duration_since(valid.not_before).unwrap_or_default();
    let wanted = window.start + length.mul_f64(f64::from(spread) / f64::from(u16::MAX));
    let earliest = valid.not_before + life / 1_000;
    Some(wanted.min(valid.not_after - life / 12).max(earliest))
}

/// When a server is asked again that wants to be asked after `pause`.
pub(super) fn ask_after(pause: Duration) -> Duration {
    pause.clamp(ASK_AT_SOONEST, ASK_AT_LATEST)
}

/// RFC 9773, section 4.3.2.
const ASK_AT_SOONEST: Duration = Duration::from_secs(60);
pub(super) const ASK_AT_LATEST: Duration = Duration::from_secs(24 * 3_600);

/// Where there was no answer: often enough to hear in time of certificates that are taken back.
pub(super) const ASK_AFTER_FAULT: Duration = Duration::from_secs(6 * 3_600);

/// What was tried, so that a server is not asked too often.
#[derive(Debug)]
pub(super) struct Attempts {
    failed: HashMap<String, Failed>,
    /// For everybody together.
    orders: Bucket,
    /// What each principal may have of it whatever others want.
    of_principals: HashMap<String, Bucket>,
    /// The server said that it was enough, of these registered domains.
    quiet_until: HashMap<String, Instant>,
}

/// Orders that may be made now; it fills up again.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    filled_at: Instant,
}

impl Bucket {
    /// How many there are by now.
    fn fill(&mut self, per_hour: f64, most: f64, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.left = (self.left + passed * per_hour / 3_600.0).min(most);
        self.filled_at = now;
        self.left
    }
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    again_at: Instant,
}

impl Attempts {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            failed: HashMap::new(),
            orders: Bucket { left: BURST, filled_at: now },
            of_principals: HashMap::new(),
            quiet_until: HashMap::new(),
        }
    }

    /// Takes an order, if one may be made for that name.
    pub(super) fn take(&mut self, name: &str, why: Why<'_>, now: Instant) -> bool {
        let is_quiet = self.quiet_until.get(domain_of(name)).is_some_and(|until| now < *until);
        let is_early = self.failed.get(name).is_some_and(|failed| now < failed.again_at);
        let left = self.orders.fill(ORDERS_PER_HOUR, BURST, now);
        let own = match why {
            Why::First { principal } => Some(self.own(principal, now)),
            Why::Renewal => None,
        };
        let least = match &own {
            Some(own) if own.left < 1.0 => 1.0 + RESERVE + FOR_OTHERS,
            Some(_) => 1.0 + RESERVE,
            None => 1.0,
        };
        if is_quiet || is_early || left < least {
            return false;
        }
        if let Some(own) = own {
            own.left = (own.left - 1.0).max(0.0);
        }
        self.orders.left -= 1.0;
        true
    }

    fn own(&mut self, principal: &str, now: Instant) -> &mut Bucket {
        if self.of_principals.len() >= MOST_REMEMBERED
            && !self.of_principals.contains_key(principal)
        {
            // Those that are full again are as if they were not there.
            self.of_principals.retain(|_, own| own.fill(OWN_PER_HOUR, OWN_BURST, now) < OWN_BURST);
        }
        let new = Bucket { left: OWN_BURST, filled_at: now };
        let own = self.of_principals.entry(principal.to_owned()).or_insert(new);
        own.fill(OWN_PER_HOUR, OWN_BURST, now);
        own
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
pub(super) enum Why<'a> {
    /// A host of that principal that has no certificate.
    First { principal: &'a str },
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

/// What a principal may have of those at once, and in an hour, before it has to leave some to others. Few have more hosts
/// that are new in one hour.
const OWN_BURST: f64 = 20.0;
const OWN_PER_HOUR: f64 = 10.0;

/// Orders that are left to other principals by one that has had its own: whoever registers hosts without end gets what
/// nobody else wants. A principal alone begins with 20 orders for that, and has 50 in an hour all the same.
const FOR_OTHERS: f64 = 15.0;

/// When a server says that it has had enough, all names of that registered domain are left alone for that long.
const QUIET: Duration = Duration::from_secs(3_600);

/// Names whose failures are remembered, at about 100 bytes each.
const MOST_REMEMBERED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const FIRST: Why<'static> = Why::First { principal: "alice" };

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
    fn a_certificate_is_renewed_when_its_server_would_like_it_and_never_too_late() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let day = Duration::from_secs(86_400);
        let valid = Validity { not_before: start, not_after: start + 60 * day };
        let window = |from: u32, to: u32| start + from * day..start + to * day;
        assert_eq!(within(window(20, 30), valid, 0), Some(start + 20 * day));
        assert_eq!(within(window(20, 30), valid, u16::MAX), Some(start + 30 * day));
        assert_eq!(within(window(50, 200), valid, u16::MAX), Some(start + 55 * day));
        // It was taken back: at once, but not each one that comes after it in the same moment.
        let past = start - 2 * day..start - day;
        assert_eq!(within(past, valid, 7), Some(start + 60 * day / 1_000));
        for none in [window(30, 20), window(20, 20)] {
            assert_eq!(within(none, valid, 7), None);
        }
        assert_eq!(ask_after(Duration::ZERO), Duration::from_secs(60));
        assert_eq!(ask_after(3 * day), day);
    }

    #[test]
    fn a_name_that_fails_waits_longer_each_time_and_others_do_not() {
        let start = Instant::now();
        let mut attempts = Attempts::new(start);
        assert!(attempts.take("a", FIRST, start));
        assert_eq!(attempts.failed("a", start, false), FIRST_PAUSE);
        assert!(!attempts.take("a", FIRST, start + FIRST_PAUSE - MINUTE));
        assert!(attempts.take("b", FIRST, start));
        assert!(attempts.take("a", FIRST, start + FIRST_PAUSE));
        assert_eq!(attempts.failed("a", start + FIRST_PAUSE, false), 2 * FIRST_PAUSE);
        for _ in 0..40 {
            attempts.failed("a", start, false);
        }
        assert_eq!(attempts.failed("a", start, false), LONGEST_PAUSE);
        attempts.succeeded("a");
        assert!(attempts.take("a", FIRST, start + FIRST_PAUSE));
    }

    #[test]
    fn there_are_so_many_orders_an_hour_and_no_more() {
        let start = Instant::now();
        let mut attempts = Attempts::new(start);
        let take = |attempts: &mut Attempts, why, now| {
            (0..1_000).filter(|number| attempts.take(&number.to_string(), why, now)).count()
        };
        assert_eq!(take(&mut attempts, FIRST, start), 20);
        assert_eq!(take(&mut attempts, Why::First { principal: "bob" }, start), 15);
        assert_eq!(take(&mut attempts, Why::Renewal, start), 15, "they are kept for those");
        assert_eq!(take(&mut attempts, FIRST, start + 30 * MINUTE), 5);
        assert_eq!(take(&mut attempts, Why::Renewal, start + 6_000 * MINUTE), 50);
    }

    #[test]
    fn a_principal_with_hosts_without_end_leaves_orders_to_others() {
        let start = Instant::now();
        let mut attempts = Attempts::new(start);
        let mut number = 0;
        let mut take = |attempts: &mut Attempts, principal, now| {
            number += 1;
            attempts.take(&number.to_string(), Why::First { principal }, now)
        };
        let mut greedy = 0;
        for minute in 0..600 {
            let now = start + minute * MINUTE;
            while take(&mut attempts, "alice", now) {
                greedy += 1;
            }
            if minute % 100 == 0 {
                for _ in 0..10 {
                    assert!(take(&mut attempts, "bob", now), "minute {minute}");
                }
            }
        }
        // Nothing that the others leave is lost: 50 and 500 in ten hours, of which 60 were bob's and some are kept.
        assert!((440..=470).contains(&greedy), "{greedy}");
        assert_eq!(attempts.of_principals.len(), 2);
    }

    #[test]
    fn a_server_that_has_had_enough_of_a_domain_is_left_alone_by_all_its_names() {
        let start = Instant::now();
        let mut attempts = Attempts::new(start);
        attempts.failed("a.x.example", start, true);
        let almost = start + QUIET - MINUTE;
        assert!(!attempts.take("b.x.example", FIRST, almost));
        assert!(!attempts.take("x.example", Why::Renewal, almost));
        assert!(attempts.take("b.y.example.com", FIRST, almost));
        assert!(attempts.take("b.x.example", FIRST, start + QUIET));
    }
}
