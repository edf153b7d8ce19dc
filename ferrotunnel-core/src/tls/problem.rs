//! What is wrong with a certificate, in words for whoever has to do something about it.
//!
//! The side that looked at the certificate knows best; the other one has an alert (RFC 8446, section
//! 6.2) and what it knows of itself.

use std::fmt;
use std::io;
use std::time::Duration;

use ferrotunnel_protocol::Side;
use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::UnixTime;

use super::fault::Fault;

/// Why one side did not take the other's certificate. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProblem {
    fault: CertificateFault,
    text: String,
}

/// What kind of thing is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateFault {
    /// There is none, and one is wanted.
    Missing,
    /// None of the trusted CAs has issued it.
    UnknownIssuer,
    /// Its time is over; an alert says the same of one whose time has not come.
    Expired,
    /// Its time has not come.
    NotValidYet,
    /// It is for other names.
    WrongName,
    /// It is not for servers, or not for clients.
    WrongPurpose,
    /// Its issuer has taken it back.
    Revoked,
    /// Anything else.
    Other,
}

impl CertificateProblem {
    /// What is wrong.
    pub fn fault(&self) -> CertificateFault {
        self.fault
    }

    /// What `error` of a carrier means to this side, if it is about a certificate.
    pub(crate) fn of(error: &io::Error, here: Side) -> Option<Self> {
        let inner = error.get_ref()?;
        if let Some(Fault::Alert(alert)) = inner.downcast_ref() {
            return Self::told(*alert, here);
        }
        match inner.downcast_ref()? {
            Error::AlertReceived(alert) => Self::told(*alert, here),
            Error::NoCertificatesPresented => Some(Self::found(here, &Flaw::Missing)),
            Error::InvalidCertificate(error) => Some(Self::found(here, &Flaw::Bad(error))),
            _ => None,
        }
    }

    /// The other side's certificate, looked at here.
    fn found(here: Side, flaw: &Flaw<'_>) -> Self {
        use CertificateError as Bad;
        let (its, who, usage) = match here {
            Side::Client => ("the server's certificate", "servers", "serverAuth"),
            Side::Server => ("the client's certificate", "clients", "clientAuth"),
        };
        let Flaw::Bad(error) = flaw else {
            let text = match here {
                Side::Client => "the server shows no certificate".to_owned(),
                Side::Server => {
                    "the client shows no certificate, and --tls-client-ca wants one".to_owned()
                }
            };
            return Self { fault: CertificateFault::Missing, text };
        };
        let (fault, text) = match error {
            Bad::UnknownIssuer => {
                let cas = match here {
                    Side::Client => "the CAs that this client trusts (--tls-ca, --tls-verify)",
                    Side::Server => "the CAs of --tls-client-ca",
                };
                (CertificateFault::UnknownIssuer, format!("{its} was issued by none of {cas}"))
            }
            Bad::Expired => (CertificateFault::Expired, format!("{its} has expired")),
            Bad::ExpiredContext { time, not_after } => {
                let ago = span(*not_after, *time);
                (CertificateFault::Expired, format!("{its} expired {ago} ago"))
            }
            Bad::NotValidYet => (
                CertificateFault::NotValidYet,
                format!("{its} is not valid yet; is this machine's clock right?"),
            ),
            Bad::NotValidYetContext { time, not_before } => {
                let left = span(*time, *not_before);
                let text = format!("{its} is not valid for {left}; is this machine's clock right?");
                (CertificateFault::NotValidYet, text)
            }
            Bad::NotValidForName => (
                CertificateFault::WrongName,
                format!(
                    "{its} is for another name; if it is the right server, give it with --tls-server-name"
                ),
            ),
            Bad::NotValidForNameContext { expected, presented } => {
                let names = presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ");
                let names = if names.is_empty() { "no name at all" } else { &names };
                let text = format!(
                    "{its} is for {names} and not for {}; if it is the right server, give its name with --tls-server-name",
                    expected.to_str()
                );
                (CertificateFault::WrongName, text)
            }
            Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => (
                CertificateFault::WrongPurpose,
                format!("{its} is not for {who}: it lacks the extended key usage {usage}"),
            ),
            Bad::Revoked => (CertificateFault::Revoked, format!("{its} was revoked")),
            Bad::UnknownRevocationStatus => (
                CertificateFault::Other,
                format!("{its} has an issuer of which --tls-client-crl has no revocation list"),
            ),
            Bad::ExpiredRevocationList => (
                CertificateFault::Other,
                format!(
                    "{its} cannot be looked up: the revocation list of --tls-client-crl has expired"
                ),
            ),
            Bad::ExpiredRevocationListContext { time, next_update } => {
                let ago = span(*next_update, *time);
                let text = format!(
                    "{its} cannot be looked up: the revocation list of --tls-client-crl expired {ago} ago; put a newer one in its place"
                );
                (CertificateFault::Other, text)
            }
            other => (CertificateFault::Other, format!("{its} cannot be used: {other}")),
        };
        Self { fault, text }
    }

    /// This side's certificate, as the other one judges it.
    fn told(alert: AlertDescription, here: Side) -> Option<Self> {
        use AlertDescription as Alert;
        let (says, ours, who, usage) = match here {
            Side::Client => {
                ("the server", "this client's certificate (--tls-cert)", "clients", "clientAuth")
            }
            Side::Server => ("the client", "this server's certificate", "servers", "serverAuth"),
        };
        let (fault, text) = match alert {
            Alert::CertificateRequired => (
                CertificateFault::Missing,
                match here {
                    Side::Client => "the server wants a client certificate; \
                         give --tls-cert and --tls-key"
                        .to_owned(),
                    Side::Server => "the client wants a certificate".to_owned(),
                },
            ),
            Alert::UnknownCA => (
                CertificateFault::UnknownIssuer,
                format!("{says} does not trust the CA that has issued {ours}"),
            ),
            Alert::CertificateExpired => (
                CertificateFault::Expired,
                format!("{says} says that {ours} has expired or is not valid yet"),
            ),
            Alert::UnsupportedCertificate => (
                CertificateFault::WrongPurpose,
                format!(
                    "{says} says that {ours} is not for {who}: \
                     it needs the extended key usage {usage}"
                ),
            ),
            // A wrong name has no alert of its own.
            Alert::BadCertificate if here == Side::Server => (
                CertificateFault::WrongName,
                format!("{says} does not take {ours}, probably for its names"),
            ),
            Alert::CertificateRevoked => (
                CertificateFault::Revoked,
                format!("{says} has it that {ours} was revoked; get a new one"),
            ),
            Alert::BadCertificate | Alert::CertificateUnknown => (
                CertificateFault::Other,
                format!("{says} does not take {ours}: {}", name_of(alert)),
            ),
            _ => return None,
        };
        Some(Self { fault, text })
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What this side sees in the other's certificate.
enum Flaw<'a> {
    Missing,
    Bad(&'a CertificateError),
}

/// The alert with which the other side ended the connection.
pub(crate) fn alert_in(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    match (inner.downcast_ref(), inner.downcast_ref()) {
        (Some(Fault::Alert(alert)), _) | (_, Some(Error::AlertReceived(alert))) => {
            Some(name_of(*alert))
        }
        _ => None,
    }
}

/// The same error once more, if it is one of TLS: system errors cannot be cloned.
pub(crate) fn same_fault(error: &io::Error) -> Option<io::Error> {
    let inner = error.get_ref()?;
    let fault = inner.downcast_ref::<Fault>().map(|fault| fault.clone().into());
    let rustls =
        || inner.downcast_ref::<Error>().map(|inner| io::Error::new(error.kind(), inner.clone()));
    fault.or_else(rustls)
}

/// `HandshakeFailure` as people write it.
fn name_of(alert: AlertDescription) -> String {
    let (mut name, mut was_small) = (String::new(), false);
    for letter in format!("{alert:?}").chars() {
        if letter.is_uppercase() && was_small {
            name.push(' ');
        }
        was_small = letter.is_lowercase();
        name.extend(letter.to_lowercase());
    }
    name
}

/// A name without what says of which kind it is: `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// How long it is from one time to the other, in its largest unit.
fn span(from: UnixTime, to: UnixTime) -> String {
    let seconds = Duration::from_secs(to.as_secs().saturating_sub(from.as_secs())).as_secs();
    let units = [("day", 86_400), ("hour", 3_600), ("minute", 60)];
    let of =
        |count: u64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    units
        .iter()
        .find(|(_, len)| seconds >= *len)
        .map_or_else(|| of(seconds, "second"), |(unit, len)| of(seconds / len, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_names_for_people() {
        assert_eq!(name_of(AlertDescription::HandshakeFailure), "handshake failure");
        assert_eq!(name_of(AlertDescription::UnknownCA), "unknown ca");
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (7_300, "2 hours"),
            (90_000, "1 day"),
        ] {
            assert_eq!(span(at(1_000), at(1_000 + seconds)), text);
        }
    }

    #[test]
    fn names_are_shown_bare() {
        assert_eq!(bare("DnsName(\"a.example\")"), "a.example");
        assert_eq!(bare("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(bare("b.example"), "b.example");
    }

    #[test]
    fn errors_of_tls_survive_a_copy() {
        let fault = io::Error::from(Fault::Alert(AlertDescription::CertificateRequired));
        let copy = same_fault(&same_fault(&fault).unwrap()).unwrap();
        assert_eq!(alert_in(&copy).as_deref(), Some("certificate required"));
        let rustls = io::Error::new(
            io::ErrorKind::InvalidData,
            Error::AlertReceived(AlertDescription::HandshakeFailure),
        );
        assert_eq!(alert_in(&same_fault(&rustls).unwrap()).as_deref(), Some("handshake failure"));
        assert!(same_fault(&io::ErrorKind::TimedOut.into()).is_none());
    }
}
