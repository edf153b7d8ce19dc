//! Requests and bytes a second.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};

use super::rates::Rates;
use crate::{Dir, Plugin, PluginAction, RequestContext, Result};

/// Answers requests with 429 that come faster than they may: from one visitor's address, or for one tunnel. After a
/// pause as many as in a second may come at once. Bodies that come faster than they may wait; they lose nothing by that.
/// Each way counts by itself. Connections that were upgraded, like WebSockets, are no bodies.
///
/// An address of IPv6 is its /64, which is what one subscriber has. All visitors behind a proxy share an address.
#[derive(Debug)]
pub struct RateLimit {
    of_address: Option<Rates<IpAddr>>,
    of_tunnel: Option<Rates<String>>,
    /// Bytes of requests, and of answers.
    bytes_of_address: Option<[Rates<IpAddr>; 2]>,
    bytes_of_tunnel: Option<[Rates<String>; 2]>,
}

impl RateLimit {
    /// No limits yet.
    pub fn new() -> Self {
        Self { of_address: None, of_tunnel: None, bytes_of_address: None, bytes_of_tunnel: None }
    }

    /// So many requests a second from one address.
    #[must_use]
    pub fn per_address(mut self, per_second: u32) -> Self {
        self.of_address = Some(Rates::new(per_second.into(), MOST_ADDRESSES, Instant::now()));
        self
    }

    /// So many requests a second for one tunnel, over all visitors.
    #[must_use]
    pub fn per_tunnel(mut self, per_second: u32) -> Self {
        self.of_tunnel = Some(Rates::new(per_second.into(), MOST_TUNNELS, Instant::now()));
        self
    }

    /// So many bytes of requests a second from one address, and as many of answers to it.
    #[must_use]
    pub fn bytes_per_address(mut self, per_second: u64) -> Self {
        let rates = || Rates::new(per_second, MOST_ADDRESSES, Instant::now());
        self.bytes_of_address = Some([rates(), rates()]);
        self
    }

    /// So many bytes of requests a second for one tunnel, and as many of answers, over all visitors.
    #[must_use]
    pub fn bytes_per_tunnel(mut self, per_second: u64) -> Self {
        let rates = || Rates::new(per_second, MOST_TUNNELS, Instant::now());
        self.bytes_of_tunnel = Some([rates(), rates()]);
        self
    }

    fn charge(&self, dir: Dir, bytes: usize, context: &RequestContext, now: Instant) {
        if let Some(rates) = &self.bytes_of_address {
            way(rates, dir).charge(source(context.visitor().ip()), bytes as u64, now);
        }
        if let (Some(rates), Some(tunnel)) = (&self.bytes_of_tunnel, context.tunnel()) {
            way(rates, dir).charge(tunnel.name.clone(), bytes as u64, now);
        }
    }

    fn wait(&self, dir: Dir, context: &RequestContext, now: Instant) -> Duration {
        let of_address = self.bytes_of_address.as_ref().map(|rates| {
            let source = source(context.visitor().ip());
            way(rates, dir).wait(&source, now)
        });
        let of_tunnel = self.bytes_of_tunnel.as_ref().zip(context.tunnel());
        let of_tunnel = of_tunnel.map(|(rates, tunnel)| way(rates, dir).wait(&*tunnel.name, now));
        let wait = of_address.max(of_tunnel).unwrap_or_default();
        // Many may wait for the same, and each looks again. Nothing is lost by coming late: what has not been used
        // meanwhile may pass at once.
        if wait.is_zero() { wait } else { wait.max(LOOK_AGAIN) }
    }

    fn take(
        &self,
        context: &RequestContext,
        now: Instant,
    ) -> std::result::Result<(), (Duration, &'static str)> {
        if let Some(rates) = &self.of_address {
            let source = source(context.visitor().ip());
            rates.take(source, now).map_err(|wait| (wait, "from your address"))?;
        }
        if let (Some(rates), Some(tunnel)) = (&self.of_tunnel, context.tunnel()) {
            let taken = rates.take(tunnel.name.clone(), now);
            taken.map_err(|wait| (wait, "for this tunnel"))?;
        }
        Ok(())
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

/// Left for the response of a request that came too fast.
#[derive(Clone, Copy)]
struct Wait(Duration);

#[async_trait]
impl Plugin for RateLimit {
    fn name(&self) -> &str {
        "rate-limit"
    }

    fn wants_sessions(&self) -> bool {
        false
    }

    fn wants_body_chunks(&self) -> bool {
        self.bytes_of_address.is_some() || self.bytes_of_tunnel.is_some()
    }

    fn on_request_chunk(&self, chunk: &Bytes, context: &RequestContext) -> Result<()> {
        self.charge(Dir::Request, chunk.len(), context, Instant::now());
        Ok(())
    }

    fn on_response_chunk(&self, chunk: &Bytes, context: &RequestContext) -> Result<()> {
        self.charge(Dir::Response, chunk.len(), context, Instant::now());
        Ok(())
    }

    fn holds_body(&self, dir: Dir, context: &RequestContext) -> Duration {
        self.wait(dir, context, Instant::now())
    }

    async fn on_request(
        &self,
        _: &mut Request<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        match self.take(context, Instant::now()) {
            Ok(()) => Ok(PluginAction::Continue),
            Err((wait, whose)) => {
                context.insert(Wait(wait));
                Ok(PluginAction::Reject {
                    status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
                    reason: format!("There are too many requests {whose}; wait a moment."),
                })
            }
        }
    }

    async fn on_response(
        &self,
        response: &mut Response<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        if let Some(Wait(wait)) = context.get() {
            // Rounded up: who comes a little early is refused again.
            let seconds = HeaderValue::from(wait.as_secs() + 1);
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        Ok(PluginAction::Continue)
    }
}

fn way<K>([request, response]: &[Rates<K>; 2], dir: Dir) -> &Rates<K> {
    match dir {
        Dir::Request => request,
        Dir::Response => response,
    }
}

/// Who one subscriber is.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let network = ip.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

/// Between two looks at a body that waits: a thousand that wait for one rate cost some hundredths of a processor.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Some 3 MiB for each rate when all are there. Beyond it newcomers share one rate.
const MOST_ADDRESSES: usize = 65_536;

/// More than servers have. Names are short, so this is some 4 MiB at most.
const MOST_TUNNELS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TunnelContext;
    use ferrotunnel_common::TunnelKind;

    fn request(ip: &str, tunnel: &str) -> RequestContext {
        let visitor = std::net::SocketAddr::new(ip.parse().unwrap(), 1);
        let tunnel = TunnelContext::new(tunnel, TunnelKind::Http, None, "");
        RequestContext::new(visitor, visitor, Some(tunnel))
    }

    #[test]
    fn addresses_and_tunnels_have_their_own_rates() {
        let limit = RateLimit::new().per_address(2).per_tunnel(5);
        let now = Instant::now();
        let taken = |ip, tunnel| {
            let context = request(ip, tunnel);
            (0..10).take_while(|_| limit.take(&context, now).is_ok()).count()
        };
        assert_eq!(taken("192.0.2.1", "app"), 2);
        assert_eq!(taken("::ffff:192.0.2.1", "app"), 0, "it is the same one");
        assert_eq!(taken("2001:db8::1", "app"), 2);
        assert_eq!(taken("2001:db8::2", "app"), 0, "it is the same network");
        assert_eq!(taken("2001:db8:0:1::1", "app"), 1, "the tunnel has had its five");
        assert_eq!(taken("192.0.2.2", "other"), 2);
    }

    #[test]
    fn what_has_no_limit_passes() {
        let limit = RateLimit::new().per_tunnel(1);
        let now = Instant::now();
        assert!(limit.take(&request("192.0.2.1", "a"), now).is_ok());
        assert!(limit.take(&request("192.0.2.1", "b"), now).is_ok());
        assert!(limit.take(&request("192.0.2.2", "a"), now).is_err());
    }
    #[test]
    fn bytes_count_each_way_by_address_and_by_tunnel() {
        let limit = RateLimit::new().bytes_per_address(1_000).bytes_per_tunnel(4_000);
        let now = Instant::now();
        let wait = |dir, ip, tunnel| limit.wait(dir, &request(ip, tunnel), now).as_secs_f64();
        assert!(limit.wants_body_chunks() && !RateLimit::new().per_address(1).wants_body_chunks());
        limit.charge(Dir::Response, 3_000, &request("192.0.2.1", "app"), now);
        assert!((1.9..2.1).contains(&wait(Dir::Response, "192.0.2.1", "app")));
        assert!((1.9..2.1).contains(&wait(Dir::Response, "::ffff:192.0.2.1", "other")));
        assert_eq!(wait(Dir::Request, "192.0.2.1", "app"), 0.0, "the other way is another rate");
        assert_eq!(wait(Dir::Response, "192.0.2.2", "app"), 0.0, "the tunnel has some left");
        limit.charge(Dir::Response, 3_000, &request("192.0.2.3", "app"), now);
        assert!((0.4..0.6).contains(&wait(Dir::Response, "192.0.2.2", "app")));
        assert_eq!(wait(Dir::Response, "192.0.2.2", "other"), 0.0);
        // Nobody looks more often than there is something to see.
        limit.charge(Dir::Request, 1_001, &request("192.0.2.9", "app"), now);
        assert_eq!(wait(Dir::Request, "192.0.2.9", "app"), LOOK_AGAIN.as_secs_f64());
    }
}
