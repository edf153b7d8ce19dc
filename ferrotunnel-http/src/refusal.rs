//! Why a visitor gets an answer of ours. What that answer says is in [`crate::answer`].

use std::{error::Error, io};

use ferrotunnel_core::{OpenError, ResetCode, StreamError};
use ferrotunnel_plugin::BrokenOff;
use http::StatusCode;

use crate::{framing::Unclear, host::BadHost};

/// Why a visitor gets an answer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request does not say, or not clearly, whom it is for.
    BadHost(BadHost),
    /// Somebody could see the ends of the message elsewhere.
    Unclear(Unclear),
    /// The body of the request broke off, or is none.
    BadBody,
    /// CONNECT: this is no forward proxy.
    Connect,
    /// The connection is another host's: its certificate is not for the one that was asked for.
    Misdirected,
    /// CONNECT to something that is neither a place nor a WebSocket.
    Protocol,
    /// No tunnel has the host that was asked for.
    NoSuchTunnel(Box<str>),
    /// The path may be read as one tunnel's or as another's.
    UnclearPath,
    /// The tunnel does not let in visitors from this address.
    AddressNotAllowed,
    /// The visitor has not shown who it is, or not rightly.
    Unauthorized(Challenge),
    /// Too many wrong passwords came from its source; it may try again after so many seconds.
    TooManyGuesses(u64),
    /// The passwords of too many others are being checked.
    ChecksBusy,
    /// More requests of its source than the tunnel takes; it may come again after so many seconds.
    TooManyRequests(u64),
    /// The local service refused the connection.
    LocalUnreachable,
    /// The local service broke off, or what it said is no HTTP.
    BadAnswer,
    /// The session broke while the local service was working.
    SessionLost,
    /// The session or its client has all the streams it may have.
    OverLimit,
    /// The session, or the whole server, finishes what is open and takes nothing new.
    Draining,
    /// Somebody at the server, or its client, has said that the tunnel takes no visitors for now.
    Paused,
    /// The ingress has all the visitors it may have.
    Full,
    /// The source of the visitor has all the visitors it may have.
    OneOfTooMany,
    /// The tunnel closed between routing and opening; its client is likely to be back soon.
    TunnelClosed,
    /// The local service took too long.
    Timeout,
    /// A plugin says no.
    Rejected(Box<Rejected>),
    /// A plugin did not work.
    PluginFailed,
}

/// How a plugin says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// From 400 to 599.
    pub(crate) status: StatusCode,
    /// For the visitor.
    pub(crate) reason: String,
}

/// How a visitor may show who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// What for: the name of the tunnel.
    pub(crate) realm: Box<str>,
    /// By a user name and a password.
    pub(crate) basic: bool,
    /// By a bearer token.
    pub(crate) bearer: bool,
}

impl Refusal {
    /// Reads the cause out of an error of hyper's client.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<BrokenOff>() {
                return Self::Rejected(Box::new(Rejected {
                    status: StatusCode::BAD_REQUEST,
                    reason: "The body of the request was not let through to its end.".to_owned(),
                }));
            }
            if let Some(open) = error.downcast_ref::<OpenError>() {
                return Self::from(*open);
            }
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user) {
                // Unless a plugin broke it off.
                return error
                    .source()
                    .map(Self::of)
                    .filter(Self::is_rejected)
                    .unwrap_or(Self::BadBody);
            }
            let of_stream = error.downcast_ref::<io::Error>().and_then(StreamError::from_io);
            if let Some(stream) = of_stream {
                return Self::from(stream);
            }
            next = error.source();
        }
        Self::BadAnswer
    }
}

impl Refusal {
    fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether nobody has heard of the request, and another session of the tunnel may have better luck. A local service
    /// that was not reached is another one only where `is_shared`.
    pub(crate) fn is_undelivered(&self, is_shared: bool) -> bool {
        match self {
            // Both happen between the choice of a session and its first frame.
            Self::TunnelClosed | Self::Draining => true,
            Self::LocalUnreachable => is_shared,
            _ => false,
        }
    }

    /// Whether it is not clear what the visitor has said, so that nothing behind it can be taken for
    /// a request.
    pub(crate) fn is_doubt(&self) -> bool {
        matches!(self, Self::BadHost(_) | Self::Unclear(_) | Self::BadBody)
    }
}

impl From<BadHost> for Refusal {
    fn from(bad: BadHost) -> Self {
        Self::BadHost(bad)
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::LimitReached => Self::OverLimit,
            OpenError::Draining => Self::Draining,
            _ => Self::TunnelClosed,
        }
    }
}

impl From<&StreamError> for Refusal {
    fn from(error: &StreamError) -> Self {
        match error {
            StreamError::Reset { code, .. } => match code {
                ResetCode::LocalUnreachable => Self::LocalUnreachable,
                ResetCode::Timeout => Self::Timeout,
                ResetCode::LimitExceeded => Self::OverLimit,
                ResetCode::UnknownTunnel => Self::TunnelClosed,
                _ => Self::BadAnswer,
            },
            StreamError::SessionClosed => Self::SessionLost,
            // It overtook the goodbye of its client, which has not looked at it.
            StreamError::Unserved => Self::TunnelClosed,
            _ => Self::BadAnswer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_however_deep_it_lies() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);

        let reset = |code| StreamError::Reset { code, reason: String::new() };
        let cases = [
            (reset(ResetCode::LocalUnreachable), Refusal::LocalUnreachable),
            (reset(ResetCode::Timeout), Refusal::Timeout),
            (reset(ResetCode::LimitExceeded), Refusal::OverLimit),
            (reset(ResetCode::LocalFailed), Refusal::BadAnswer),
            (StreamError::SessionClosed, Refusal::SessionLost),
            (StreamError::Unserved, Refusal::TunnelClosed),
            (reset(ResetCode::UnknownTunnel), Refusal::TunnelClosed),
        ];
        for (error, expected) in cases {
            assert_eq!(Refusal::of(&Outer(io::Error::other(error))), expected);
        }
        assert_eq!(Refusal::of(&Outer(io::ErrorKind::BrokenPipe.into())), Refusal::BadAnswer);
    }
}
