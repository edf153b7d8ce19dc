//! Settings files.
//!
//! Whatever stands in one, each thing that is wrong has a place inside of it, and what is right is right again.

#![no_main]

use ferrotunnel_cli::settings_problems;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let lines = String::from_utf8_lossy(bytes).split('\n').count();
    for (line, column, message) in settings_problems(bytes) {
        assert!((1..=lines).contains(&line) && column > 0, "{line}:{column}: {message}");
        assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
    }
});
