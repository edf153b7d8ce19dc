//! Time limits, so that no test hangs.

use std::time::Duration;

use tokio::runtime;

use crate::bed::Carrier;

/// How long one step of a test may take. Nothing here takes a tenth of it on an idle machine; on one that builds and
/// tests at the same time it may.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on a runtime of its own, and fails it when it takes too long.
#[track_caller]
pub fn run<T>(test: impl Future<Output = T>) -> T {
    run_for(WHOLE_TEST, test)
}

/// Runs a test that may take longer than others.
#[track_caller]
pub fn run_for<T>(limit: Duration, test: impl Future<Output = T>) -> T {
    let runtime =
        runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(async { tokio::time::timeout(limit, test).await });
    // A name lookup may be under way; nobody waits for it.
    runtime.shutdown_background();
    result.unwrap_or_else(|_| panic!("the test took longer than {limit:?}"))
}

/// Runs a test over an encrypted carrier and over a plaintext one.
#[track_caller]
pub fn over_both(test: impl AsyncFn(Carrier)) {
    for carrier in [Carrier::Tls, Carrier::Plaintext] {
        println!("over {carrier:?}");
        run(test(carrier));
    }
}

/// Waits for one step, and says which one it was when it takes too long.
pub async fn soon<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done,
        Err(_) => panic!("still waiting after {PATIENCE:?} for: {what}"),
    }
}

/// Waits until something is so that nobody tells about.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
}

/// Goes on asking until a count stands still meanwhile, and returns it: those who do not read have stalled, and others
/// are served all the same.
pub async fn until_still(count: impl Fn() -> u64, ask: impl AsyncFn()) -> u64 {
    soon("the stalled ones to stall", async {
        loop {
            let before = count();
            for _ in 0..20 {
                ask().await;
            }
            if count() == before {
                return before;
            }
        }
    })
    .await
}

/// For a whole test: several steps, and those that wait for a dead peer (15 s by design).
const WHOLE_TEST: Duration = Duration::from_secs(90);

const LOOK_EVERY: Duration = Duration::from_millis(5);
