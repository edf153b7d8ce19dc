//! Visitors of HTTP tunnels: both versions, with bodies both ways.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONNECTION, HOST};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Address, Visits};
use crate::dice::Dice;
use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::pattern::{Pattern, Way};

/// Whom a request is for, and who answers it.
pub(crate) const TENANT: &str = "x-soak-tenant";
/// The number of the conversation.
pub(crate) const NUMBER: &str = "x-soak-number";
/// Bytes of the request.
pub(crate) const UP: &str = "x-soak-up";
/// Bytes that are asked for.
pub(crate) const DOWN: &str = "x-soak-down";
/// Bytes of the request that arrived.
pub(crate) const RECEIVED: &str = "x-soak-received";

pub(crate) fn number_in(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// A body of numbered bytes.
#[derive(Debug)]
pub(crate) struct PatternBody {
    pattern: Pattern,
    length: u64,
    /// Whether the length is told beforehand.
    told: bool,
}

impl PatternBody {
    pub(crate) fn new(number: u64, way: Way, length: u64, told: bool) -> Self {
        Self { pattern: Pattern::of(number, way), length, told }
    }
}

impl Body for PatternBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let left = this.length - this.pattern.position();
        Poll::Ready((left > 0).then(|| Ok(Frame::data(this.pattern.next(left)))))
    }

    fn is_end_stream(&self) -> bool {
        self.pattern.position() == self.length
    }

    fn size_hint(&self) -> SizeHint {
        if self.told {
            SizeHint::with_exact(self.length - self.pattern.position())
        } else {
            SizeHint::default()
        }
    }
}

/// A request and what has to come back.
struct Asked {
    tenant: u32,
    number: u64,
    up: u64,
    down: u64,
}

impl Asked {
    fn new(visits: &Visits, address: &Address, dice: &mut Dice) -> Self {
        // Most are small, one in eight has bodies of some size.
        let most = if dice.below(8) == 0 { LARGE } else { SMALL };
        let up = if dice.below(2) == 0 { dice.below(most) } else { 0 };
        Self { tenant: address.tenant, number: visits.number(), up, down: dice.below(most) }
    }

    fn request(&self, uri: &str) -> Result<Request<PatternBody>, Fault> {
        let method = if self.up == 0 { "GET" } else { "POST" };
        let body = PatternBody::new(self.number, Way::Up, self.up, self.up.is_multiple_of(2));
        let request = Request::builder().method(method).uri(uri);
        let request = request.header(TENANT, self.tenant).header(NUMBER, self.number);
        let request = request.header(UP, self.up).header(DOWN, self.down).body(body);
        request.map_err(|error| Fault::Broken(error.to_string(), "at the request"))
    }

    async fn check(&self, response: Response<Incoming>, ledger: &Ledger) -> Result<(), Fault> {
        own_answer(&response)?;
        let said = |name| number_in(response.headers(), name);
        if said(TENANT) != Some(self.tenant.into()) {
            return Err(Fault::Wrong("the answer of another tenant".to_owned()));
        }
        if said(NUMBER) != Some(self.number) {
            return Err(Fault::Wrong("the answer to another request".to_owned()));
        }
        if response.status() != StatusCode::OK {
            return Err(Fault::Wrong(format!(
                "the service got no whole request: {}",
                response.status()
            )));
        }
        if said(RECEIVED) != Some(self.up) {
            return Err(Fault::Wrong("the service got another number of bytes".to_owned()));
        }
        let mut heard = Pattern::of(self.number, Way::Down);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Fault::http("in a body", &error))?;
            let Some(data) = frame.data_ref() else { continue };
            heard.check(data).map_err(|differs| Fault::differs("in a body", differs))?;
            ledger.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if heard.position() != self.down {
            return Err(Fault::Wrong("a body ended before its time, as if whole".to_owned()));
        }
        ledger.requests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether it is the local service that answers, and not the server for it.
pub(super) fn own_answer<B>(response: &Response<B>) -> Result<(), Fault> {
    match response.headers().get("ferrotunnel-error") {
        Some(error) => {
            let error = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Err(Fault::Refused(response.status(), error))
        }
        None => Ok(()),
    }
}

/// A connection for one request.
pub(super) async fn one_request(visits: &Visits, address: &Address, dice: &mut Dice) -> bool {
    let server = address.server.watch();
    let asked = Asked::new(visits, address, dice);
    let talk = async {
        let mut sender = http1(visits, address).await?;
        let mut request = asked.request("/once")?;
        let headers = request.headers_mut();
        headers.insert(HOST, host(address)?);
        headers.insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
        let response = sender.send_request(request).await;
        asked.check(response.map_err(|error| Fault::http("asking", &error))?, &visits.ledger).await
    };
    visits.one("one request", address, &server, talk).await
}

/// A connection for several requests.
pub(super) async fn keep_alive(visits: &Visits, address: &Address, dice: &mut Dice) -> bool {
    let server = address.server.watch();
    let mut kept = None;
    for _ in 0..dice.between(2, 12) {
        let asked = Asked::new(visits, address, dice);
        let talk = async {
            let sender = match &mut kept {
                Some(sender) => sender,
                none => none.insert(http1(visits, address).await?),
            };
            let mut request = asked.request("/kept")?;
            request.headers_mut().insert(HOST, host(address)?);
            let ready = sender.ready().await;
            ready.map_err(|error| Fault::http("on a connection that was kept", &error))?;
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| Fault::http("asking", &error))?;
            asked.check(response, &visits.ledger).await
        };
        if !visits.one("request, kept alive", address, &server, talk).await {
            return false;
        }
    }
    true
}

/// A connection for several requests at once.
pub(super) async fn http2(visits: &Visits, address: &Address, dice: &mut Dice) -> bool {
    let server = address.server.watch();
    let mut connected = None;
    let connect = async {
        let io = TokioIo::new(visits.dial(address).await?);
        let handshake = http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) =
            handshake.map_err(|error| Fault::http("at the beginning", &error))?;
        tokio::spawn(connection);
        connected = Some(sender);
        Ok(())
    };
    if !visits.one("HTTP/2 connection", address, &server, connect).await {
        return false;
    }
    let Some(sender) = connected else { return false };
    let uri = format!("http://{}/h2", address.host);
    let mut all_went_well = true;
    for _ in 0..dice.between(1, 4) {
        let at_once = (0..dice.between(1, 8)).map(|_| {
            let (asked, mut sender) = (Asked::new(visits, address, dice), sender.clone());
            let (uri, server) = (&uri, &server);
            async move {
                let talk = async {
                    let request = asked.request(uri)?;
                    let ready = sender.ready().await;
                    ready.map_err(|error| Fault::http("on a connection that was kept", &error))?;
                    let response = sender.send_request(request).await;
                    let response = response.map_err(|error| Fault::http("asking", &error))?;
                    asked.check(response, &visits.ledger).await
                };
                visits.one("HTTP/2 request", address, server, talk).await
            }
        });
        let went_well = join_all(at_once.collect::<Vec<_>>()).await;
        all_went_well &= went_well.into_iter().all(|well| well);
        if !all_went_well {
            break;
        }
    }
    all_went_well
}

async fn http1(
    visits: &Visits,
    address: &Address,
) -> Result<http1::SendRequest<PatternBody>, Fault> {
    let io = TokioIo::new(visits.dial(address).await?);
    let handshake = http1::handshake(io).await;
    let (sender, connection) =
        handshake.map_err(|error| Fault::http("at the beginning", &error))?;
    // It ends with its sender, or by itself.
    tokio::spawn(connection);
    Ok(sender)
}

fn host(address: &Address) -> Result<hyper::header::HeaderValue, Fault> {
    let host = hyper::header::HeaderValue::from_str(&address.host);
    host.map_err(|error| Fault::Broken(error.to_string(), "at the request"))
}

/// Bytes of most bodies, below that.
const SMALL: u64 = 2 << 10;

/// Bytes of the others: some windows' worth.
const LARGE: u64 = 512 << 10;
