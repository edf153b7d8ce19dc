//! HTTP archives (HAR 1.2), which browsers' developer tools and many others read.

use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::grpc::percent_decoded;
use crate::head::{Version, header};
use crate::mask::{MASK, Mask};
use crate::record::{Content, Kind, Record, State};
use crate::view::{BodyView, MessageView, Timing};

/// An archive in pieces of text: making all of it at once would keep a thread busy, and take as much memory again. What is
/// thrown away before its turn is left out.
#[derive(Debug)]
pub struct Archive {
    records: std::vec::IntoIter<Arc<Record>>,
    mask: Mask,
    reveal: bool,
    next: Piece,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Beginning,
    FirstEntry,
    Entry,
    Nothing,
}

impl Archive {
    pub(crate) fn of(records: Vec<Arc<Record>>, mask: &Mask, reveal: bool) -> Self {
        Self { records: records.into_iter(), mask: mask.clone(), reveal, next: Piece::Beginning }
    }

    /// Of those that are over.
    fn entry(&mut self) -> Option<String> {
        self.records.find_map(|record| {
            let content = record.content.lock();
            let is_there = content.state != State::Open && !content.is_gone;
            is_there.then(|| entry(record.id, &content, &self.mask, self.reveal).to_string())
        })
    }
}

impl Iterator for Archive {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let entry = match self.next {
            Piece::Beginning => {
                self.next = Piece::FirstEntry;
                let creator = json!({"name": "FerroTunnel", "version": env!("CARGO_PKG_VERSION")});
                return Some(format!(
                    r#"{{"log":{{"version":"1.2","creator":{creator},"entries":["#
                ));
            }
            Piece::Nothing => return None,
            Piece::FirstEntry => self.entry(),
            Piece::Entry => self.entry().map(|entry| format!(",{entry}")),
        };
        self.next = if entry.is_some() { Piece::Entry } else { Piece::Nothing };
        Some(entry.unwrap_or_else(|| "]}}".to_owned()))
    }
}

fn entry(id: u64, content: &Content, mask: &Mask, reveal: bool) -> Value {
    let timing = Timing::of(content);
    let millis = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1_000.0);
    let timings = json!({
        "blocked": millis(timing.queue_seconds).unwrap_or(-1.0),
        "dns": -1,
        "connect": millis(timing.connect_seconds).unwrap_or(-1.0),
        "send": millis(timing.send_seconds).unwrap_or(0.0),
        "wait": millis(timing.wait_seconds).unwrap_or(0.0),
        "receive": millis(timing.receive_seconds).unwrap_or(0.0),
        "ssl": -1,
    });
    let parts = timings.as_object().into_iter().flat_map(|parts| parts.values());
    let time: f64 = parts.filter_map(Value::as_f64).filter(|part| *part > 0.0).sum();
    let mut entry = json!({
        "startedDateTime": date(content.at),
        "time": time,
        "request": request(content, mask, reveal),
        "response": response(content, mask, reveal),
        "cache": {},
        "timings": timings,
        "_id": id.to_string(),
        "_tunnel": &*content.origin.tunnel,
    });
    if let Some(error) = &content.seldom().error {
        entry["comment"] = json!(error);
    }
    if content.kind == Kind::WebSocket {
        // As Chrome writes it.
        let messages = content.seldom().messages.iter().map(|message| {
            let view = MessageView::of(message, content);
            json!({
                "type": if view.from == "visitor" { "send" } else { "receive" },
                "time": view.at as f64 / 1_000.0,
                "opcode": match view.kind { "text" => 1, "binary" => 2, "close" => 8, "ping" => 9, _ => 10 },
                "data": view.text.or(view.base64).unwrap_or_default(),
            })
        });
        entry["_webSocketMessages"] = messages.collect();
    }
    entry
}

fn request(content: &Content, mask: &Mask, reveal: bool) -> Value {
    let request = &content.request;
    let headers = mask.shown(&request.headers, reveal);
    let scheme = header(&request.headers, "x-forwarded-proto").unwrap_or("http");
    let path = request.path();
    let url = match path.starts_with('/') {
        true => format!("{scheme}://{}{path}", request.host()),
        false => path.to_owned(),
    };
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
        json!({"name": decoded(name), "value": decoded(value)})
    });
    let mut written = json!({
        "method": request.method,
        "url": url,
        "httpVersion": version(content),
        "cookies": cookies(&headers, "cookie"),
        "headers": pairs(&headers),
        "queryString": query.collect::<Value>(),
        "headersSize": -1,
        "bodySize": content.request_body.size,
    });
    if content.request_body.size > 0 {
        let BodyView { text, base64, .. } = BodyView::of(&content.request_body, &request.headers);
        let mime = header(&request.headers, "content-type").unwrap_or_default();
        let is_text = text.is_some();
        let text = text.or(base64).unwrap_or_default();
        written["postData"] = json!({"mimeType": mime, "text": text, "params": []});
        if !is_text {
            written["postData"]["_encoding"] = json!("base64");
        }
    }
    written
}

fn response(content: &Content, mask: &Mask, reveal: bool) -> Value {
    let none = crate::head::ResponseHead::default();
    let response = content.response.as_ref().unwrap_or(&none);
    let headers = mask.shown(&response.headers, reveal);
    let view = BodyView::of(&content.response_body, &response.headers);
    let shown = view.text.as_ref().map(String::len).filter(|_| !view.truncated);
    let mut body = json!({
        "size": shown.map_or(view.size, |shown| shown as u64),
        "mimeType": header(&response.headers, "content-type").unwrap_or("x-unknown"),
    });
    match (view.text, view.base64) {
        (Some(text), _) => body["text"] = json!(text),
        (None, Some(base64)) => {
            body["text"] = json!(base64);
            body["encoding"] = json!("base64");
        }
        (None, None) => {}
    }
    if view.truncated {
        body["comment"] = json!(format!("{} bytes of it were captured", view.captured));
    }
    json!({
        "status": response.status,
        "statusText": response.reason,
        "httpVersion": version(content),
        "cookies": cookies(&headers, "set-cookie"),
        "headers": pairs(&headers),
        "content": body,
        "redirectURL": header(&response.headers, "location").unwrap_or_default(),
        "headersSize": -1,
        "bodySize": content.response_body.size,
    })
}

fn version(content: &Content) -> &'static str {
    match content.request.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2.0",
    }
}

fn pairs(headers: &[[String; 2]]) -> Value {
    headers.iter().map(|[name, value]| json!({"name": name, "value": value})).collect()
}

/// Those that may be shown.
fn cookies(headers: &[[String; 2]], name: &str) -> Value {
    let mut cookies = Vec::new();
    let named = headers.iter().filter(|[one, _]| one.eq_ignore_ascii_case(name));
    for [_, value] in named.filter(|[_, value]| value != MASK) {
        // Behind the first one of an answer are its properties.
        let most = if name == "cookie" { usize::MAX } else { 1 };
        for pair in value.split(';').take(most) {
            let (name, value) = pair.trim().split_once('=').unwrap_or((pair.trim(), ""));
            cookies.push(json!({"name": name, "value": value}));
        }
    }
    Value::Array(cookies)
}

/// As ISO 8601 has it, in UTC.
fn date(millis: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, milli) = (at.hour(), at.minute(), at.second(), at.millisecond());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_archive() {
        assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
