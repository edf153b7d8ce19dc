//! Requests a second.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};

use super::rates::Rates;
use crate::{Plugin, PluginAction, RequestContext, Result};

/// Answers requests with 429 that come faster than they may: from one visitor's address, or for one tunnel. After a
/// pause as many as in a second may come at once.
///
/// An address of IPv6 is its /64, which is what one subscriber has. All visitors behind a proxy share an address.
#[derive(Debug)]
pub struct RateLimit {
    of_address: Option<Rates<IpAddr>>,
    of_tunnel: Option<Rates<String>>,
}

impl RateLimit {
    /// No limits yet.
    pub fn new() -> Self {
        Self { of_address: None, of_tunnel: None }
    }

    /// So many requests a second from one address.
    #[must_use]
    pub fn per_address(mut self, per_second: u32) -> Self {
        self.of_address = Some(Rates::new(per_second, MOST_ADDRESSES, Instant::now()));
        self
    }

    /// So many requests a second for one tunnel, over all visitors.
    #[must_use]
    pub fn per_tunnel(mut self, per_second: u32) -> Self {
        self.of_tunnel = Some(Rates::new(per_second, MOST_TUNNELS, Instant::now()));
        self
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

/// Some 3 MiB when all are there. Beyond it newcomers share one rate.
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
}
