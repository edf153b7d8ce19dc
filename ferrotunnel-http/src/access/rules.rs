//! The rules of one tunnel: made at registration, asked with every request.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    hmac::{HMAC_SHA256, Key, sign},
    rand::SystemRandom,
};
use ferrotunnel_core::{Gate, option_values, pack_option};
use http::HeaderMap;
use parking_lot::Mutex;

use super::{
    BasicUser, BearerToken, Checks, VisitorRate,
    authorization::Shown,
    checks::{Wrong, in_seconds},
    rate::Limiter,
};
use crate::refusal::{Challenge, Refusal};

/// What a client asks for: who may come in, and how often. Any user with the password, and any token, will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpAccess {
    /// With passwords.
    pub users: Vec<BasicUser>,
    /// Instead of them.
    pub tokens: Vec<BearerToken>,
    /// Of every source.
    pub rate: Option<VisitorRate>,
}

impl HttpAccess {
    /// The options that say so at registration.
    pub fn to_options(&self) -> Vec<(String, String)> {
        let mut options = pack_option(BASIC, &self.users);
        options.extend(pack_option(BEARER, &self.tokens));
        options.extend(pack_option(RATE, self.rate));
        options
    }

    fn of_options(options: &[(String, String)]) -> Result<Self, String> {
        if let Some((key, _)) =
            options.iter().find(|(key, _)| ![BASIC, BEARER, RATE].contains(&&**key))
        {
            return Err(format!("this server knows no option {key:?}; leave it out"));
        }
        let mut rates = option_values(options, RATE);
        let access = Self {
            users: read(options, BASIC)?,
            tokens: read(options, BEARER)?,
            rate: rates.next().map(|rate| told(RATE, rate.parse())).transpose()?,
        };
        for (key, is_empty) in [
            (BASIC, access.users.is_empty()),
            (BEARER, access.tokens.is_empty()),
            (RATE, access.rate.is_none()),
        ] {
            // It would let everybody in whom somebody wanted to keep out.
            if is_empty && options.iter().any(|(name, _)| name == key) {
                return Err(format!("the option {key:?} has nothing in it"));
            }
        }
        if rates.next().is_some() {
            return Err(format!("the option {RATE:?} has more than one rate in it"));
        }
        let mut names: Vec<_> = access.users.iter().map(BasicUser::name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("the option {BASIC:?} has user {:?} twice", pair[0]));
        }
        Ok(access)
    }
}

fn read<T: std::str::FromStr<Err = String>>(
    options: &[(String, String)],
    key: &str,
) -> Result<Vec<T>, String> {
    option_values(options, key).map(|text| told(key, text.parse())).collect()
}

fn told<T>(key: &str, read: Result<T, String>) -> Result<T, String> {
    read.map_err(|why| format!("the option {key:?}: {why}"))
}

/// The rules that a client asks for with these options.
///
/// # Errors
/// What is wrong with them.
pub fn make_gate(options: &[(String, String)]) -> Result<Gate, String> {
    let access = HttpAccess::of_options(options)?;
    let asks_who = !access.users.is_empty() || !access.tokens.is_empty();
    let rules = Rules::new(access)?;
    Ok(Gate { rules: Arc::new(rules), asks_who })
}

/// The rules of one tunnel, and who has kept them of late.
pub(crate) struct Rules {
    access: HttpAccess,
    limiter: Option<Limiter>,
    verified: Arc<Verified>,
}

/// What is to become of a request.
pub(crate) enum Judgement {
    Pass,
    Refused(Refusal),
    /// It is to be asked about again when that is done.
    Checking(Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>),
}

impl Rules {
    fn new(access: HttpAccess) -> Result<Self, String> {
        let limiter = access.rate.map(|rate| Limiter::new(rate, Instant::now()));
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the server's system has no randomness".to_owned())?;
        let verified = Arc::new(Verified { key, until: Mutex::default() });
        Ok(Self { access, limiter, verified })
    }

    /// Whether visitors have to show who they are. What they show is for us then, and not for the local service.
    pub(crate) fn asks_who(&self) -> bool {
        !self.access.users.is_empty() || !self.access.tokens.is_empty()
    }

    /// Whether the visitor has shown who it is.
    pub(crate) fn judge(
        &self,
        headers: &HeaderMap,
        from: IpAddr,
        realm: &str,
        checks: &Checks,
    ) -> Judgement {
        if !self.asks_who() {
            return Judgement::Pass;
        }
        match Shown::by(headers) {
            Some(Shown::Bearer(token)) if self.access.tokens.iter().any(|one| one.is(token)) => {
                Judgement::Pass
            }
            Some(Shown::Basic(pair)) if !self.access.users.is_empty() => {
                self.judge_password(pair, from, realm, checks)
            }
            _ => Judgement::Refused(self.challenge(realm)),
        }
    }

    fn judge_password(
        &self,
        pair: Vec<u8>,
        from: IpAddr,
        realm: &str,
        checks: &Checks,
    ) -> Judgement {
        let print = self.verified.print(&pair);
        if self.verified.knows(&print, Instant::now()) {
            return Judgement::Pass;
        }
        let Some(colon) = pair.iter().position(|byte| *byte == b':') else {
            return Judgement::Refused(self.challenge(realm));
        };
        let user = self.access.users.iter().find(|user| user.name().as_bytes() == &pair[..colon]);
        // Somebody else's password is checked then, so that the time it takes does not tell who there is.
        let (is_user, user) = match (user, self.access.users.first()) {
            (Some(user), _) => (true, user.clone()),
            (None, Some(somebody)) => (false, somebody.clone()),
            (None, None) => return Judgement::Refused(self.challenge(realm)),
        };
        let (verified, again) = (Arc::clone(&self.verified), Arc::clone(&self.verified));
        let check = move || {
            let is_right = user.has_password(&pair[colon + 1..]) && is_user;
            if is_right {
                verified.remember(print, Instant::now());
            }
            is_right
        };
        let is_known = move || again.knows(&print, Instant::now());
        let challenge = self.challenge(realm);
        let checking = checks.clone().run(from, is_known, check);
        Judgement::Checking(Box::pin(async move {
            checking.await.map_err(|wrong| match wrong {
                Wrong::Password => challenge,
                Wrong::NotNow(refusal) => refusal,
            })
        }))
    }

    /// One more request from there.
    pub(crate) fn pace(&self, from: IpAddr) -> Result<(), Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter
            .take(from, Instant::now())
            .map_err(|wait| Refusal::TooManyRequests(in_seconds(wait)))
    }

    fn challenge(&self, realm: &str) -> Refusal {
        Refusal::Unauthorized(Challenge {
            realm: realm.into(),
            basic: !self.access.users.is_empty(),
            bearer: !self.access.tokens.is_empty(),
        })
    }
}

/// Passwords that were right a moment ago, by a keyed hash that is worth nothing elsewhere.
struct Verified {
    key: Key,
    until: Mutex<HashMap<Print, Instant>>,
}

type Print = [u8; 32];

impl Verified {
    fn print(&self, pair: &[u8]) -> Print {
        let mut print = [0; 32];
        for (byte, of) in print.iter_mut().zip(sign(&self.key, pair).as_ref()) {
            *byte = *of;
        }
        print
    }

    fn knows(&self, print: &Print, now: Instant) -> bool {
        self.until.lock().get(print).is_some_and(|until| *until > now)
    }

    fn remember(&self, print: Print, now: Instant) {
        let mut until = self.until.lock();
        until.retain(|_, until| *until > now);
        if until.len() >= MOST_REMEMBERED {
            // One that is checked again costs time; one that was never remembered would be checked for ever.
            let oldest = until.iter().min_by_key(|(_, until)| **until).map(|(print, _)| *print);
            oldest.map(|print| until.remove(&print));
        }
        until.insert(print, now + REMEMBERED);
    }
}

/// A password is checked again after that time: browsers send it with every request.
const REMEMBERED: Duration = Duration::from_secs(300);

/// More users than most tunnels have; of more at the same time some are checked more often.
const MOST_REMEMBERED: usize = 512;

const BASIC: &str = "access-basic";
const BEARER: &str = "access-bearer";
const RATE: &str = "access-rate";

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::AUTHORIZATION};

    use super::*;
    use crate::access::hash_password;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn rules(access: &HttpAccess) -> Arc<Rules> {
        make_gate(&access.to_options()).unwrap().rules.downcast().unwrap()
    }

    fn access() -> HttpAccess {
        let hash = hash_password("open sesame").unwrap();
        HttpAccess {
            users: vec![BasicUser::new("Aladdin", &hash).unwrap()],
            tokens: vec![BearerToken::of_secret("0123456789abcdef").unwrap()],
            rate: Some("10/m".parse().unwrap()),
        }
    }

    fn showing(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn who_was_checked_is_remembered_though_many_were_before() {
        let now = Instant::now();
        let verified = Verified { key: Key::new(HMAC_SHA256, &[7; 32]), until: Mutex::default() };
        for number in 0..2 * MOST_REMEMBERED {
            let print = verified.print(&number.to_be_bytes());
            verified.remember(print, now + Duration::from_millis(number as u64));
            assert!(verified.knows(&print, now), "{number}");
        }
        assert_eq!(verified.until.lock().len(), MOST_REMEMBERED);
    }

    #[test]
    fn rules_travel_as_options() {
        let access = access();
        assert_eq!(HttpAccess::of_options(&access.to_options()), Ok(access));
        assert!(HttpAccess::default().to_options().is_empty());
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let user = access().users[0].to_string();
        for (key, value) in [
            (BASIC, "Aladdin:open-sesame"),
            (BASIC, ""),
            (BASIC, &*format!("{user} {user}")),
            (BEARER, "0123456789abcdef"),
            (BEARER, " "),
            (RATE, "fast"),
            (RATE, "1/s 2/s"),
            (RATE, ""),
            ("access-mood", "good"),
        ] {
            let error = make_gate(&[(key.to_owned(), value.to_owned())]).unwrap_err();
            assert!(error.contains(key) && !error.contains("sesame"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_password_is_checked_once_and_remembered() {
        let (rules, checks) = (rules(&access()), Checks::new());
        let right = showing("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let judge = |headers: &HeaderMap| rules.judge(headers, FROM, "app", &checks);
        let Judgement::Checking(checking) = judge(&right) else { panic!("it is not known yet") };
        assert_eq!(checking.await, Ok(()));
        assert!(matches!(judge(&right), Judgement::Pass));
        // Of somebody else, and another one.
        for wrong in ["Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZTE="] {
            let Judgement::Checking(checking) = judge(&showing(wrong)) else { panic!("{wrong}") };
            assert_eq!(checking.await, Err(rules.challenge("app")));
        }
        let later = Instant::now() + REMEMBERED;
        let print = rules.verified.print(b"Aladdin:open sesame");
        assert!(!rules.verified.knows(&print, later), "not for ever");
    }

    #[test]
    fn a_token_passes_and_anything_else_is_asked_for_one() {
        let (rules, checks) = (rules(&access()), Checks::new());
        let judge = |headers: &HeaderMap| rules.judge(headers, FROM, "app", &checks);
        assert!(matches!(judge(&showing("Bearer 0123456789abcdef")), Judgement::Pass));
        for wrong in [showing("Bearer 0123456789abcdeg"), showing("Digest x"), HeaderMap::new()] {
            let Judgement::Refused(refusal) = judge(&wrong) else { panic!("{wrong:?}") };
            assert_eq!(refusal, rules.challenge("app"));
        }
    }
}
