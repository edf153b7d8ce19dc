//! From when and until when a certificate is good, and by what its issuer knows it: the few bytes of its DER that say so.

use std::time::{Duration, SystemTime};

/// As a certificate says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// What an issuer tells a certificate from others by (RFC 9773, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// Of the key that has signed it.
    pub(crate) issuer: Vec<u8>,
    pub(crate) serial: Vec<u8>,
}

/// Reads it out of a certificate (RFC 5280, section 4.1). The rest of it is for rustls to judge.
pub(super) fn validity(certificate: &[u8]) -> Option<Validity> {
    let (times, _) = element(behind_issuer(certificate)?.1, SEQUENCE)?;
    let (not_before, rest) = time(times)?;
    let (not_after, _) = time(rest)?;
    Some(Validity { not_before, not_after })
}

/// `None` if it does not say which key has signed it.
pub(super) fn number(certificate: &[u8]) -> Option<Number> {
    let (serial, mut rest) = behind_issuer(certificate)?;
    // Validity, subject, public key.
    for _ in 0..3 {
        rest = element(rest, SEQUENCE)?.1;
    }
    let mut extensions = element(element(rest, EXTENSIONS)?.0, SEQUENCE)?.0;
    while !extensions.is_empty() {
        let (extension, more) = element(extensions, SEQUENCE)?;
        extensions = more;
        let (kind, mut value) = element(extension, OBJECT)?;
        if kind != AUTHORITY_KEY {
            continue;
        }
        if value.first() == Some(&BOOLEAN) {
            value = element(value, BOOLEAN)?.1;
        }
        let (value, _) = element(value, OCTETS)?;
        let (issuer, _) = element(element(value, SEQUENCE)?.0, KEY_IDENTIFIER)?;
        return Some(Number { issuer: issuer.to_vec(), serial: serial.to_vec() });
    }
    None
}

/// The serial number, and what follows the issuer's name.
fn behind_issuer(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest, VERSION)?.1;
    }
    let (serial, rest) = element(rest, INTEGER)?;
    // Signature, issuer.
    let (_, rest) = element(rest, SEQUENCE)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    Some((serial, rest))
}

/// The content of an element with that tag, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, input) = input.split_first()?;
    let (&first, input) = input.split_first()?;
    let (len, input) = match first {
        0..=0x7f => (usize::from(first), input),
        0x81..=0x84 => {
            let (bytes, input) = input.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), input)
        }
        _ => return None,
    };
    (found == tag).then(|| input.split_at_checked(len)).flatten()
}

/// A time of either form, both of which end with seconds and `Z`; what follows it.
fn time(input: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (text, rest, year_len) = match *input.first()? {
        tag @ UTC_TIME => element(input, tag).map(|(text, rest)| (text, rest, 2))?,
        tag => element(input, tag).filter(|_| tag == GENERALIZED_TIME).map(|(t, r)| (t, r, 4))?,
    };
    let (year, text) = text.split_at_checked(year_len)?;
    let year = match (digits_of(year)?, year_len) {
        (year, 2) if year < 50 => 2_000 + year,
        (year, 2) => 1_900 + year,
        (year, _) => year,
    };
    let (digits, zone) = text.split_at_checked(10)?;
    if zone != b"Z" {
        return None;
    }
    let mut parts = digits.chunks(2).map(digits_of);
    let mut next = || parts.next().flatten();
    let (month, day) = (next()?, next()?);
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    let day_seconds = hours * 3_600 + minutes * 60 + seconds;
    let since = u64::try_from(days(year, month, day)? * 86_400 + day_seconds).unwrap_or_default();
    Some((SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since))?, rest))
}

fn digits_of(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|&number| number >= 0)
}

/// Days from 1970-01-01 to that date, by the calendar of today.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin with March here, so that the day that is not always there comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap_days + day_of_year - DAYS_TO_1970)
}

/// From the first of March of the year 0.
const DAYS_TO_1970: i64 = 719_468;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const KEY_IDENTIFIER: u8 = 0x80;

/// 2.5.29.35.
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;

    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    fn certificate() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2024, 2, 29), date_time_ymd(2050, 12, 31));
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_times_are_read() {
        let valid = validity(&certificate()).unwrap();
        assert_eq!(seconds(valid.not_before), 1_709_164_800);
        assert_eq!(seconds(valid.not_after), 2_556_057_600);
        let at = |text: &[u8], tag| {
            let bytes = [&[tag, text.len() as u8], text].concat();
            time(&bytes).map(|(time, rest)| (seconds(time), rest.len()))
        };
        assert_eq!(at(b"700101000000Z", UTC_TIME), Some((0, 0)));
        assert_eq!(at(b"491231235959Z", UTC_TIME), Some((2_524_607_999, 0)));
        assert_eq!(at(b"20000301010203Z", GENERALIZED_TIME), Some((951_872_523, 0)));
        // Before all of this: good from the beginning.
        assert_eq!(at(b"500101000000Z", UTC_TIME), Some((0, 0)));
        for bad in [&b"701301000000Z"[..], b"700100000000Z", b"700101000000", b"7001010000Z", b"-1"]
        {
            assert_eq!(at(bad, UTC_TIME), None, "{bad:?}");
        }
    }

    #[test]
    fn a_certificate_is_known_by_its_issuers_key_and_its_serial_number() {
        let (issuer_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut issuer = CertificateParams::new(Vec::new()).unwrap();
        issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let named = issuer.key_identifier(&issuer_key);
        let issuer = CertifiedIssuer::self_signed(issuer, issuer_key).unwrap();
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        // Above 0x7f, which DER writes with a zero before it.
        params.serial_number = Some(vec![0x87, 0x65, 0x43, 0x21].into());
        let unnamed = params.signed_by(&key, &issuer).unwrap();
        assert_eq!(number(unnamed.der()), None);
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let Number { issuer: found, serial } = number(certificate.der()).unwrap();
        assert_eq!(serial, [0, 0x87, 0x65, 0x43, 0x21]);
        assert!(!found.is_empty() && found == named);
    }

    #[test]
    fn what_is_cut_off_or_no_certificate_has_no_validity() {
        let certificate = certificate();
        for len in 0..200 {
            let _ = (validity(&certificate[..len]), number(&certificate[..len]));
        }
        assert_eq!(validity(&certificate[..60]), None);
        assert_eq!(validity(&[]), None);
        assert_eq!(validity(&[SEQUENCE, 0x84, 255, 255, 255, 255]), None);
        for at in 0..120 {
            for change in [0, 0x7f, 0x80, 0xff] {
                let mut changed = certificate.clone();
                changed[at] = change;
                let _ = (validity(&changed), number(&changed));
            }
        }
    }
}
