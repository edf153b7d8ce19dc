//! The first words of a TLS connection, in arbitrary chops.
//!
//! Chops change nothing. The host that is asked for is nothing but a host.

#![no_main]

use ferrotunnel_core::fuzzing::{FirstWords, hear_first_words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((chops, bytes)) = input.split_first_chunk::<4>() else { return };
    let whole = hear_first_words([bytes]);
    assert_eq!(hear_first_words(pieces(bytes, chops)), whole);
    if let FirstWords::Hello { host: Some(host), .. } = whole {
        let foreign = |c: char| !c.is_ascii_graphic() || c.is_ascii_uppercase() || c == '/';
        assert!(host.len() < 256 && !host.contains(foreign), "{host:?}");
    }
});

/// `bytes` cut into lengths that repeat; 0 stands for the largest.
fn pieces<'a>(bytes: &'a [u8], chops: &'a [u8; 4]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    chops.iter().cycle().map_while(move |&chop| {
        let length = if chop == 0 { 4096 } else { usize::from(chop) };
        let (piece, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        (!piece.is_empty()).then_some(piece)
    })
}
