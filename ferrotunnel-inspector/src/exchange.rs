//! Writing down one request while it passes.

use std::sync::Arc;
use std::time::Instant;

use crate::counted::Counted;
use crate::head::{Headers, RequestHead, ResponseHead, header};
use crate::record::{Body, Content, From, Kind, Message, MessageKind, Record, State};
use crate::store::{Loan, Shared, now_millis};

/// The pen that writes down a request. Dropping it says that there is no more to come.
#[derive(Debug)]
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    record: Arc<Record>,
    /// For who counts the requests of visitors.
    counted: Option<Counted>,
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) tunnel: Arc<str>,
    pub(crate) number: u64,
    pub(crate) visitor: Option<std::net::SocketAddr>,
    pub(crate) replay_of: Option<u64>,
}

impl Exchange {
    pub(crate) fn begin(shared: &Arc<Shared>, origin: &Origin, request: RequestHead) -> Self {
        // What is repeated is nobody's visit.
        let counted = match origin.replay_of {
            None => shared.counted(&origin.tunnel, &request.method),
            Some(_) => None,
        };
        let content = Content {
            is_gone: false,
            weight: weight(&request),
            began: Instant::now(),
            at: now_millis(),
            tunnel: Arc::clone(&origin.tunnel),
            number: origin.number,
            opened_for: origin.visitor,
            replay_of: origin.replay_of,
            kind: kind_of(&request.headers),
            state: State::Open,
            request,
            request_body: Body::default(),
            response: None,
            response_body: Body::default(),
            interim: Vec::new(),
            is_whole: [false, false],
            passed: [0, 0],
            queue: None,
            connect: None,
            sent_at: None,
            answered_at: None,
            over_at: None,
            messages: std::collections::VecDeque::new(),
            messages_lost: 0,
            error: None,
        };
        let record = shared.keep(content);
        shared.tell(&record);
        Self { shared: Arc::clone(shared), record, counted }
    }

    pub(crate) fn id(&self) -> u64 {
        self.record.id
    }

    /// Writes it anew, as it was really said.
    pub(crate) fn restate(&self, request: RequestHead) {
        let grows = weight(&request);
        self.change(grows, |content| {
            content.began = Instant::now();
            content.kind = kind_of(&request.headers);
            content.request = request;
        });
    }

    pub(crate) fn dialled(
        &self,
        queue: Option<std::time::Duration>,
        connect: Option<std::time::Duration>,
    ) {
        self.change(0, |content| (content.queue, content.connect) = (queue, connect));
    }

    pub(crate) fn kind(&self) -> Kind {
        self.record.content.lock().kind
    }

    /// More of a body.
    pub(crate) fn body(&self, from: From, bytes: &[u8]) {
        let most = self.shared.settings.body_bytes;
        let room = {
            let mut content = self.record.content.lock();
            let body = content.body(from);
            // A part that is lost ends what is kept: the rest would make no sense behind it.
            let room = if body.is_truncated() { 0 } else { most.saturating_sub(body.kept.len()) };
            body.size += bytes.len() as u64;
            room
        };
        let kept = bytes.get(..room).unwrap_or(bytes);
        if !kept.is_empty() {
            self.change(kept.len(), |content| content.body(from).kept.extend_from_slice(kept));
        }
    }

    pub(crate) fn trailers(&self, from: From, trailers: Headers) {
        self.change(trailers.weight(), |content| content.body(from).trailers = trailers);
    }

    pub(crate) fn request_end(&self) {
        let is_over = self.change(0, |content| {
            content.sent_at.get_or_insert_with(Instant::now);
            content.is_whole[0] = true;
            content.is_whole[1]
        });
        if is_over == Some(true) {
            self.end(None);
        }
    }

    pub(crate) fn interim(&self, response: ResponseHead) {
        // Only what is kept takes room from others.
        if self.record.content.lock().interim.len() >= MOST_INTERIM {
            return;
        }
        self.change(response.headers.weight() + INTERIM, |content| {
            content.interim.push((response.status, response.headers));
        });
    }

    pub(crate) fn response(&self, response: ResponseHead, kind: Option<Kind>) {
        if let Some(counted) = &self.counted {
            counted.answered(response.status);
        }
        self.change(response.headers.weight() + response.reason.len(), |content| {
            content.answered_at.get_or_insert_with(Instant::now);
            if let Some(kind) = kind {
                content.kind = kind;
            }
            content.response = Some(response);
        });
        self.shared.tell(&self.record);
    }

    /// The response has come to its end. The request may have to go on.
    pub(crate) fn response_end(&self) {
        if let Some(counted) = &self.counted {
            counted.over();
        }
        let is_over = self.change(0, |content| {
            content.over_at = Some(Instant::now());
            content.is_whole[1] = true;
            content.is_whole[0]
        });
        if is_over == Some(true) {
            self.end(None);
        }
    }

    /// Memory for looking at it, within the budget.
    pub(crate) fn lend(&self, bytes: usize) -> Option<Loan> {
        self.shared.lend(bytes)
    }

    /// Bytes of another protocol.
    pub(crate) fn passed(&self, from: From, bytes: usize) {
        self.record.content.lock().passed[from.index()] += bytes as u64;
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
        let lost = self.change(message.weight(), |content| {
            content.messages.push_back(message);
            if content.messages.len() <= MOST_MESSAGES {
                return 0;
            }
            content.messages_lost += 1;
            let lost = content.messages.pop_front().map_or(0, |first| first.weight());
            content.weight -= lost;
            lost
        });
        self.shared.release(lost.unwrap_or_default());
    }

    /// Something is wrong, with it or with who looks on.
    pub(crate) fn fail(&self, why: &str) {
        self.end(Some(why));
    }

    /// There is no more to come, and that is as it should be.
    pub(crate) fn done(&self) {
        self.end(None);
    }

    fn end(&self, error: Option<&str>) {
        if let Some(counted) = &self.counted {
            counted.over();
        }
        if self.record.content.lock().state != State::Open {
            return;
        }
        let has_ended = self.change(error.map_or(0, str::len), |content| {
            if content.state != State::Open {
                return false;
            }
            content.state = if error.is_some() { State::Failed } else { State::Done };
            content.error = error.map(str::to_owned);
            content.over_at.get_or_insert_with(Instant::now);
            content.request_body.fit();
            content.response_body.fit();
            true
        });
        if has_ended == Some(true) {
            self.shared.is_over(self.record.id);
            self.shared.tell(&self.record);
        }
    }

    /// Changes what is written, unless it is kept no more. It grows by that many bytes.
    fn change<T>(&self, grows: usize, change: impl FnOnce(&mut Content) -> T) -> Option<T> {
        if grows > 0 {
            self.shared.reserve(grows);
        }
        let mut content = self.record.content.lock();
        if content.is_gone {
            drop(content);
            self.shared.release(grows);
            return None;
        }
        content.weight += grows;
        Some(change(&mut content))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (is_whole, is_open) = {
            let content = self.record.content.lock();
            (content.is_whole[1], content.state == State::Open)
        };
        match (is_open, is_whole) {
            (false, _) => {}
            // Whoever has answered need not take the rest of an upload.
            (true, true) => self.end(None),
            (true, false) => self.end(Some("the connection ended before the answer was whole")),
        }
    }
}

impl Message {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.kept.len()
    }
}

fn weight(request: &RequestHead) -> usize {
    let texts = request.method.len() + request.path.len() + request.authority.len();
    texts + request.headers.weight()
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
