//! What our answers say: one status, one word for programs, and one sentence for people each.

use http::StatusCode;

use crate::{
    framing::Unclear,
    refusal::{Challenge, Refusal},
};

/// What is said about one [`Refusal`], in whatever form.
pub(crate) struct Wording {
    pub(crate) status: StatusCode,
    /// Value of `FerroTunnel-Error`; part of the public interface.
    pub(crate) kind: &'static str,
    pub(crate) title: &'static str,
    /// What differs from request to request.
    pub(crate) detail: Option<String>,
    pub(crate) advice: &'static str,
}

impl Wording {
    pub(crate) fn of(refusal: &Refusal) -> Self {
        let (status, kind, title, advice) = match refusal {
            Refusal::BadHost(_) => (
                StatusCode::BAD_REQUEST,
                "bad-host",
                "Bad request",
                "Send exactly one Host header that names the tunnel you want.",
            ),
            Refusal::Unclear(Unclear::TargetTooLong) => (
                StatusCode::URI_TOO_LONG,
                "uri-too-long",
                "Address too long",
                "Send what is longer in the body of a request.",
            ),
            Refusal::Unclear(Unclear::TooLong | Unclear::TooMany) => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-too-large",
                "Request head too large",
                "Send fewer or shorter headers; often it is cookies that have piled up.",
            ),
            Refusal::Unclear(_) => (
                StatusCode::BAD_REQUEST,
                "bad-request",
                "Bad request",
                "Send what HTTP/1.1 (RFC 9112) asks for, to the letter: what can be read in two ways is \
                 not passed on.",
            ),
            Refusal::BadBody => (
                StatusCode::BAD_REQUEST,
                "bad-body",
                "Bad request body",
                "The body of the request broke off, or is not in the form that its head says. Send it again.",
            ),
            Refusal::Connect => (
                StatusCode::METHOD_NOT_ALLOWED,
                "connect-refused",
                "Not a forward proxy",
                "This server publishes tunnels; it opens no connections to other places. Remove \
                 it from the proxy settings of your client.",
            ),
            Refusal::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected",
                "This connection is for another host",
                "The certificate of this connection is not for the host that was asked for. Open \
                 a connection of its own for that host.",
            ),
            Refusal::Protocol => (
                StatusCode::NOT_IMPLEMENTED,
                "protocol-refused",
                "Protocol not supported",
                "Over HTTP/2, the only protocol that a CONNECT can ask for here is \"websocket\".",
            ),
            Refusal::NoSuchTunnel(_) => (
                StatusCode::NOT_FOUND,
                "no-such-tunnel",
                "No such tunnel",
                "Check the address. If the tunnel is yours, check that its client is running and \
                 connected.",
            ),
            Refusal::UnclearPath => (
                StatusCode::BAD_REQUEST,
                "unclear-path",
                "Unclear path",
                "The path of this address can be read in several ways, and here they lead to different places. Write \
                 it without \"..\", double slashes and characters that are encoded without need.",
            ),
            Refusal::AddressNotAllowed => (
                StatusCode::FORBIDDEN,
                "address-not-allowed",
                "Not open to your address",
                "This tunnel lets in visitors from certain addresses only. If it is yours, look at what its \
                 client allows and denies.",
            ),
            Refusal::Unauthorized(Challenge { basic: true, .. }) => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Who are you?",
                "This tunnel lets in those who have a password for it. Give yours, or ask its owner for one.",
            ),
            Refusal::Unauthorized(_) => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Who are you?",
                "This tunnel lets in those who have a token for it. Send yours as \"Authorization: Bearer\", or ask \
                 its owner for one.",
            ),
            Refusal::TooManyGuesses(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-passwords",
                "Too many wrong passwords",
                "They came from your address, or from one that shares it. Wait for as long as Retry-After says, and \
                 try again with the right one.",
            ),
            Refusal::ChecksBusy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "checks-busy",
                "Too many passwords to check",
                "Those of many visitors are being checked at the moment. Try again in a moment.",
            ),
            Refusal::TooManyRequests(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-requests",
                "Too many requests from your address",
                "This tunnel takes only so many from one address. Wait for as long as Retry-After says.",
            ),
            Refusal::LocalUnreachable => (
                StatusCode::BAD_GATEWAY,
                "local-unreachable",
                "Local service unreachable",
                "The tunnel is up, but the service behind it refuses connections. If it is \
                 yours, start it, or correct the local address given to the tunnel's client.",
            ),
            Refusal::BadAnswer => (
                StatusCode::BAD_GATEWAY,
                "bad-answer",
                "Bad answer from the local service",
                "The service behind this tunnel broke off before it had answered, or does not \
                 speak the expected version of HTTP. If it is yours, look at its log.",
            ),
            Refusal::SessionLost => (
                StatusCode::BAD_GATEWAY,
                "session-lost",
                "The tunnel was interrupted",
                "The connection to the tunnel's client broke while your request was being worked \
                 on. The client reconnects by itself; try again, if asking twice does no harm.",
            ),
            Refusal::OverLimit => (
                StatusCode::SERVICE_UNAVAILABLE,
                "over-limit",
                "Too many visitors",
                "This tunnel has as many open connections as it may have. Try again in a moment.",
            ),
            Refusal::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "server-full",
                "Too many visitors on this server",
                "It has as many visitors as it takes, over all tunnels. Try again in a moment.",
            ),
            Refusal::OneOfTooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-from-address",
                "Too many connections from your address",
                "You, and others who share your address, have as many connections to this server as one \
                 address may have. Close some, or try again in a moment.",
            ),
            Refusal::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                "draining",
                "The tunnel is going away",
                "It finishes what is open and takes nothing new, usually for a restart. Try \
                 again in a moment.",
            ),
            Refusal::Paused => (
                StatusCode::SERVICE_UNAVAILABLE,
                "paused",
                "The tunnel is paused",
                "Whoever runs this server, or what is behind the tunnel, lets nobody in for now. Try again later.",
            ),
            Refusal::TunnelClosed => (
                StatusCode::SERVICE_UNAVAILABLE,
                "tunnel-closed",
                "The tunnel has just closed",
                "Its client is likely to reconnect at once. Try again in a moment.",
            ),
            Refusal::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "The local service is too slow",
                "The service behind this tunnel did not answer in time. Try again later.",
            ),
            Refusal::Rejected(rejected) => (
                rejected.status,
                "rejected",
                rejected.status.canonical_reason().unwrap_or("Rejected"),
                "This server has rules for its visitors. If they seem wrong to you, ask its operator.",
            ),
            Refusal::PluginFailed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "plugin-failed",
                "The server made a mistake",
                "A plugin of this server did not work. If the server is yours, look at its log.",
            ),
        };
        let detail = match refusal {
            Refusal::BadHost(bad) => Some(format!("{bad}.")),
            Refusal::Unclear(unclear) => Some(format!("{unclear}.")),
            Refusal::NoSuchTunnel(host) => Some(format!("No tunnel is registered for \"{host}\".")),
            Refusal::Rejected(rejected) => Some(rejected.reason.clone()),
            _ => None,
        };
        Self { status, kind, title, detail, advice }
    }

    /// For programs, and for people at a terminal.
    pub(crate) fn text(&self) -> String {
        let Self { title, advice, .. } = self;
        match &self.detail {
            Some(detail) => format!("{title}: {detail}\n{advice}\n"),
            None => format!("{title}\n{advice}\n"),
        }
    }
}
