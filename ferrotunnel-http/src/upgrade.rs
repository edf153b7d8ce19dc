//! Requests that turn their connection into something else: WebSocket and any other `Upgrade` of HTTP/1.1, and WebSocket
//! over HTTP/2 (RFC 8441), which is an `Upgrade` of HTTP/1.1 for the local service. Once both sides have agreed, bytes
//! pass untouched.

use ferrotunnel_core::Servant;
use ferrotunnel_core::splice::{Io, splice};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::{ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::{
    headers::has_token,
    refusal::Refusal,
    websocket::{Key, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY},
};

/// What a visitor asked its connection, or one stream of it, to become.
pub(crate) struct Wish {
    protocol: HeaderValue,
    visitor: OnUpgrade,
    /// The visitor asked over HTTP/2, and it is us who make the handshake.
    key: Option<Key>,
}

/// Both ends of a connection that changes its protocol.
pub(crate) struct Upgrade {
    visitor: OnUpgrade,
    local: OnUpgrade,
    /// It is a stream of the visitor's connection, which goes on beside it.
    pub(crate) is_stream: bool,
    /// Who is busy with it until its end.
    servant: Option<Servant>,
}

impl Wish {
    /// Takes the wish out of a request, if there is one that may be forwarded.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Result<Option<Self>, Refusal> {
        if *request.method() == Method::CONNECT {
            return Self::over_http2(request).map(Some);
        }
        let headers = request.headers();
        let Some(protocol) = headers.get(UPGRADE).cloned() else { return Ok(None) };
        // h2c would let the visitor speak to the local service behind our back (RFC 9113 drops
        // it), and HTTP/2 and HTTP/1.0 know no Upgrade.
        let forwarded = request.version() == Version::HTTP_11
            && has_token(headers, &CONNECTION, "upgrade")
            && !has_token(headers, &UPGRADE, "h2c");
        let wish = || Self { protocol, visitor: hyper::upgrade::on(request), key: None };
        Ok(forwarded.then(wish))
    }

    /// An extended CONNECT; it becomes the GET that a local service over HTTP/1.1 expects.
    fn over_http2<B>(request: &mut Request<B>) -> Result<Self, Refusal> {
        match request.extensions_mut().remove::<Protocol>() {
            // This is no forward proxy.
            None => return Err(Refusal::Connect),
            Some(protocol) if protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) => {}
            Some(_) => return Err(Refusal::Protocol),
        }
        let key = Key::pick().ok_or(Refusal::OverLimit)?;
        let visitor = hyper::upgrade::on(&mut *request);
        *request.method_mut() = Method::GET;
        let protocol = HeaderValue::from_static(WEBSOCKET);
        Ok(Self { protocol, visitor, key: Some(key) })
    }

    /// Says it again to the local service, after the headers of the visitor's hop were stripped.
    pub(crate) fn repeat(&self, headers: &mut HeaderMap) {
        set(headers, self.protocol.clone());
        if let Some(key) = self.key.as_ref().and_then(Key::value) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
    }

    /// Agrees with the local service's 101. `protocol` is the `Upgrade` header it came with.
    pub(crate) fn granted<B>(
        self,
        response: &mut Response<B>,
        protocol: Option<HeaderValue>,
    ) -> Result<Upgrade, Refusal> {
        let is_stream = self.key.is_some();
        if let Some(key) = &self.key {
            if !key.is_accepted_by(response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT).as_ref()) {
                return Err(Refusal::BadAnswer);
            }
            *response.status_mut() = StatusCode::OK;
        } else {
            set(response.headers_mut(), protocol.unwrap_or(self.protocol));
        }
        let local = hyper::upgrade::on(response);
        Ok(Upgrade { visitor: self.visitor, local, is_stream, servant: None })
    }

    /// Whether an answer other than 101 may be passed on. To a CONNECT every 2xx says that it is granted.
    pub(crate) fn can_be_declined_with(&self, status: StatusCode) -> bool {
        self.key.is_none() || !status.is_success()
    }
}

impl Upgrade {
    /// The same, counted among what its servant does.
    pub(crate) fn served_by(self, servant: Option<Servant>) -> Self {
        Self { servant, ..self }
    }

    /// Copies both ways until both sides are done. No idle limit: a WebSocket may be silent for
    /// hours, and its own pings say when it is dead.
    pub(crate) async fn run(self) {
        let Self { visitor, local, servant: _busy, .. } = self;
        let (visitor, local) = match tokio::try_join!(visitor, local) {
            Ok(both) => both,
            Err(error) => return debug!(%error, "an upgrade was not completed"),
        };
        let visitor = Io::new(TokioIo::new(visitor));
        let local = Io::new(TokioIo::new(local));
        if let Err(error) = splice(visitor, local, None).await {
            debug!(%error, "an upgraded connection broke");
        }
    }
}

/// As a protocol of HTTP/1.1 and of HTTP/2 alike.
const WEBSOCKET: &str = "websocket";

fn set(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(version: Version, connection: &str, upgrade: &str) -> bool {
        let mut request = Request::builder()
            .version(version)
            .header("connection", connection)
            .header("upgrade", upgrade)
            .body(())
            .unwrap();
        Wish::of(&mut request).unwrap().is_some()
    }

    #[test]
    fn only_a_whole_http11_upgrade_is_forwarded() {
        assert!(wish(Version::HTTP_11, "keep-alive, Upgrade", "websocket"));
        assert!(!wish(Version::HTTP_11, "keep-alive", "websocket"));
        assert!(!wish(Version::HTTP_10, "upgrade", "websocket"));
        assert!(!wish(Version::HTTP_2, "upgrade", "websocket"));
    }

    #[test]
    fn an_upgrade_to_h2c_is_not_forwarded() {
        assert!(!wish(Version::HTTP_11, "Upgrade, HTTP2-Settings", "h2c"));
        assert!(!wish(Version::HTTP_11, "upgrade", "websocket, H2C"));
    }
}
