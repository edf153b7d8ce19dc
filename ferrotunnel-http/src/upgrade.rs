//! Requests that turn their connection into something else (WebSocket and any other `Upgrade` of
//! HTTP/1.1): once both sides have agreed, bytes pass untouched.

use ferrotunnel_core::splice::{Io, splice};
use http::{
    HeaderMap, HeaderValue, Request, Response, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::headers::has_token;

/// What a visitor asked its connection to become.
pub(crate) struct Wish {
    protocol: HeaderValue,
    visitor: OnUpgrade,
}

/// Both ends of a connection that changes its protocol.
pub(crate) struct Upgrade {
    visitor: OnUpgrade,
    local: OnUpgrade,
}

impl Wish {
    /// Takes the wish out of a request, if there is one that may be forwarded.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Option<Self> {
        let headers = request.headers();
        let protocol = headers.get(UPGRADE)?.clone();
        // h2c would let the visitor speak to the local service behind our back (RFC 9113 drops
        // it), and HTTP/2 and HTTP/1.0 know no Upgrade.
        let forwarded = request.version() == Version::HTTP_11
            && has_token(headers, &CONNECTION, "upgrade")
            && !has_token(headers, &UPGRADE, "h2c");
        forwarded.then(|| Self { protocol, visitor: hyper::upgrade::on(request) })
    }

    /// Says it again to the local service, after the headers of the visitor's hop were stripped.
    pub(crate) fn repeat(&self, headers: &mut HeaderMap) {
        set(headers, self.protocol.clone());
    }

    /// Agrees with the local service's 101. `protocol` is the `Upgrade` header it came with.
    pub(crate) fn granted<B>(
        self,
        response: &mut Response<B>,
        protocol: Option<HeaderValue>,
    ) -> Upgrade {
        set(response.headers_mut(), protocol.unwrap_or(self.protocol));
        Upgrade { visitor: self.visitor, local: hyper::upgrade::on(response) }
    }
}

impl Upgrade {
    /// Copies both ways until both sides are done. No idle limit: a WebSocket may be silent for
    /// hours, and its own pings say when it is dead.
    pub(crate) async fn run(self) {
        let (visitor, local) = match tokio::try_join!(self.visitor, self.local) {
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
        Wish::of(&mut request).is_some()
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
