//! Looks at one stream: finds out what is spoken, and has it read along.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrotunnel_core::{Tap, TapMaker, TappedStream};

use crate::exchange::{Exchange, Source};
use crate::head::RequestHead;
use crate::http1::{Http1, Lost};
use crate::http2::{Http2, PREFACE};
use crate::record::{From, Origin};
use crate::store::{Shared, millis, since_1970};

/// Has every stream of HTTP tunnels looked at.
#[derive(Debug)]
pub(crate) struct Taps(pub(crate) Arc<Shared>);

impl TapMaker for Taps {
    fn tap(&self, stream: TappedStream<'_>) -> Option<Box<dyn Tap>> {
        let origin = Origin {
            tunnel: stream.tunnel.into(),
            number: stream.number,
            visitor: stream.visitor,
            replay_of: None,
        };
        let source = Source::new(Arc::clone(&self.0), origin);
        Some(Box::new(StreamTap::new(Arc::new(source), None)))
    }
}

/// One stream.
#[derive(Debug)]
pub(crate) struct StreamTap {
    spoken: Spoken,
    begins: Begins,
    opened: Instant,
    dialling: Option<Instant>,
    /// The local service was not reached.
    unreached: Option<String>,
}

#[derive(Debug)]
enum Spoken {
    /// Nothing, or as much as might be the beginning of HTTP/2.
    Unknown(Vec<u8>),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    /// Nobody looks on.
    Lost,
}

/// Where requests of a stream come from.
#[derive(Debug)]
pub(crate) struct Begins {
    source: Arc<Source>,
    /// While a chunk is looked at, once somebody has asked.
    now: Option<Instant>,
    /// A moment, and the same since 1970.
    wall: Option<(Instant, Duration)>,
    /// Of the first request: those after it find the connection there.
    waited: Option<[Option<Duration>; 2]>,
    /// The first request is known already.
    expected: Option<Exchange>,
}

impl Begins {
    /// Something is not looked at.
    pub(crate) fn lose_sight(&self) {
        if self.source.origin.replay_of.is_none() {
            self.source.shared.lose_sight();
        }
    }

    /// When the chunk came that is looked at.
    pub(crate) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// The same in milliseconds since 1970. The clock on the wall may be set: it is looked at again soon.
    fn at(&mut self) -> u64 {
        let now = self.now();
        let since = |(then, wall)| Some((now.checked_duration_since(then)?, wall));
        let wall = match self.wall.and_then(since) {
            Some((since, wall)) if since < LOOKS_AGAIN => wall + since,
            _ => self.wall.insert((now, since_1970())).1,
        };
        millis(wall)
    }

    /// `is_whole`: no body follows.
    pub(crate) fn exchange(&mut self, head: RequestHead, is_whole: bool) -> Exchange {
        let now = self.now();
        let exchange = match self.expected.take() {
            Some(expected) => {
                expected.restate(head, now, is_whole);
                expected
            }
            None => {
                let at = self.at();
                Exchange::begin(&self.source, head, (now, at), is_whole)
            }
        };
        if let Some(waited) = self.waited.take() {
            exchange.dialled(waited);
        }
        exchange
    }
}

impl StreamTap {
    /// `expected`: the one request that it is for.
    pub(crate) fn new(source: Arc<Source>, expected: Option<Exchange>) -> Self {
        Self {
            spoken: Spoken::Unknown(Vec::new()),
            begins: Begins { source, now: None, wall: None, waited: None, expected },
            opened: Instant::now(),
            dialling: None,
            unreached: None,
        }
    }

    fn first(&mut self, bytes: &[u8]) {
        let Spoken::Unknown(seen) = &mut self.spoken else { return };
        seen.extend_from_slice(bytes);
        if seen.len() < PREFACE.len() && PREFACE.starts_with(seen) {
            return;
        }
        let seen = std::mem::take(seen);
        self.spoken = if seen.starts_with(PREFACE) {
            Spoken::Http2(Box::new(Http2::new()))
        } else {
            Spoken::Http1(Box::default())
        };
        self.passed(From::Visitor, &seen);
    }

    fn passed(&mut self, from: From, bytes: &[u8]) {
        let begins = &mut self.begins;
        begins.now = None;
        let followed = match (&mut self.spoken, from) {
            (Spoken::Lost, _) => Ok(()),
            (Spoken::Http1(http), From::Visitor) => http.asks(bytes, begins),
            (Spoken::Http1(http), From::Service) => http.answers(bytes, begins),
            (Spoken::Http2(http), from) => http.feed(from, bytes, begins),
            (Spoken::Unknown(_), From::Visitor) => return self.first(bytes),
            (Spoken::Unknown(_), From::Service) => Err(Lost("an answer that nobody has asked for")),
        };
        if let Err(Lost(why)) = followed {
            tracing::debug!(tunnel = %self.begins.source.origin.tunnel, why, "the inspector cannot follow a stream");
            self.begins.lose_sight();
            self.all_broke(&format!("the inspector could not follow: {why}"));
            self.spoken = Spoken::Lost;
        }
    }

    fn all_broke(&mut self, why: &str) {
        match &mut self.spoken {
            Spoken::Http1(http) => http.broke(why),
            Spoken::Http2(http) => http.broke(why),
            Spoken::Unknown(_) | Spoken::Lost => {}
        }
        if let Some(expected) = self.begins.expected.take() {
            expected.fail(why);
        }
    }
}

impl Tap for StreamTap {
    fn dialling(&mut self) {
        self.dialling = Some(Instant::now());
    }

    fn dialled(&mut self, result: Result<(), &str>) {
        let dialling = self.dialling.unwrap_or(self.opened);
        self.begins.waited = Some([Some(dialling - self.opened), Some(dialling.elapsed())]);
        self.unreached =
            result.err().map(|error| format!("the local service was not reached: {error}"));
    }

    fn to_local(&mut self, bytes: &[u8]) {
        self.passed(From::Visitor, bytes);
    }

    fn to_visitor(&mut self, bytes: &[u8]) {
        self.passed(From::Service, bytes);
    }

    fn local_end(&mut self) {
        if let Spoken::Http1(http) = &mut self.spoken {
            http.local_end();
        }
    }

    fn visitor_end(&mut self) {
        match &mut self.spoken {
            Spoken::Http1(http) => http.visitor_end(),
            Spoken::Http2(http) => http.broke("the local service closed the connection"),
            Spoken::Unknown(_) | Spoken::Lost => {}
        }
    }

    fn broke(&mut self, why: &str) {
        let why = self.unreached.take().unwrap_or_else(|| why.to_owned());
        let why = if why.is_empty() { "the connection broke" } else { &why };
        self.all_broke(why);
    }
}

/// At the clock on the wall.
const LOOKS_AGAIN: Duration = Duration::from_secs(1);
