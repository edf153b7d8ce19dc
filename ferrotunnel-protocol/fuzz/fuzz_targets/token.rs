//! Tokens and verifiers as they are typed.
//!
//! What is taken is the same when it is shown and typed again, a typing error in a named token is never another
//! token, and nothing of a secret is in what logs may show.

#![no_main]

use ferrotunnel_common::Token;
use ferrotunnel_core::Verifier;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((id, rest)) = bytes.split_first_chunk()
        && let Some((secret, chance @ [_, ..])) = rest.split_first_chunk()
    {
        mistype(&Token::named(*id, *secret), chance);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Token::new(text) {
        Ok(token) => {
            let shown = token.reveal();
            assert_eq!(shown, text.trim());
            assert!(Token::new(shown.as_str()).is_ok_and(|again| again == token));
            assert_eq!(format!("{token:?}"), "Token(redacted)");
            if !token.id().is_empty() {
                mistype(&token, bytes);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(verifier) = text.parse::<Verifier>() {
        let shown = verifier.to_string();
        assert_eq!(shown, text.trim());
        assert!(shown.parse::<Verifier>().is_ok_and(|again| again == verifier));
    }
});

/// One character that is another.
fn mistype(token: &Token, chance: &[u8]) {
    let mut typed = token.reveal().into_bytes();
    let at = chance.iter().map(|&byte| usize::from(byte)).sum::<usize>() % typed.len();
    let another = b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(chance[0]) % 32];
    if typed[at] != another {
        typed[at] = another;
        let typed = String::from_utf8(typed).expect("letters");
        let read = Token::new(typed.as_str());
        assert!(read.is_err(), "{typed} is a token, too");
    }
}
