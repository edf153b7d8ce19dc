//! Interim answers (1xx) of a local service on their way to a visitor over HTTP/1.1.
//!
//! hyper's server has no way to send any but 100 and 101, so they are put between its answers, where its connection
//! is written ([`crate::visitor_io`]). Over HTTP/2 there is no such place: only the library that makes its frames
//! could do it.

use std::{mem, task::Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use crate::{config::MAX_BUFFERED, headers};

/// What waits to be sent before the answer to the request that is being worked on.
#[derive(Debug, Default)]
pub(crate) struct Interim(Mutex<Slot>);

#[derive(Debug, Default)]
struct Slot {
    bytes: Vec<u8>,
    /// Of the task that writes.
    waker: Option<Waker>,
}

impl Interim {
    /// Adds one, if it is for the visitor and there is room for it.
    pub(crate) fn push(&self, status: StatusCode, headers: &HeaderMap) {
        // Leave to go on has been given by then, and of other protocols the answer is to say.
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let mut headers = headers.clone();
        headers::strip_hop_by_hop(&mut headers);
        let mut slot = self.0.lock();
        let before = slot.bytes.len();
        let mut add = |part: &[u8]| slot.bytes.extend_from_slice(part);
        add(b"HTTP/1.1 ");
        add(status.to_string().as_bytes());
        for (name, value) in &headers {
            add(b"\r\n");
            add(name.as_str().as_bytes());
            add(b": ");
            add(value.as_bytes());
        }
        add(b"\r\n\r\n");
        if slot.bytes.len() > MAX_BUFFERED {
            // They are hints; nobody has to have them.
            slot.bytes.truncate(before);
        } else if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    /// Takes all that there is. Its task is woken when there is more.
    pub(crate) fn take(&self, waker: &Waker) -> Bytes {
        let mut slot = self.0.lock();
        if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        Bytes::from(mem::take(&mut slot.bytes))
    }

    /// It is too late for them.
    pub(crate) fn clear(&self) {
        self.0.lock().bytes.clear();
    }
}

/// Says nothing but that the request is still being worked on (RFC 2518, section 10.1).
pub(crate) const PROCESSING: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_written_as_they_came_and_not_without_end() {
        let interim = Interim::default();
        let hints = HeaderMap::from_iter([
            (http::header::LINK, "</a.css>".parse().unwrap()),
            (http::header::CONNECTION, "close".parse().unwrap()),
        ]);
        interim.push(StatusCode::CONTINUE, &hints);
        interim.push(StatusCode::EARLY_HINTS, &hints);
        let one = interim.take(Waker::noop());
        assert_eq!(one, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        for _ in 0..10_000 {
            interim.push(StatusCode::EARLY_HINTS, &hints);
        }
        let many = interim.take(Waker::noop());
        assert!(many.len() <= MAX_BUFFERED && many.len() % one.len() == 0, "{}", many.len());
    }
}
