//! A local service's answer over HTTP/1, in arbitrary chops: they change nothing, and what passes was in it.

#![no_main]

use ferrotunnel_http::fuzzing::answered;
use http::Method;
use libfuzzer_sys::fuzz_target;

// What was asked, and the size of the pieces; the others are the answer's.
fuzz_target!(|input: &[u8]| {
    let [asked, size, bytes @ ..] = input else { return };
    let is_head = asked % 2 == 1;
    let asked = if is_head { Method::HEAD } else { Method::GET };
    let whole = answered(&asked, [bytes]);
    assert_eq!(answered(&asked, bytes.chunks(usize::from(*size) + 1)), whole);

    assert!(whole.data.len() <= bytes.len());
    assert!(!is_head || whole.data.is_empty());
    assert!(whole.is_whole || !whole.may_stay);
    // Interim answers come before the one, and none behind it.
    let interim = whole.statuses.iter().take_while(|&&status| status < 200).count();
    assert!(whole.statuses.len() <= interim + 1, "{:?}", whole.statuses);
    // What may be followed by another answer has nothing behind it.
    if whole.may_stay && !bytes.is_empty() {
        let more = answered(&asked, [bytes, b"HTTP/1.1 200 OK\r\n\r\n"]);
        assert_eq!((more.statuses, more.data), (whole.statuses, whole.data));
        assert!(!more.may_stay);
    }
});
