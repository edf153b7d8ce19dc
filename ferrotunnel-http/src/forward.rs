//! One request from a visitor to a local service, and the response back.

use std::{
    convert::Infallible,
    future::Future,
    mem,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant as StdInstant},
};

use ferrotunnel_core::{NoRoute, Routes, TrustedProxies, Tunnel, tasks::Tasks};
use ferrotunnel_plugin::Chain;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE},
    request, response,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::{
    body::Incoming,
    ext::{Protocol, on_informational},
};
use parking_lot::RwLock;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use crate::{
    access::{Checks, Judgement, Rules},
    answer::{Asker, Form, answer},
    body::Body,
    config::{HttpConfig, MAX_BUFFERED},
    early,
    error_pages::ErrorPages,
    forwarded,
    framing::Unclear,
    front::{Front, Look},
    grpc::is_grpc,
    header_rules::HeaderRules,
    headers,
    host::Asked,
    https::Challenges,
    leave::Leave,
    local::Local,
    measured::{Measured, Watchers},
    plain,
    plugged::Asking,
    refusal::Refusal,
    request_id::{self, X_REQUEST_ID},
    sending::{Sending, Via},
    strip::strip,
    traced::{self, Traced},
    upgrade::Wish,
    visitor::{Admission, Visitor},
    wording::Wording,
};

/// A request that has been forwarded, and what its visitor wants beyond the response.
pub(crate) struct Exchange {
    sending: Sending,
    wish: Option<Wish>,
    /// What its response is to pass.
    rules: Option<Arc<HeaderRules>>,
    /// For whom a proxy asks.
    behind: Option<Arc<Visitor>>,
    /// Of which a trace is kept.
    traced: Option<Arc<Measured>>,
}

/// What came of the attempt to forward a request.
enum Forwarded {
    Done(Result<Exchange, Stopped>),
    /// Its tunnel may be there in a moment.
    NotYet(Request<Incoming>, Moment),
    /// The plugins are to be asked first.
    Asking(Box<Asking>, Chain),
}

/// Done when it is worth to look again, or when that is in vain.
type Moment = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// Why a request goes no further.
pub(crate) struct Stopped {
    refusal: Refusal,
    /// For the plugins, where they have not been asked. Boxed: few requests end so.
    early: Option<Box<early::Asking>>,
}

impl From<Refusal> for Stopped {
    /// There is nobody who would have to be told.
    fn from(refusal: Refusal) -> Self {
        Self { refusal, early: None }
    }
}

impl Stopped {
    fn of<B>(refusal: Refusal, request: &Request<B>, plugins: Option<&Chain>) -> Self {
        let early = plugins.map(|plugins| Box::new(early::Asking::of(request, plugins)));
        Self { refusal, early }
    }
}

/// Why a request goes no further for now.
enum Stop {
    Refused(Refusal),
    Waiting(Moment),
}

fn done_after(moment: impl Future<Output = ()> + Send + 'static) -> Moment {
    Box::pin(async {
        moment.await;
        Ok(())
    })
}

/// What became of a request so far.
enum Begun {
    Already(Result<Exchange, Stopped>),
    /// It is not for a tunnel.
    Ours(Box<Response<Body>>, Option<Box<early::Asking>>),
    /// Boxed: few wait, and all would pay for it.
    InAMoment(Pin<Box<dyn Future<Output = Result<Response<Body>, Stopped>> + Send>>),
}

/// Takes requests to the tunnels that their hosts name.
pub(crate) struct Forwarder {
    routes: Arc<dyn Routes>,
    front: Front,
    local: Local,
    /// What outlives its request ends with the ingress.
    tasks: Tasks,
    checks: Checks,
    proxies: TrustedProxies,
    response_timeout: Option<Duration>,
    pub(crate) pages: RwLock<ErrorPages>,
    /// Until then tunnels that are missing may be on their way.
    settled_at: Option<Instant>,
    /// For requests that wait for those.
    waiting: Arc<Semaphore>,
    plugins: RwLock<Option<Chain>>,
    watchers: Watchers,
}

impl Forwarder {
    pub(crate) fn new(
        routes: Arc<dyn Routes>,
        config: &HttpConfig,
        challenges: Option<Challenges>,
        tasks: Tasks,
    ) -> Self {
        let local = Local::new(routes.clone(), config, tasks.clone());
        let settled_at = config.settling.map(|time| Instant::now() + time);
        let pages = RwLock::new(config.error_pages.clone());
        let (response_timeout, plugins) = (config.response_timeout, config.plugins.clone());
        let front = Front { challenges, redirect: config.redirect_to_https };
        let (checks, proxies) = (Checks::new(), config.proxies.clone());
        Self {
            routes,
            front,
            local,
            tasks,
            checks,
            proxies,
            response_timeout,
            pages,
            settled_at,
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            plugins: RwLock::new(plugins),
            watchers: Watchers { meter: config.meter.clone(), tracer: config.tracer.clone() },
        }
    }

    /// Those that are asked about a request that comes now, if there are any.
    pub(crate) fn plugins(&self) -> Option<Chain> {
        self.plugins.read().clone()
    }

    /// Other plugins from now on; requests under way keep theirs.
    pub(crate) fn set_plugins(&self, plugins: Option<Chain>) {
        let before = mem::replace(&mut *self.plugins.write(), plugins);
        // Their ends may take a moment, and no request is to wait for it.
        drop(before);
    }

    /// Other pages from now on.
    pub(crate) fn set_error_pages(&self, pages: ErrorPages) {
        *self.pages.write() = pages;
    }

    /// Answers one request, with the local service's response or with an answer of ours.
    ///
    /// The request is worked on before the future begins, and not inside: hyper keeps room for
    /// the future with every connection, and without the request it is a quarter of the size.
    pub(crate) fn answer(
        self: &Arc<Self>,
        visitor: &Arc<Visitor>,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + 'static {
        let form = Form::wanted_by(request.headers());
        let id = request_id::of(request.headers_mut());
        let measured = Measured::begin(&self.watchers, &mut request, visitor, &id);
        let mut asker = Asker { form, id, measured };
        let is_http1 = request.version() != Version::HTTP_2;
        // What came too late for an earlier request is none of this one's.
        visitor.interim.clear();
        visitor.asking.store(request.version() == Version::HTTP_11, Ordering::Release);
        let is_last = is_http1 && visitor.admission != Admission::Inside;
        let plugins = self.plugins();
        let begun = match self.front.look(visitor, &request) {
            Look::Ours(response) => {
                let early = plugins.map(|plugins| Box::new(early::Asking::of(&request, &plugins)));
                Begun::Ours(response, early)
            }
            Look::Refused(refusal) => {
                Begun::Already(Err(Stopped::of(refusal, &request, plugins.as_ref())))
            }
            Look::Passes => match self.forward(visitor, request, &asker, plugins.as_ref()) {
                Forwarded::Done(result) => Begun::Already(result),
                Forwarded::NotYet(request, moment) => {
                    let (visitor, asker) = (visitor.clone(), asker.clone());
                    let later =
                        self.clone().forward_later(visitor, request, moment, asker, plugins);
                    Begun::InAMoment(Box::pin(later))
                }
                Forwarded::Asking(asking, plugins) => Begun::InAMoment(Box::pin(
                    self.clone().ask_plugins(plugins, visitor.clone(), asking, asker.clone()),
                )),
            },
        };
        let (forwarder, visitor) = (self.clone(), visitor.clone());
        async move {
            // Those of whom plugins were asked have an answer in any case.
            let mut early = None;
            let response = match begun {
                Begun::Already(Ok(exchange)) => {
                    forwarder.finish(exchange, &visitor).await.map_err(Stopped::from)
                }
                Begun::Already(Err(stopped)) => Err(stopped),
                Begun::InAMoment(response) => response.await,
                Begun::Ours(response, of_it) => {
                    early = of_it;
                    Ok(*response)
                }
            };
            let mut response = response.unwrap_or_else(|stopped| {
                let Stopped { refusal, early: of_it } = stopped;
                early = of_it;
                let (visitor, request) = (visitor.address, asker.id());
                debug!(%visitor, request, ?refusal, "a request was not forwarded");
                if let Some(measured) = &asker.measured {
                    measured.refused(&refusal);
                }
                let mut response = answer(&refusal, &asker, &forwarder.pages.read());
                if is_last || (is_http1 && refusal.is_doubt()) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                response
            });
            if let Some(asking) = early {
                asking.tell(&visitor, &asker, &response);
            }
            if let Some(measured) = asker.measured.take() {
                measured.answered(&mut response);
            }
            // A local service may have a name of its own for it.
            response.headers_mut().entry(X_REQUEST_ID).or_insert(asker.id);
            if is_http1 {
                response = response.map(|body| body.sent_to(&visitor));
            }
            visitor.asking.store(false, Ordering::Release);
            visitor.answers.fetch_add(1, Ordering::Release);
            Ok(response)
        }
    }

    fn forward(
        &self,
        visitor: &Arc<Visitor>,
        mut request: Request<Incoming>,
        asker: &Asker,
        plugins: Option<&Chain>,
    ) -> Forwarded {
        let stopped =
            |refusal, request: &_| Forwarded::Done(Err(Stopped::of(refusal, request, plugins)));
        match visitor.admission {
            Admission::Inside => {}
            Admission::TurnedAway => return stopped(Refusal::Full, &request),
            Admission::OneOfTooMany => return stopped(Refusal::OneOfTooMany, &request),
        }
        let is_extended = request.extensions().get::<Protocol>().is_some();
        if *request.method() == Method::CONNECT && !is_extended {
            return stopped(Refusal::Connect, &request);
        }
        if request.version() == Version::HTTP_2 && early::is_too_long(&request, MAX_BUFFERED) {
            return stopped(Refusal::Unclear(Unclear::TooLong), &request);
        }
        let asked = match Asked::by(request.uri(), request.headers(), request.version()) {
            Ok(asked) => asked,
            Err(bad) => return stopped(bad.into(), &request),
        };
        let routed = self.route(asked.as_ref(), request.uri());
        let mut routed = routed.map_err(|refusal| (refusal, None));
        if matches!(routed, Err((Refusal::NoSuchTunnel(_), _)))
            && self.is_settling()
            && let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned()
        {
            let moment = async {
                sleep(LOOK_EVERY).await;
                drop(place);
            };
            return Forwarded::NotYet(request, done_after(moment));
        }
        let behind = forwarded::behind(visitor, request.headers(), &self.proxies);
        let traced = asker.traced();
        if let (Some(traced), Some(behind)) = (traced, &behind) {
            traced.is_by(behind);
        }
        if let Ok(tunnel) = &routed {
            if let Some(measured) = &asker.measured {
                measured.is_for(tunnel);
            }
            let from = behind.as_ref().unwrap_or(visitor).address.ip();
            match self.enter(tunnel, from, request.headers_mut()) {
                Ok(()) => {}
                Err(Stop::Waiting(moment)) => return Forwarded::NotYet(request, moment),
                Err(Stop::Refused(refusal)) => {
                    if behind.is_some() {
                        // What is logged of the answer knows the proxy only.
                        debug!(visitor = %from, proxy = %visitor.address, tunnel = tunnel.label(), ?refusal, "kept out");
                    }
                    let tunnel = Some(Arc::clone(tunnel));
                    routed = Err((refusal, tunnel));
                }
            }
        }
        if let Some(traced) = traced {
            traced.is_routed(routed.as_ref().err().map(|(refusal, _)| Wording::of(refusal).kind));
        }
        if let Some(plugins) = plugins {
            let asking = Box::new(Asking { request, asked, routed, behind });
            return Forwarded::Asking(asking, plugins.clone());
        }
        let forwarded = routed.map_err(|(refusal, _)| refusal).and_then(|tunnel| {
            let request = request.map(Body::passing);
            self.forward_to(&tunnel, visitor, behind, asked.as_ref(), request, asker)
        });
        Forwarded::Done(forwarded.map_err(Stopped::from))
    }

    /// Lets a request in, if its tunnel does. What is ours of its headers is taken out.
    fn enter(&self, tunnel: &Tunnel, from: IpAddr, headers: &mut HeaderMap) -> Result<(), Stop> {
        let rules = self.guard(tunnel, from, headers)?;
        if tunnel.turns_away() {
            return Err(Stop::Refused(Refusal::Paused));
        }
        if let Some(away) = tunnel.away() {
            return Err(Stop::Waiting(done_after(away)));
        }
        if let Some(rules) = rules {
            // Last, so that a request is counted once.
            rules.pace(from).map_err(Stop::Refused)?;
            if rules.asks_who() {
                headers.remove(AUTHORIZATION);
            }
        }
        Ok(())
    }

    /// Whether the tunnel lets the visitor in. Returns its rules, if it has any.
    fn guard<'a>(
        &self,
        tunnel: &'a Tunnel,
        from: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Option<&'a Rules>, Stop> {
        let Some(access) = tunnel.access() else { return Ok(None) };
        if !access.admits(from) {
            return Err(Stop::Refused(Refusal::AddressNotAllowed));
        }
        let rules = access.gate().and_then(|gate| gate.rules.downcast_ref::<Rules>());
        let Some(rules) = rules else { return Ok(None) };
        match rules.judge(headers, from, tunnel.label(), &self.checks) {
            Judgement::Pass => Ok(Some(rules)),
            Judgement::Refused(refusal) => Err(Stop::Refused(refusal)),
            Judgement::Checking(moment) => Err(Stop::Waiting(moment)),
        }
    }

    pub(crate) fn forward_to(
        &self,
        tunnel: &Arc<Tunnel>,
        visitor: &Arc<Visitor>,
        behind: Option<Arc<Visitor>>,
        asked: Option<&Asked>,
        mut request: Request<Body>,
        asker: &Asker,
    ) -> Result<Exchange, Refusal> {
        let wish = Wish::of(&mut request)?;
        let via = match &wish {
            Some(_) => Via::Fresh,
            None if speaks_http2(tunnel, &request) && is_told_once(tunnel) => Via::Apart,
            None if speaks_http2(tunnel, &request) => Via::Multiplexed,
            None if is_told_once(tunnel) => Via::Once,
            None => Via::Pooled,
        };

        let (mut head, mut body) = request.into_parts();
        rewrite_headers(&mut head, visitor, asked);
        if let Some(traced) = asker.traced() {
            traced.forwards(&mut head.headers);
        }
        let rules = HeaderRules::of(tunnel);
        if let Some(rules) = &rules {
            rules.change_request(&mut head.headers);
        }
        if let Some(prefix) = tunnel.stripped_path() {
            strip(&mut head, prefix);
        }
        if let Some(wish) = &wish {
            wish.repeat(&mut head.headers);
        }
        let host = rules.as_ref().and_then(|rules| rules.host());
        address(&mut head, via, host.or(asked))?;
        if head.version == Version::HTTP_11
            && !http_body::Body::is_end_stream(&body)
            && http_body::Body::size_hint(&body).exact().is_none()
        {
            // For a GET hyper would leave the body out.
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }

        let is_http1 = !matches!(via, Via::Multiplexed | Via::Apart);
        let is_plain = wish.is_none()
            && is_http1
            && http_body::Body::is_end_stream(&body)
            && plain::is_plain(&head);
        let hears_interim = is_http1 && visitor.asking.load(Ordering::Acquire);
        let leave = (hears_interim && Leave::is_expected(&head.headers)).then(Leave::default);
        if let Some(leave) = &leave {
            body = body.behind(leave.gate());
        }
        let mut request = Request::from_parts(head, body);
        if hears_interim && !is_plain {
            let visitor = visitor.clone();
            on_informational(&mut request, move |interim| match (interim.status(), &leave) {
                (StatusCode::CONTINUE, Some(leave)) => leave.give(),
                (status, _) => visitor.interim.push(status, interim.headers()),
            });
        }
        let whose = behind.as_ref().unwrap_or(visitor);
        let is_traced = |it: &&Arc<Measured>| it.traced().is_some_and(Traced::is_kept);
        let traced = asker.measured.as_ref().filter(is_traced).cloned();
        let send = || {
            if is_plain {
                let hears = hears_interim.then(|| Arc::clone(visitor));
                let (head, _) = request.into_parts();
                Sending::plain(&self.local, tunnel, via, whose, &head, hears)
            } else {
                Sending::new(&self.local, tunnel, via, whose, request)
            }
        };
        let sending = match &traced {
            None => send()?,
            // A stream may be opened at once.
            Some(measured) => traced::meanwhile(measured.clone(), send)?,
        };
        Ok(Exchange { sending, wish, rules, behind, traced })
    }

    /// Whether tunnels that are missing may still be on their way.
    fn is_settling(&self) -> bool {
        self.settled_at.is_some_and(|until| Instant::now() < until)
    }

    async fn forward_later(
        self: Arc<Self>,
        visitor: Arc<Visitor>,
        mut request: Request<Incoming>,
        mut moment: Moment,
        asker: Asker,
        plugins: Option<Chain>,
    ) -> Result<Response<Body>, Stopped> {
        loop {
            if let Err(refusal) = moment.await {
                return Err(Stopped::of(refusal, &request, plugins.as_ref()));
            }
            match self.forward(&visitor, request, &asker, plugins.as_ref()) {
                Forwarded::Done(result) => {
                    return self.finish(result?, &visitor).await.map_err(Stopped::from);
                }
                Forwarded::NotYet(again, next) => (request, moment) = (again, next),
                Forwarded::Asking(asking, plugins) => {
                    return Box::pin(self.ask_plugins(plugins, visitor, asking, asker)).await;
                }
            }
        }
    }

    pub(crate) async fn finish(
        &self,
        exchange: Exchange,
        visitor: &Arc<Visitor>,
    ) -> Result<Response<Body>, Refusal> {
        let Exchange { sending, wish, rules, behind, traced } = exchange;
        let whose = behind.as_ref().unwrap_or(visitor);
        let sent = self.sent(sending, whose);
        let response = match traced {
            None => sent.await?,
            // Boxed: few are traced, and all would pay for it.
            Some(measured) => Box::pin(traced_until_answered(measured, sent)).await?,
        };
        self.respond(visitor, wish, rules, response)
    }

    async fn sent(
        &self,
        sending: Sending,
        whose: &Arc<Visitor>,
    ) -> Result<Response<Body>, Refusal> {
        let response = pin!(sending.response(whose, &self.local));
        match self.response_timeout {
            None => response.await,
            Some(limit) => timeout(limit, response).await.map_err(|_| Refusal::Timeout)?,
        }
    }

    fn respond(
        &self,
        visitor: &Visitor,
        wish: Option<Wish>,
        rules: Option<Arc<HeaderRules>>,
        response: Response<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let (mut head, body) = response.into_parts();
        let protocol = head.headers.remove(UPGRADE);
        headers::strip_hop_by_hop(&mut head.headers);
        if let Some(rules) = rules {
            rules.change_response(&mut head.headers);
        }
        head.version = Version::HTTP_11;
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            if wish.is_some_and(|wish| !wish.can_be_declined_with(head.status)) {
                return Err(Refusal::BadAnswer);
            }
            keep_required_upgrade(&mut head, protocol);
            return Ok(Response::from_parts(head, body));
        }
        // A local service that switches without having been asked cannot be followed.
        let wish = wish.ok_or(Refusal::BadAnswer)?;
        let mut response = Response::from_parts(head, body);
        let upgrade = wish.granted(&mut response, protocol)?;
        let upgrade = upgrade.served_by(response.body_mut().take_servant());
        if upgrade.is_stream {
            self.tasks.spawn(upgrade.run());
        } else {
            *visitor.upgrade.lock() = Some(upgrade);
            visitor.switched.store(true, Ordering::Release);
        }
        Ok(response.map(|_| Body::empty()))
    }

    fn route(&self, asked: Option<&Asked>, uri: &Uri) -> Result<Arc<Tunnel>, Refusal> {
        let host = asked.map_or("", Asked::host);
        self.routes.http(host, uri.path()).map_err(|none| match none {
            NoRoute::UnclearPath => Refusal::UnclearPath,
            NoRoute::Unknown if self.routes.is_closed() => Refusal::Draining,
            NoRoute::Unknown => Refusal::NoSuchTunnel(host.into()),
        })
    }
}

/// Tells the trace when there was an answer, and of the streams that were opened for it.
async fn traced_until_answered(
    measured: Arc<Measured>,
    sent: impl Future<Output = Result<Response<Body>, Refusal>>,
) -> Result<Response<Body>, Refusal> {
    let began = StdInstant::now();
    let response = traced::under_way(measured.clone(), sent).await;
    if let Some(traced) = measured.traced() {
        traced.has_answer(began, response.as_ref().err().map(|refusal| Wording::of(refusal).kind));
    }
    response
}

/// gRPC over HTTP/2 needs HTTP/2 all the way; otherwise the tunnel's option says what the local
/// service speaks.
fn speaks_http2<B>(tunnel: &Tunnel, request: &Request<B>) -> bool {
    tunnel.option("h2c") == Some("true")
        || (request.version() == Version::HTTP_2 && is_grpc(request.headers()))
}

/// The local service hears at the beginning of a connection who the visitor is, so nobody else's requests may follow.
fn is_told_once(tunnel: &Tunnel) -> bool {
    tunnel.option("proxy-protocol").is_some()
}

fn rewrite_headers(head: &mut request::Parts, visitor: &Visitor, asked: Option<&Asked>) {
    headers::strip_hop_by_hop(&mut head.headers);
    if head.version == Version::HTTP_2 {
        headers::join_cookies(&mut head.headers);
    }
    forwarded::set(&mut head.headers, visitor, asked);
}

/// Writes the target of the request for the next hop. The host that the visitor asked for, or another
/// that the tunnel puts in its place, reaches the local service as `Host`, or as `:authority` if it speaks HTTP/2.
fn address(head: &mut request::Parts, via: Via, asked: Option<&Asked>) -> Result<(), Refusal> {
    let mut target = http::uri::Parts::default();
    match via {
        Via::Pooled | Via::Fresh | Via::Once => {
            head.version = Version::HTTP_11;
            forwarded::set_host(&mut head.headers, asked);
            if head.uri.scheme().is_none() && head.uri.authority().is_none() {
                // It is as HTTP/1.1 wants it.
                return Ok(());
            }
        }
        Via::Multiplexed | Via::Apart => {
            head.version = Version::HTTP_2;
            head.headers.remove(HOST);
            let text = asked.map(Asked::text).filter(|text| !text.is_empty());
            target.scheme = Some(Scheme::HTTP);
            target.authority = text.unwrap_or("localhost").parse::<Authority>().ok();
        }
    }
    // What was parsed as a URI is one again with another authority, or with none.
    target.path_and_query = Some(path_of(&head.uri));
    head.uri = Uri::from_parts(target).map_err(|_| Refusal::BadAnswer)?;
    Ok(())
}

/// Cheap to clone: it shares the visitor's bytes.
fn path_of(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// For a tunnel that is on its way: not long enough to be noticed, and two lookups that often cost
/// nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Requests that wait so: looking for all of them costs some milliseconds of a second.
const MOST_WAITING: usize = 1_024;

/// 426 says in `Upgrade` what it requires (RFC 9110, section 15.5.22).
fn keep_required_upgrade(head: &mut response::Parts, protocol: Option<HeaderValue>) {
    if let Some(protocol) = protocol.filter(|_| head.status == StatusCode::UPGRADE_REQUIRED) {
        head.headers.insert(UPGRADE, protocol);
    }
}
