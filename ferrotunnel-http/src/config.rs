//! What an operator may tune of the HTTP ingress, each with its reason, and what stays fixed in it
//! on both sides.

use std::{sync::Arc, time::Duration};

use ferrotunnel_plugin::{Chain, RequestMeter, RequestTracer};

use crate::error_pages::ErrorPages;
use ferrotunnel_core::{TapMaker, TrustedProxies};

/// Settings of an [`HttpIngress`](crate::HttpIngress). Limits are on idleness, not on totals: a
/// download or an event stream may last for days.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpConfig {
    /// How long a visitor may take to send the head of a request, and how long a keep-alive
    /// connection may rest between two requests. It is what ends a slow-loris. 30 s is more than
    /// any honest browser needs and keeps connections warm while a page is being read.
    pub header_read_timeout: Duration,
    /// How long the local service may take until the head of its response. `None`, the default,
    /// waits as long as the visitor does: long polling is legitimate. Beyond it the visitor gets
    /// a 504.
    pub response_timeout: Option<Duration>,
    /// The port of HTTPS to which visitors are sent who come without TLS. `None`, the default: they are served
    /// like those who do.
    pub redirect_to_https: Option<u16>,
    /// Visitors connected at once, over all listeners. More are answered with a 503 and closed; when
    /// many come at once, most are closed without an answer: what they cost then is one accept.
    pub max_visitors: usize,
    /// How long requests in progress may go on after shutdown was asked for, before they are cut. Who
    /// was accepted but has not asked for anything has half a second.
    pub drain_grace: Duration,
    /// For how long after the start a request for a host without a tunnel waits for one. A server
    /// that takes its listeners over from a predecessor takes visitors too who came while it was
    /// away, and its clients need a moment to come back. `None`, the default: not at all.
    pub settling: Option<Duration>,
    /// How long a connection to a local service is kept between two requests. A new one costs no
    /// round trip through the tunnel, so this stays below the 5 s after which Node.js, Apache and
    /// uvicorn hang up on an idle connection: a request that crosses such a hang-up is lost. One
    /// that is shared over HTTP/2 goes between once and twice this time after the last request.
    pub pool_idle_timeout: Duration,
    /// What browsers see when an answer is the ingress's own; the built-in pages by default.
    pub error_pages: ErrorPages,
    /// Proxies in front of the ingress, whose word is taken for who a visitor is.
    pub proxies: TrustedProxies,
    /// How many such connections are kept for each tunnel. Each holds a socket of the local
    /// service and some 10 KiB here; a burst may open more, they are closed when done.
    pub pool_max_idle_per_tunnel: usize,
    /// Who has a say in each request. Without any, as by default, a request passes one branch for it.
    pub plugins: Option<Chain>,
    /// Who counts requests. Without anybody, as by default, a request passes one branch for it.
    pub meter: Option<Arc<dyn RequestMeter>>,
    /// Who keeps traces of requests. Without anybody, as by default, it is the same branch.
    pub tracer: Option<Arc<dyn RequestTracer>>,
    /// Who sees what passes between the ingress and local services. Nobody by default.
    pub taps: Option<Arc<dyn TapMaker>>,
}

impl HttpConfig {
    /// What `header_read_timeout` is by default.
    pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

    /// What `pool_idle_timeout` is by default.
    pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            header_read_timeout: Self::HEADER_READ_TIMEOUT,
            response_timeout: None,
            redirect_to_https: None,
            max_visitors: 100_000,
            drain_grace: Duration::from_secs(10),
            settling: None,
            pool_idle_timeout: Self::POOL_IDLE_TIMEOUT,
            error_pages: ErrorPages::default(),
            proxies: TrustedProxies::default(),
            pool_max_idle_per_tunnel: 256,
            plugins: None,
            meter: None,
            tracer: None,
            taps: None,
        }
    }
}

/// Bytes that hyper may hold for one connection in each direction: the longest head of a request
/// it takes, and what is read ahead of a peer that does not keep up. Much less would cost bulk
/// transfers more turns, much more would let stalled visitors fill the memory.
pub(crate) const MAX_BUFFERED: usize = 64 << 10;
