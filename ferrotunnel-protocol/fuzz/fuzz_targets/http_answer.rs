//! A local service's answer over HTTP/1, in arbitrary chops: they change nothing, and what passes was in it.

#![no_main]

use ferrotunnel_http::fuzzing::heard;
use http::Method;
use libfuzzer_sys::fuzz_target;

// What was asked, and the size of the pieces; the others are the answer's.
fuzz_target!(|input: &[u8]| {
    let [asked, size, bytes @ ..] = input else { return };
    let is_head = asked % 2 == 1;
    let asked = if is_head { Method::HEAD } else { Method::GET };
    let whole = heard(&asked, &[bytes]);
    let pieces: Vec<_> = bytes.chunks(usize::from(*size) + 1).collect();
    assert_eq!(heard(&asked, &pieces), whole);

    assert!(whole.data.len() <= bytes.len());
    assert!(!is_head || whole.data.is_empty());
    assert!(whole.is_whole || !whole.may_stay);
    // Interim answers come before the one, which is none.
    assert!(whole.interim.iter().all(|(status, _)| status.is_informational()));
    assert!(!whole.head.as_ref().is_some_and(|(status, ..)| status.is_informational()));
    // What may be followed by another answer has nothing behind it.
    if whole.may_stay && !bytes.is_empty() {
        let more = heard(&asked, &[&[bytes, &b"HTTP/1.1 200 OK\r\n\r\n"[..]].concat()]);
        assert_eq!((more.interim, more.head, more.data), (whole.interim, whole.head, whole.data));
        assert!(!more.may_stay);
    }
});
