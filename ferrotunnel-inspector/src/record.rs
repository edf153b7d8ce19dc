//! One request and what became of it, while it happens and after.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::head::{Headers, RequestHead, ResponseHead};

/// A request that is kept.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) content: Mutex<Content>,
}

impl Record {
    /// One that has no id yet, in the memory of that one unless somebody has it. Returns what that one took of the budget, too.
    pub(crate) fn in_place_of(oldest: Option<Arc<Self>>, content: Content) -> (Arc<Self>, usize) {
        let Some(mut oldest) = oldest else { return (Arc::new(Self::new(content)), 0) };
        if let Some(record) = Arc::get_mut(&mut oldest) {
            let slot = record.content.get_mut();
            let freed = slot.taken;
            *slot = content;
            return (oldest, freed);
        }
        let freed = oldest.content.lock().empty();
        (Arc::new(Self::new(content)), freed)
    }

    fn new(content: Content) -> Self {
        Self { id: 0, content: Mutex::new(content) }
    }
}

/// What is seldom there is beside it: of thousands each byte here is written into memory that nobody has touched for long.
#[derive(Debug)]
pub(crate) struct Content {
    /// It is kept no more: nothing is added.
    pub(crate) is_gone: bool,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    /// Whether the request, and the response, have come to their ends.
    pub(crate) is_whole: [bool; 2],
    /// What it weighs.
    pub(crate) weight: usize,
    /// What it has taken of the budget: at least that.
    pub(crate) taken: usize,
    pub(crate) began: Instant,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) origin: Arc<Origin>,
    pub(crate) request: RequestHead,
    pub(crate) request_body: Body,
    pub(crate) response: Option<ResponseHead>,
    pub(crate) response_body: Body,
    pub(crate) sent_at: Option<Instant>,
    pub(crate) answered_at: Option<Instant>,
    pub(crate) over_at: Option<Instant>,
    pub(crate) seldom: Option<Box<Seldom>>,
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) tunnel: Arc<str>,
    /// By which its tunnel is found again.
    pub(crate) number: u64,
    /// For whom its stream was opened.
    pub(crate) visitor: Option<SocketAddr>,
    pub(crate) replay_of: Option<u64>,
}

/// What most requests do not have.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    /// Behind the bodies, of the request and of the response.
    pub(crate) trailers: [Headers; 2],
    pub(crate) interim: Vec<(u16, Headers)>,
    /// Bytes after a change of protocol, to the local service and back.
    pub(crate) passed: [u64; 2],
    /// Waiting for a stream, and for the local service: of the first request over it.
    pub(crate) waited: [Option<Duration>; 2],
    pub(crate) messages: VecDeque<Message>,
    pub(crate) messages_lost: u64,
    pub(crate) error: Option<String>,
}

/// What those do not have that have nothing of it.
static NONE: Seldom = Seldom {
    trailers: [Headers::NONE, Headers::NONE],
    interim: Vec::new(),
    passed: [0, 0],
    waited: [None, None],
    messages: VecDeque::new(),
    messages_lost: 0,
    error: None,
};

/// The beginning of a body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) size: u64,
    pub(crate) kept: Vec<u8>,
}

impl Body {
    pub(crate) fn is_truncated(&self) -> bool {
        self.size > self.kept.len() as u64
    }

    /// Vectors grow by doubling. A few bytes are not worth moving the rest.
    pub(crate) fn fit(&mut self) {
        if self.kept.capacity() - self.kept.len() > A_FEW {
            self.kept.shrink_to_fit();
        }
    }
}

/// What came in pieces that mean something by themselves.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) at: u64,
    pub(crate) from: From,
    pub(crate) kind: MessageKind,
    pub(crate) size: u64,
    /// Its beginning.
    pub(crate) kept: Vec<u8>,
    /// It has the encoding that its request, or its answer, has told for messages.
    pub(crate) is_compressed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Visitor,
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
    Event,
    Grpc,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Http,
    WebSocket,
    Sse,
    Grpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Done,
    Failed,
}

impl Content {
    pub(crate) fn body(&self, from: From) -> &Body {
        match from {
            From::Visitor => &self.request_body,
            From::Service => &self.response_body,
        }
    }

    pub(crate) fn body_mut(&mut self, from: From) -> &mut Body {
        match from {
            From::Visitor => &mut self.request_body,
            From::Service => &mut self.response_body,
        }
    }

    /// What is seldom there, if only to look at.
    pub(crate) fn seldom(&self) -> &Seldom {
        self.seldom.as_deref().unwrap_or(&NONE)
    }

    /// Lets go of everything that was captured. Returns what it took of the budget.
    pub(crate) fn empty(&mut self) -> usize {
        self.is_gone = true;
        self.request = RequestHead::default();
        self.request_body = Body::default();
        self.response = None;
        self.response_body = Body::default();
        self.seldom = None;
        self.weight = 0;
        std::mem::take(&mut self.taken)
    }
}

/// Less than the record itself takes.
const A_FEW: usize = 64;

impl From {
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Visitor => 0,
            Self::Service => 1,
        }
    }
}
