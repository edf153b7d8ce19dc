//! What is made of an answer, for those who check it.
#![cfg_attr(not(fuzzing), expect(unreachable_pub, reason = "the fuzzer is another crate"))]

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::reading::Reading;

/// What came of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The ones before it.
    pub interim: Vec<(StatusCode, HeaderMap)>,
    /// Status, version, reason and headers, if there was a head.
    pub head: Option<(StatusCode, Version, Option<Bytes>, HeaderMap)>,
    pub size: Option<u64>,
    pub data: Vec<u8>,
    pub trailers: Option<HeaderMap>,
    /// The body has come to a good end.
    pub is_whole: bool,
    /// Another request may follow.
    pub may_stay: bool,
}

/// What is made of it here: it comes in these pieces, and then the connection ends.
pub fn heard(method: &Method, pieces: &[&[u8]]) -> Heard {
    let mut heard = Heard::default();
    let mut reading = Reading::new();
    reading.begin();
    let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
    let head = loop {
        match reading.head(method, |status, headers| heard.interim.push((status, headers.clone())))
        {
            Ok(Some(head)) => break head,
            Ok(None) => {}
            Err(_) => return heard,
        }
        let Some(piece) = pieces.next() else { return heard };
        reading.hear(Bytes::copy_from_slice(piece));
    };
    let reason =
        head.extensions.get::<ReasonPhrase>().map(|it| Bytes::copy_from_slice(it.as_ref()));
    heard.head = Some((head.status, head.version, reason, head.headers));
    heard.size = reading.size_hint().exact();
    let mut has_ended = false;
    loop {
        match reading.frame() {
            Err(_) => return heard,
            Ok(Some(frame)) => match frame.into_data() {
                Ok(data) => heard.data.extend_from_slice(&data),
                Err(frame) => heard.trailers = frame.into_trailers().ok(),
            },
            Ok(None) if reading.is_over() => break,
            Ok(None) => match pieces.next() {
                Some(piece) => reading.hear(Bytes::copy_from_slice(piece)),
                None if reading.end().is_err() => return heard,
                None => has_ended = true,
            },
        }
    }
    heard.is_whole = true;
    heard.may_stay = !has_ended && reading.may_stay() && pieces.next().is_none();
    heard
}
