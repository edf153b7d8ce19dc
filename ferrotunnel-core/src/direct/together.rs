//! Those that move at the same time go over together.
//!
//! Who is over has the faster way, and takes the time that the dials of the others need: of a crowd that began together the
//! first would be far ahead before the last had a carrier.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

/// Who is about to go over.
#[derive(Debug, Default)]
pub(super) struct Together {
    asking: AtomicUsize,
    /// Told when nobody asks any more.
    all_have: Notify,
}

/// One that asks for a carrier, until it is dropped.
pub(super) struct Asking<'a>(&'a Together);

impl Together {
    pub(super) fn ask(&self) -> Asking<'_> {
        self.asking.fetch_add(1, Ordering::Relaxed);
        Asking(self)
    }
}

impl Asking<'_> {
    /// It has what it asked for. Waits for those who ask, and who will in this very moment, but not for long.
    pub(super) async fn with_the_others(self) {
        let (together, until) = (self.0, Instant::now() + AT_MOST);
        sleep(AT_LEAST).await;
        // It hears of it from here on, also by itself.
        let mut all_have = pin!(together.all_have.notified());
        all_have.as_mut().enable();
        drop(self);
        let _ = timeout_at(until, all_have).await;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.0.asking.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.all_have.notify_waiters();
        }
    }
}

/// What a few dozen streams that share a carrier need to become bulk, the last behind the first.
const AT_LEAST: Duration = Duration::from_millis(50);

/// As long as a few dozen dials take where bulk keeps both processors busy.
const AT_MOST: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_has_a_carrier_waits_for_those_who_ask_but_not_for_long() {
        let (together, began) = (Together::default(), Instant::now());
        together.ask().with_the_others().await;
        assert_eq!(began.elapsed(), AT_LEAST, "it was alone");
        let [first, last, none] = [(); 3].map(|()| together.ask());
        let others = async {
            sleep(AT_LEAST).await;
            drop(none);
            last.with_the_others().await;
            began.elapsed()
        };
        let first = async {
            first.with_the_others().await;
            began.elapsed()
        };
        assert_eq!(tokio::join!(first, others), (3 * AT_LEAST, 3 * AT_LEAST));
        let _dials_for_ever = together.ask();
        together.ask().with_the_others().await;
        assert_eq!(began.elapsed(), 3 * AT_LEAST + AT_MOST);
    }
}
