//! A visitor's bytes over HTTP/1, in arbitrary chops.
//!
//! Chops change nothing. What passes is read by the parser behind in no other way: its requests are those whose heads
//! were seen, in that order. What does not pass is answered by one whole message.

#![no_main]

use ferrotunnel_http::fuzzing::{follow, follow_at_once, is_http2, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let followed = follow([bytes]);
    let (good, heads, why) = follow_at_once(bytes);
    assert_eq!(heads, followed.heads.len());
    assert_eq!(why.as_ref(), followed.stopped.as_ref().map(|(why, _)| why));
    assert!(good <= followed.good && followed.good <= bytes.len());
    assert!(why.is_some() || good == bytes.len());

    let requests = parse(&bytes[..followed.good]);
    assert!(requests.len() <= heads, "{requests:?}, of {heads} heads");
    for (request, head) in requests.iter().zip(&followed.heads) {
        assert_same(request.as_bytes(), head);
    }
    if let Some((_, answer)) = &followed.stopped {
        assert_one_message(answer);
    }
    if let Some(true) = is_http2(bytes) {
        assert!(bytes.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    }
});

/// The first line as the parser read it, and as it was seen, which may be cut.
fn assert_same(request: &[u8], head: &[u8]) {
    let parts = |line: &[u8]| {
        let mut parts = line.splitn(3, |&byte| byte == b' ').map(<[u8]>::to_vec);
        [(); 3].map(|()| parts.next().unwrap_or_default())
    };
    let ([method, target, version], [seen, asked, http]) = (parts(request), parts(head));
    assert!(method.starts_with(&seen), "{request:?} is not {head:?}");
    // A URL is written anew with a path, and what is behind a # is nobody's.
    if asked.starts_with(b"/") && !asked.contains(&b'#') {
        assert!(target.starts_with(&asked), "{request:?} is not {head:?}");
    }
    if !http.is_empty() {
        assert!(version.starts_with(&http), "{request:?} is not {head:?}");
        assert_eq!(method, seen);
    }
}

/// Nothing that the visitor said makes two messages of it.
fn assert_one_message(answer: &[u8]) {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    let head = std::str::from_utf8(head).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 4") && head.ends_with("connection: close"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
    // None, if the method was HEAD.
    assert!(body.is_empty() || body.len() == length, "{head}");
}
