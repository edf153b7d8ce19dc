//! What is kept, as it is shown.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

use crate::decode::{Decoded, decode, text};
use crate::grpc;
use crate::head::{self, Headers, header};
use crate::mask::Mask;
use crate::record::{Body, Content, From, Kind, Message, MessageKind, Record, State};

/// Some of the requests that are kept.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct Requests {
    /// The newest first.
    pub requests: Vec<RequestSummary>,
    /// How many are kept in all.
    pub total: usize,
    /// A text was looked for, and not in all bodies: that would have been too much work. Those of the newest come first.
    pub search_cut: bool,
    /// What they take.
    pub bytes: usize,
    /// What they may take.
    pub budget_bytes: usize,
}

/// A request in one line.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[non_exhaustive]
pub struct RequestSummary {
    /// Its name here.
    pub id: String,
    /// When it began, in milliseconds since 1970.
    pub at: u64,
    /// The tunnel's name.
    pub tunnel: String,
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// The host as it was asked for.
    pub host: String,
    /// Of HTTP, as the local service was spoken to.
    #[schema(value_type = String)]
    pub version: &'static str,
    /// Of the answer, once there is one.
    pub status: Option<u16>,
    /// `open`, `done` or `failed`.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// From its beginning to the end of the answer.
    pub duration_seconds: Option<f64>,
    /// Of the body; of another protocol, what went to the local service.
    pub request_bytes: u64,
    /// Of the body; of another protocol, what came from the local service.
    pub response_bytes: u64,
    /// Of the answer.
    pub content_type: Option<String>,
    /// `http`, `websocket`, `sse` or `grpc`.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// Which request this one repeats.
    pub replay_of: Option<String>,
    /// Who has asked.
    pub visitor: Option<String>,
    /// Its `X-Request-Id`.
    pub request_id: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A request with all that is known of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct RequestDetail {
    /// In one line.
    #[serde(flatten)]
    pub summary: RequestSummary,
    /// What was asked.
    pub request: RequestView,
    /// What was answered.
    pub response: Option<ResponseView>,
    /// Answers before the answer (1xx).
    pub interim: Vec<InterimView>,
    /// Where the time went.
    pub timing: Timing,
    /// How a call of gRPC has ended.
    pub grpc: Option<GrpcView>,
    /// Of WebSockets, event streams and gRPC.
    pub messages: Vec<MessageView>,
    /// Older messages that are kept no more.
    pub messages_lost: u64,
}

/// What was asked.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct RequestView {
    /// Names and values, in their order.
    pub headers: Vec<[String; 2]>,
    /// The same behind the body.
    pub trailers: Vec<[String; 2]>,
    /// The body.
    pub body: BodyView,
}

/// What was answered.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct ResponseView {
    /// The status.
    pub status: u16,
    /// The words behind it, in HTTP/1.1.
    pub reason: String,
    /// Names and values, in their order.
    pub headers: Vec<[String; 2]>,
    /// The same behind the body.
    pub trailers: Vec<[String; 2]>,
    /// The body.
    pub body: BodyView,
}

/// An answer before the answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct InterimView {
    /// The status.
    pub status: u16,
    /// Names and values, in their order.
    pub headers: Vec<[String; 2]>,
}

/// The beginning of a body.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct BodyView {
    /// How long it was, as it came.
    pub size: u64,
    /// How much of that was captured.
    pub captured: usize,
    /// There would be more than is shown.
    pub truncated: bool,
    /// Its content encoding, which is taken off where it is known.
    pub encoding: Option<String>,
    /// If it is text.
    pub text: Option<String>,
    /// If it is not.
    pub base64: Option<String>,
}

/// Where the time went, in seconds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct Timing {
    /// From the opening of a stream to dialling; of requests that found no connection.
    pub queue_seconds: Option<f64>,
    /// Dialling the local service.
    pub connect_seconds: Option<f64>,
    /// From the first byte of the request to its last.
    pub send_seconds: Option<f64>,
    /// From there to the answer.
    pub wait_seconds: Option<f64>,
    /// From the first byte of the answer to its last.
    pub receive_seconds: Option<f64>,
}

/// How a call of gRPC has ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct GrpcView {
    /// The code; 0 is well.
    pub status: Option<u32>,
    /// The words.
    pub message: Option<String>,
}

/// What came in pieces that mean something by themselves.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[non_exhaustive]
pub struct MessageView {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// `visitor` or `service`.
    #[schema(value_type = String)]
    pub from: &'static str,
    /// `text`, `binary`, `close`, `ping`, `pong`, `event` or `grpc`.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// How long it was.
    pub size: u64,
    /// If it is text.
    pub text: Option<String>,
    /// If it is not.
    pub base64: Option<String>,
    /// There would be more than is shown.
    pub truncated: bool,
}

/// What was captured of a body, as it came.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RawBody {
    /// Its beginning.
    pub bytes: Vec<u8>,
    /// There was more.
    pub is_truncated: bool,
}

impl RequestSummary {
    pub(crate) fn of(record: &Record) -> Self {
        Self::of_content(record.id, &record.content.lock())
    }

    pub(crate) fn of_content(id: u64, content: &Content) -> Self {
        let request = &content.request;
        let answer = content.response.as_ref();
        let seldom = content.seldom();
        let duration = content.over_at.map(|over| over - content.began);
        Self {
            id: id.to_string(),
            at: content.at,
            tunnel: content.origin.tunnel.to_string(),
            method: request.method.to_string(),
            path: request.path().to_owned(),
            host: request.host().to_owned(),
            version: request.version.as_str(),
            status: answer.map(|answer| answer.status),
            state: match content.state {
                State::Open => "open",
                State::Done => "done",
                State::Failed => "failed",
            },
            duration_seconds: duration.map(|duration| duration.as_secs_f64()),
            request_bytes: content.request_body.size + seldom.passed[0],
            response_bytes: content.response_body.size + seldom.passed[1],
            content_type: answer
                .and_then(|answer| header(&answer.headers, "content-type"))
                .map(str::to_owned),
            kind: match content.kind {
                Kind::Http => "http",
                Kind::WebSocket => "websocket",
                Kind::Sse => "sse",
                Kind::Grpc => "grpc",
            },
            replay_of: content.origin.replay_of.map(|id| id.to_string()),
            visitor: head::visitor(&request.headers, content.origin.visitor),
            request_id: header(&request.headers, "x-request-id").map(str::to_owned),
            error: seldom.error.clone(),
        }
    }
}

impl RequestDetail {
    pub(crate) fn of(record: &Record, mask: &Mask, reveal: bool) -> Self {
        let content = record.content.lock();
        let seldom = content.seldom();
        let shown = |headers: &Headers| mask.shown(headers, reveal);
        let request = RequestView {
            headers: shown(&content.request.headers),
            trailers: shown(&seldom.trailers[0]),
            body: BodyView::of(&content.request_body, &content.request.headers),
        };
        let response = content.response.as_ref().map(|response| ResponseView {
            status: response.status,
            reason: response.reason.to_string(),
            headers: shown(&response.headers),
            trailers: shown(&seldom.trailers[1]),
            body: BodyView::of(&content.response_body, &response.headers),
        });
        let interim = seldom.interim.iter();
        let interim = interim
            .map(|(status, headers)| InterimView { status: *status, headers: shown(headers) })
            .collect();
        let grpc = (content.kind == Kind::Grpc).then(|| {
            let none = Headers::default();
            let headers = content.response.as_ref().map_or(&none, |response| &response.headers);
            let status = grpc::status(headers, &seldom.trailers[1]);
            let (status, message) = status.unzip();
            GrpcView { status, message }
        });
        let messages = seldom.messages.iter();
        let messages = messages.map(|message| MessageView::of(message, &content)).collect();
        Self {
            summary: RequestSummary::of_content(record.id, &content),
            request,
            response,
            interim,
            timing: Timing::of(&content),
            grpc,
            messages,
            messages_lost: seldom.messages_lost,
        }
    }
}

impl BodyView {
    pub(crate) fn of(body: &Body, headers: &Headers) -> Self {
        let encoding = header(headers, "content-encoding").filter(|it| *it != "identity");
        let decoded = encoding.and_then(|encoding| decode(encoding, &body.kept));
        let is_cut = body.is_truncated();
        let (bytes, is_cut) = match &decoded {
            Some(Decoded { bytes, is_cut: more }) => (bytes, is_cut || *more),
            None => (&body.kept, is_cut),
        };
        let (text, base64) = text_or_base64(bytes, is_cut);
        Self {
            size: body.size,
            captured: body.kept.len(),
            truncated: is_cut,
            encoding: encoding.map(str::to_owned),
            text,
            base64,
        }
    }
}

impl MessageView {
    pub(crate) fn of(message: &Message, content: &Content) -> Self {
        let headers = match message.from {
            From::Visitor => Some(&content.request.headers),
            From::Service => content.response.as_ref().map(|response| &response.headers),
        };
        let encoding = headers.and_then(|headers| header(headers, "grpc-encoding"));
        let encoding = encoding.filter(|_| message.is_compressed);
        let decoded = encoding.and_then(|encoding| decode(encoding, &message.kept));
        let is_cut = message.size > message.kept.len() as u64;
        let (bytes, is_cut) = match &decoded {
            Some(Decoded { bytes, is_cut: more }) => (bytes, is_cut || *more),
            None => (&message.kept, is_cut),
        };
        let is_text = matches!(message.kind, MessageKind::Text | MessageKind::Event);
        let (text, base64) = if is_text {
            text_or_base64(bytes, is_cut)
        } else {
            (None, Some(STANDARD.encode(bytes)))
        };
        Self {
            at: message.at,
            from: match message.from {
                From::Visitor => "visitor",
                From::Service => "service",
            },
            kind: match message.kind {
                MessageKind::Text => "text",
                MessageKind::Binary => "binary",
                MessageKind::Close => "close",
                MessageKind::Ping => "ping",
                MessageKind::Pong => "pong",
                MessageKind::Event => "event",
                MessageKind::Grpc => "grpc",
            },
            size: message.size,
            text,
            base64,
            truncated: is_cut,
        }
    }
}

impl Timing {
    pub(crate) fn of(content: &Content) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let between = |from: Option<Instant>, to: Option<Instant>| {
            // An answer may come before the end of the question.
            from.zip(to).map(|(from, to)| to.saturating_duration_since(from))
        };
        let [queue, connect] = content.seldom().waited;
        Self {
            queue_seconds: seconds(queue),
            connect_seconds: seconds(connect),
            send_seconds: seconds(between(Some(content.began), content.sent_at)),
            wait_seconds: seconds(between(content.sent_at, content.answered_at)),
            receive_seconds: seconds(between(content.answered_at, content.over_at)),
        }
    }
}

fn text_or_base64(bytes: &[u8], is_cut: bool) -> (Option<String>, Option<String>) {
    match text(bytes, is_cut) {
        Some(text) => (Some(text), None),
        None => (None, Some(STANDARD.encode(bytes))),
    }
}
