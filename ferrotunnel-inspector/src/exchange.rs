//! Writing down one request while it passes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::Method;
use parking_lot::MutexGuard;

use crate::counted::{Counted, Meters};
use crate::head::{Headers, RequestHead, ResponseHead, header};
use crate::record::{
    Body, Content, From, Kind, Message, MessageKind, Origin, Record, Seldom, State,
};
use crate::store::{Loan, Shared, now_millis};

/// The pen that writes down a request. Dropping it says that there is no more to come.
#[derive(Debug)]
pub(crate) struct Exchange {
    source: Arc<Source>,
    record: Arc<Record>,
    /// For who counts the requests of visitors.
    counted: Option<Counted>,
    /// It has ended, and nobody needs to look whether it has.
    is_over: AtomicBool,
}

/// What the requests of one stream share. They come one after the other: what all streams share is asked less often, since
/// other threads write there, too.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) shared: Arc<Shared>,
    pub(crate) origin: Arc<Origin>,
    meters: OnceLock<Arc<Meters>>,
}

impl Source {
    pub(crate) fn new(shared: Arc<Shared>, origin: Origin) -> Self {
        Self { shared, origin: Arc::new(origin), meters: OnceLock::new() }
    }

    /// A visitor's request begins, for who counts requests, if anybody does.
    fn counted(&self, method: &str, now: Instant) -> Option<Counted> {
        // What is repeated is nobody's visit.
        if self.origin.replay_of.is_some() {
            return None;
        }
        let meter = self.shared.meter.get()?;
        let Ok(method) = Method::from_bytes(method.as_bytes()) else {
            self.shared.lose_sight();
            return None;
        };
        let meters = self.meters.get_or_init(|| Arc::new(Meters::of(meter, &self.origin.tunnel)));
        Some(Counted::begin(meters, method, now))
    }
}

impl Exchange {
    /// `at`: now in milliseconds since 1970. `is_whole`: no body follows.
    pub(crate) fn begin(
        source: &Arc<Source>,
        request: RequestHead,
        (now, at): (Instant, u64),
        is_whole: bool,
    ) -> Self {
        let counted = source.counted(&request.method, now);
        let content = Content {
            is_gone: false,
            kind: kind_of(&request.headers),
            state: State::Open,
            is_whole: [is_whole, false],
            weight: weight(&request),
            taken: 0,
            began: now,
            at,
            origin: Arc::clone(&source.origin),
            request,
            request_body: Body::default(),
            response: None,
            response_body: Body::default(),
            sent_at: is_whole.then_some(now),
            answered_at: None,
            over_at: None,
            seldom: None,
        };
        let record = source.shared.keep(content);
        source.shared.tell(&record);
        Self { source: Arc::clone(source), record, counted, is_over: AtomicBool::new(false) }
    }

    pub(crate) fn id(&self) -> u64 {
        self.record.id
    }

    /// Writes it anew, as it was really said.
    pub(crate) fn restate(&self, request: RequestHead, now: Instant, is_whole: bool) {
        let grows = weight(&request);
        let Some(mut content) = self.writing(|_| grows) else { return };
        content.began = now;
        content.kind = kind_of(&request.headers);
        content.is_whole[0] = is_whole;
        content.sent_at = is_whole.then_some(now);
        let before = std::mem::replace(&mut content.request, request);
        content.weight -= weight(&before);
    }

    /// What its stream, and then the local service, were waited for.
    pub(crate) fn dialled(&self, waited: [Option<Duration>; 2]) {
        self.seldom(0, |seldom| seldom.waited = waited);
    }

    pub(crate) fn kind(&self) -> Kind {
        self.record.content.lock().kind
    }

    /// More of a body.
    pub(crate) fn body(&self, from: From, bytes: &[u8]) {
        let most = self.source.shared.settings.body_bytes;
        // A part that is lost ends what is kept: the rest would make no sense behind it.
        let room = |body: &Body| match body.is_truncated() {
            true => 0,
            false => most.saturating_sub(body.kept.len()).min(bytes.len()),
        };
        let Some(mut content) = self.writing(|content| room(content.body(from))) else { return };
        let body = content.body_mut(from);
        let kept = bytes.get(..room(body)).unwrap_or_default();
        body.kept.extend_from_slice(kept);
        body.size += bytes.len() as u64;
    }

    pub(crate) fn trailers(&self, from: From, trailers: Headers) {
        self.seldom(trailers.weight(), |seldom| seldom.trailers[from.index()] = trailers);
    }

    pub(crate) fn request_end(&self, now: Instant) {
        let Some(mut content) = self.writing(|_| 0) else { return };
        content.sent_at.get_or_insert(now);
        content.is_whole[0] = true;
        if content.is_whole[1] {
            self.end(content, now);
        }
    }

    pub(crate) fn interim(&self, response: ResponseHead) {
        // Only what is kept takes room from others.
        if self.record.content.lock().seldom().interim.len() >= MOST_INTERIM {
            return;
        }
        self.seldom(response.headers.weight() + INTERIM, |seldom| {
            seldom.interim.push((response.status, response.headers));
        });
    }

    pub(crate) fn response(&self, response: ResponseHead, kind: Option<Kind>, now: Instant) {
        if let Some(counted) = &self.counted {
            counted.answered(response.status, now);
        }
        let grows = response.headers.weight() + response.reason.len();
        if let Some(mut content) = self.writing(|_| grows) {
            content.answered_at.get_or_insert(now);
            content.kind = kind.unwrap_or(content.kind);
            content.response = Some(response);
        }
        self.source.shared.tell(&self.record);
    }

    /// The response has come to its end. The request may have to go on.
    pub(crate) fn response_end(&self, now: Instant) {
        if let Some(counted) = &self.counted {
            counted.over(now);
        }
        let Some(mut content) = self.writing(|_| 0) else { return };
        content.over_at = Some(now);
        content.is_whole[1] = true;
        if content.is_whole[0] {
            self.end(content, now);
        }
    }

    /// Memory for looking at it, within the budget.
    pub(crate) fn lend(&self, bytes: usize) -> Option<Loan> {
        self.source.shared.lend(bytes)
    }

    /// Bytes of another protocol.
    pub(crate) fn passed(&self, from: From, bytes: usize) {
        self.seldom(0, |seldom| seldom.passed[from.index()] += bytes as u64);
    }

    pub(crate) fn message(
        &self,
        from: From,
        kind: MessageKind,
        size: u64,
        kept: &[u8],
        is_compressed: bool,
    ) {
        let message =
            Message { at: now_millis(), from, kind, size, kept: kept.to_vec(), is_compressed };
        let Some(mut content) = self.with_seldom(message.weight()) else { return };
        let seldom = content.seldom.get_or_insert_default();
        seldom.messages.push_back(message);
        if seldom.messages.len() > MOST_MESSAGES {
            seldom.messages_lost += 1;
            let lost = seldom.messages.pop_front().map_or(0, |first| first.weight());
            content.weight -= lost;
        }
    }

    /// Something is wrong, with it or with who looks on.
    pub(crate) fn fail(&self, why: &str) {
        let Some(now) = self.ends() else { return };
        if let Some(mut content) = self.with_seldom(why.len()) {
            content.seldom.get_or_insert_default().error = Some(why.to_owned());
            content.state = State::Failed;
            self.end(content, now);
        }
    }

    /// There is no more to come, and that is as it should be.
    pub(crate) fn done(&self) {
        let Some(now) = self.ends() else { return };
        if let Some(content) = self.writing(|_| 0) {
            self.end(content, now);
        }
    }

    /// `None`: it is over already. For who counts it is so at once.
    fn ends(&self) -> Option<Instant> {
        if self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let now = Instant::now();
        if let Some(counted) = &self.counted {
            counted.over(now);
        }
        Some(now)
    }

    /// It is done, if it has not failed.
    fn end(&self, mut content: MutexGuard<'_, Content>, now: Instant) {
        if self.is_over.swap(true, Ordering::Relaxed) {
            return;
        }
        if content.state == State::Open {
            content.state = State::Done;
        }
        content.over_at.get_or_insert(now);
        content.request_body.fit();
        content.response_body.fit();
        let spare = content.taken - content.weight;
        content.taken = content.weight;
        drop(content);
        let shared = &self.source.shared;
        shared.release(spare);
        shared.is_over(self.record.id);
        shared.tell(&self.record);
    }

    /// What is written, to write more, unless it is kept no more. It grows by that many bytes, for which there is room in the
    /// budget by then.
    fn writing(&self, grows: impl Fn(&Content) -> usize) -> Option<MutexGuard<'_, Content>> {
        let shared = &self.source.shared;
        let mut content = self.record.content.lock();
        loop {
            if content.is_gone {
                return None;
            }
            let grows = grows(&content);
            let lacks = (content.weight + grows).saturating_sub(content.taken);
            if lacks == 0 {
                content.weight += grows;
                return Some(content);
            }
            let takes = lacks.max(AT_ONCE);
            // This one may be what has to go for it.
            MutexGuard::unlocked(&mut content, || shared.reserve(takes));
            if content.is_gone {
                shared.release(takes);
                return None;
            }
            content.taken += takes;
        }
    }

    /// The same with room for what is seldom there.
    fn with_seldom(&self, grows: usize) -> Option<MutexGuard<'_, Content>> {
        self.writing(|content| match content.seldom {
            Some(_) => grows,
            None => grows + size_of::<Seldom>(),
        })
    }

    fn seldom(&self, grows: usize, change: impl FnOnce(&mut Seldom)) {
        if let Some(mut content) = self.with_seldom(grows) {
            change(content.seldom.get_or_insert_default());
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        // Whoever has answered need not take the rest of an upload.
        let is_answered = self.record.content.lock().is_whole[1];
        match is_answered {
            true => self.done(),
            false => self.fail("the connection ended before the answer was whole"),
        }
    }
}

impl Message {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.kept.len()
    }
}

fn weight(request: &RequestHead) -> usize {
    request.method.len() + request.headers.weight()
}

fn kind_of(headers: &Headers) -> Kind {
    let is_grpc = header(headers, "content-type").is_some_and(|kind| {
        kind.strip_prefix("application/grpc").is_some_and(|rest| !rest.starts_with("-web"))
    });
    if is_grpc { Kind::Grpc } else { Kind::Http }
}

/// Of a connection that goes on for days the last ones are of interest.
const MOST_MESSAGES: usize = 1_000;

/// Some hundred hints are a fault of the local service.
const MOST_INTERIM: usize = 16;

/// Of each, beside its headers.
const INTERIM: usize = 32;

/// What is taken of the budget for a request at least, when it begins and when it grows: enough for most answers. What it
/// did not need is given back at its end.
pub(crate) const AT_ONCE: usize = 1 << 10;
