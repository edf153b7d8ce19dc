//! The body of a request that another member of a group may have to hear from the beginning, because the one that was asked
//! did not reach its local service.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;

use crate::body::{Body, BoxError};

/// A body that can be read from the beginning for as long as not too much of it has passed.
pub(crate) struct Again(Arc<Mutex<Log>>);

/// Reads it. The last one that was made has it.
pub(crate) struct Reader {
    log: Arc<Mutex<Log>>,
    number: u32,
    /// The next one of what has passed.
    at: usize,
}

struct Log {
    /// What has passed, unless it was too much.
    passed: Vec<Bytes>,
    len: usize,
    /// There is no way back to the beginning.
    is_lost: bool,
    rest: Body,
    /// The last one that was made.
    reader: u32,
}

impl Again {
    pub(crate) fn new(body: Body) -> Self {
        let log = Log { passed: Vec::new(), len: 0, is_lost: false, rest: body, reader: 0 };
        Self(Arc::new(Mutex::new(log)))
    }

    /// The whole of it, whoever has read of it before. `None`: too much has passed.
    pub(crate) fn body(&self) -> Option<Body> {
        let mut log = self.0.lock();
        if log.is_lost {
            return None;
        }
        log.reader += 1;
        Some(Body::again(Reader { log: Arc::clone(&self.0), number: log.reader, at: 0 }))
    }
}

impl Reader {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // With its answer under way nobody will ask for the beginning.
        let is_kept = Arc::strong_count(&self.log) > 1;
        let log = &mut *self.log.lock();
        if log.reader != self.number {
            return Poll::Ready(Some(Err("the request goes on elsewhere".into())));
        }
        if let Some(passed) = log.passed.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(passed.clone()))));
        }
        let frame = ready!(Pin::new(&mut log.rest).poll_frame(cx));
        match frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            Some(Ok(Some(data)))
                if is_kept && !log.is_lost && log.len + data.len() <= MOST_KEPT =>
            {
                log.len += data.len();
                log.passed.push(data.clone());
                self.at += 1;
            }
            // Its end can be read again.
            None => {}
            _ => {
                log.is_lost = true;
                log.passed = Vec::new();
            }
        }
        Poll::Ready(frame)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let log = self.log.lock();
        self.at >= log.passed.len() && log.rest.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let log = self.log.lock();
        let passed = log.passed.iter().skip(self.at).map(|data| data.len() as u64).sum::<u64>();
        let rest = log.rest.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(passed + rest.lower());
        if let Some(upper) = rest.upper() {
            whole.set_upper(passed + upper);
        }
        whole
    }
}

/// What is kept of one body at most, and until its answer begins. A visitor over HTTP/2 may have 128 bodies under way, for which it is 2 MiB:
/// what its uploads may hold anyway.
const MOST_KEPT: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::task::Waker;

    async fn whole(body: Body) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_is_read_from_the_beginning_as_often_as_it_is_asked_for() {
        let again = Again::new(Body::from(Bytes::from_static(b"hello")));
        for _ in 0..3 {
            let body = again.body().unwrap();
            assert_eq!(body.size_hint().exact(), Some(5));
            assert!(!body.is_end_stream());
            assert_eq!(whole(body).await, "hello");
        }
    }

    #[tokio::test]
    async fn whoever_reads_on_behind_takes_nothing_from_the_next_one() {
        let again = Again::new(Body::from(Bytes::from_static(b"hello")));
        let mut before = again.body().unwrap();
        let next = again.body().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let read = Pin::new(&mut before).poll_frame(&mut cx);
        assert!(matches!(read, Poll::Ready(Some(Err(_)))));
        assert_eq!(whole(next).await, "hello");
    }

    #[tokio::test]
    async fn too_much_is_passed_on_and_cannot_be_had_again() {
        for (len, is_kept) in [(MOST_KEPT, true), (MOST_KEPT + 1, false)] {
            let again = Again::new(Body::from(Bytes::from(vec![7; len])));
            let body = again.body().unwrap();
            assert!(again.0.lock().passed.is_empty(), "nothing has been read");
            assert_eq!(whole(body).await.len(), len);
            assert_eq!(again.body().is_some(), is_kept);
        }
    }
}
