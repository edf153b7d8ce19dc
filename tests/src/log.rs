//! What the library logs while a test runs.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime;
use tracing::subscriber::set_default;
use tracing_subscriber::fmt;

use crate::patience::eventually;

/// The lines logged so far by this test and by no other one.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// How many lines contain these words.
    pub fn count(&self, words: &str) -> usize {
        let log = self.0.lock();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(words)).count()
    }

    /// Waits for a line with these words.
    pub async fn says(&self, words: impl Display) {
        let words = words.to_string();
        eventually(&format!("{words:?} in the log"), || self.count(&words) > 0).await;
    }
}

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Also to where a failure shows it.
        print!("{}", String::from_utf8_lossy(line));
        self.0.lock().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a test on a runtime of its own whose threads log to what the test is given.
pub fn run_logged(test: impl AsyncFn(Log)) {
    let log = Log::default();
    let start = {
        let log = log.clone();
        move || {
            let log = log.clone();
            let lines = fmt().with_ansi(false).with_max_level(tracing::Level::DEBUG);
            set_default(lines.with_writer(move || log.clone()).finish())
        }
    };
    let logs_here = start();
    // The others are those that wait for files.
    let on_thread = move || std::mem::forget(start());
    let runtime =
        runtime::Builder::new_current_thread().enable_all().on_thread_start(on_thread).build();
    let runtime = runtime.unwrap();
    let limit = Duration::from_secs(90);
    let result = runtime.block_on(async { tokio::time::timeout(limit, test(log)).await });
    runtime.shutdown_background();
    drop(logs_here);
    assert!(result.is_ok(), "the test took longer than {limit:?}");
}
