//! What is known about one visitor's connection, worked out once when it is accepted.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use ferrotunnel_core::CrowdSeat;
use http::HeaderValue;
use parking_lot::Mutex;

use crate::{https::Certificate, interim::Interim, upgrade::Upgrade};

pub(crate) struct Visitor {
    pub(crate) address: SocketAddr,
    /// The address of the listener that accepted it.
    pub(crate) ingress: SocketAddr,
    /// Value of `X-Forwarded-For`: the bare address.
    pub(crate) forwarded_for: HeaderValue,
    /// Value of `X-Forwarded-Port`: that of the listener.
    pub(crate) forwarded_port: HeaderValue,
    /// The `for=` part of `Forwarded`, with the `proto=` part (RFC 7239).
    pub(crate) forwarded_prefix: String,
    /// Where a request that was answered with 101 leaves the rest of the work to the task that
    /// owns the connection. HTTP/1.1 only, where a connection is upgraded at most once.
    pub(crate) upgrade: Mutex<Option<Upgrade>>,
    /// A request over HTTP/1.1 waits for the head of its answer.
    pub(crate) asking: AtomicBool,
    pub(crate) interim: Interim,
    /// Answers whose head there is, over HTTP/1.
    pub(crate) answers: AtomicUsize,
    /// The body of an answer over HTTP/1 is under way. It may look like anything, also like an answer.
    pub(crate) is_sending: AtomicBool,
    /// It has been agreed that the connection carries something else than HTTP/1.
    pub(crate) switched: AtomicBool,
    /// It sent no request in time. Nothing was being answered, so nothing is cut off.
    pub(crate) timed_out: AtomicBool,
    pub(crate) admission: Admission,
    /// How it came over TLS.
    pub(crate) secured: Option<Secured>,
    /// It is a proxy that says for whom it asks, and is believed.
    pub(crate) speaks_for_others: bool,
    /// Its place among those of its source, where that is limited.
    _place: Option<CrowdSeat>,
}

/// What a visitor over TLS asked for, and what it was shown.
pub(crate) struct Secured {
    /// The host that it said it wanted, if it said one.
    pub(crate) asked: Option<Box<str>>,
    pub(crate) shown: Arc<Certificate>,
}

/// Whether there was a place for a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Inside,
    /// All places are taken: whatever it asks for, it is told so, once.
    TurnedAway,
    /// Likewise, but it is those of its source that are taken.
    OneOfTooMany,
}

impl Visitor {
    pub(crate) fn new(address: SocketAddr, ingress: SocketAddr, admission: Admission) -> Self {
        // A listener on [::] sees IPv4 visitors as ::ffff:a.b.c.d; services expect a.b.c.d.
        let ip = address.ip().to_canonical();
        let text = ip.to_string();
        let forwarded_prefix = match ip {
            IpAddr::V4(_) => format!("for={text};proto=http"),
            IpAddr::V6(_) => format!("for=\"[{text}]\";proto=http"),
        };
        // Addresses are digits, letters, dots and colons; the empty value can not happen.
        let forwarded_for =
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self {
            address,
            ingress,
            forwarded_for,
            forwarded_port: HeaderValue::from(ingress.port()),
            forwarded_prefix,
            upgrade: Mutex::new(None),
            asking: AtomicBool::new(false),
            interim: Interim::default(),
            answers: AtomicUsize::new(0),
            is_sending: AtomicBool::new(false),
            switched: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            admission,
            secured: None,
            speaks_for_others: false,
            _place: None,
        }
    }

    /// Its address, which for IPv4 is one on every listener.
    pub(crate) fn canonical(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip().to_canonical(), self.address.port())
    }

    /// The same over TLS.
    pub(crate) fn secured(mut self, secured: Secured) -> Self {
        // It ends with `proto=http`.
        self.forwarded_prefix.push('s');
        Self { secured: Some(secured), ..self }
    }

    /// Value of `X-Forwarded-Proto`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.secured.is_some() { "https" } else { "http" }
    }

    /// The same as a proxy that is believed, or not.
    pub(crate) fn speaking_for_others(self, speaks_for_others: bool) -> Self {
        Self { speaks_for_others, ..self }
    }

    /// The same with its place among those of its source.
    pub(crate) fn placed(self, place: Option<CrowdSeat>) -> Self {
        Self { _place: place, ..self }
    }
}
