//! Threads for what moves much.
//!
//! A connection that always has more to move keeps those beside it waiting: its thread for each of its turns, and all that
//! live there for as long as the system gives the processor to somebody else. A splice of sockets goes on here while it is
//! like that, and what stays behind rests between its turns, so that the system lets it through as soon as it wakes.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::shards::Thread;
use crate::tasks::Tasks;

/// Those threads. They start when the first is needed. A cheap handle; they end with the last clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bulk(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    most: usize,
    threads: OnceLock<Vec<Thread>>,
    next: AtomicUsize,
    /// What goes on there, each as long as somebody waits for it.
    away: Tasks,
}

impl Bulk {
    pub(crate) fn threads(most: usize) -> Self {
        let inner = || Inner {
            most,
            threads: OnceLock::new(),
            next: AtomicUsize::new(0),
            away: Tasks::default(),
        };
        Self((most > 0).then(|| Arc::new(inner())))
    }

    /// Where something goes on first: at home, and there for good where there are no threads.
    pub(crate) fn begin(&self) -> Place {
        if self.0.is_some() { Place::Home } else { Place::Fixed }
    }

    /// Runtimes of those that have started.
    pub(crate) fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().filter_map(|inner| inner.threads.get()).flatten().map(Thread::runtime)
    }

    /// Lets what goes on here end that nobody waits for any more.
    pub(crate) async fn finish(&self) {
        if let Some(inner) = &self.0 {
            inner.away.finish(Duration::ZERO).await;
        }
    }

    /// The one whose turn it is. `None`: there are none, nor does the system give any.
    fn next(&self) -> Option<(&Tasks, &Handle)> {
        let inner = self.0.as_deref()?;
        let threads = inner.threads.get_or_init(|| {
            let start = |index| Thread::start(format!("ferrotunnel-bulk-{index}"));
            let started: Result<Vec<_>, _> = (0..inner.most).map(start).collect();
            started.unwrap_or_else(|error| {
                tracing::warn!(%error, "no threads for bulk: it stays where it is");
                Vec::new()
            })
        });
        let turn = inner.next.fetch_add(1, Ordering::Relaxed);
        let thread = threads.get(turn.checked_rem(threads.len())?)?;
        Some((&inner.away, thread.runtime()))
    }
}

/// Where something goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where it began.
    Home,
    /// On a thread for bulk.
    Away,
    /// Where it is, for ever.
    Fixed,
}

/// Something that copies, and that can be taken along to another thread.
pub(crate) trait Copying: Send + 'static {
    /// What comes of it.
    type End: Send + 'static;

    /// Copies until all is done. `None`: it is [misplaced](Load::is_misplaced) here.
    fn copy(&mut self) -> impl Future<Output = Option<Self::End>> + Send;

    /// It goes on on the calling thread, and is there now.
    fn settle(&mut self, place: Place);
}

/// Copies until all is done: here, and on a thread for bulk while that is better. `None`: it was cut off there, or has panicked.
#[expect(clippy::manual_async_fn, reason = "that would have room for its argument twice")]
pub(crate) fn copy_with<C: Copying>(
    mut copying: C,
    bulk: Bulk,
) -> impl Future<Output = Option<C::End>> + Send {
    async move {
        if let Some(end) = copying.copy().await {
            return Some(end);
        }
        let mut copying = Box::new(copying);
        loop {
            let Some((away, runtime)) = bulk.next() else {
                copying.settle(Place::Fixed);
                return copying.copy().await;
            };
            let (give_back, back) = oneshot::channel();
            let going_on = async move {
                copying.settle(Place::Away);
                let end = copying.copy().await;
                // If nobody waits for it, this is its end.
                let _ = give_back.send((copying, end));
            };
            let task = CutOff(away.spawn_on(going_on, runtime));
            let end;
            (copying, end) = back.await.ok()?;
            drop(task);
            if end.is_some() {
                return end;
            }
            copying.settle(Place::Home);
            if let Some(end) = copying.copy().await {
                return Some(end);
            }
        }
    }
}

/// Ends a task with whoever waits for it. The set that it is in knows when it really has.
struct CutOff(AbortHandle);

impl Drop for CutOff {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How much something moves.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// What had moved when it was looked at last, and when that was.
    before: u64,
    at: Option<Instant>,
}

impl Load {
    /// Whether something that has moved so many bytes is better off elsewhere: on a thread for bulk if it keeps this one
    /// busy, and at home if it has been quiet for a while.
    pub(crate) fn is_misplaced(
        &mut self,
        place: Place,
        moved: u64,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        let more = moved - self.before;
        match place {
            Place::Fixed => false,
            // The time is asked for once in a while, not at each turn of everybody.
            Place::Home if more < MUCH => false,
            Place::Home => self.took(moved, now()).is_some_and(|took| took <= BUSY),
            Place::Away => {
                let now = now();
                let at = *self.at.get_or_insert(now);
                now - at >= CALM && self.took(moved, now).is_some() && more < MUCH
            }
        }
    }

    /// How long it took since the last look.
    fn took(&mut self, moved: u64, now: Instant) -> Option<Duration> {
        self.before = moved;
        self.at.replace(now).map(|at| now - at)
    }

    /// It begins anew in another place.
    pub(crate) fn begin(&mut self, moved: u64) {
        *self = Self { before: moved, at: None };
    }
}

/// That much in [`BUSY`] is more than a network of 500 Mbit/s brings.
const MUCH: u64 = 8 << 20;

/// A few milliseconds of bulk at the speed of memory.
const BUSY: Duration = Duration::from_millis(100);

/// Who moves less than [`MUCH`] in this time does not need such a thread any more.
const CALM: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_much_goes_away_and_comes_back_when_it_is_calm() {
        let begin = Instant::now();
        let at = |millis| move || begin + Duration::from_millis(millis);
        let mut load = Load::default();
        assert!(!load.is_misplaced(Place::Home, MUCH, at(0)), "it may have taken for ever");
        assert!(!load.is_misplaced(Place::Home, 2 * MUCH - 1, || unreachable!()));
        assert!(load.is_misplaced(Place::Home, 2 * MUCH, at(100)));
        load.begin(2 * MUCH);
        assert!(!load.is_misplaced(Place::Away, 2 * MUCH, at(200)));
        assert!(!load.is_misplaced(Place::Away, 2 * MUCH, at(1_199)), "not for long enough");
        assert!(!load.is_misplaced(Place::Away, 3 * MUCH, at(1_200)), "it was busy");
        assert!(load.is_misplaced(Place::Away, 4 * MUCH - 1, at(2_200)));
        load.begin(4 * MUCH);
        assert!(!load.is_misplaced(Place::Home, 4 * MUCH, || unreachable!()));
    }

    #[test]
    fn what_a_network_brings_stays_at_home() {
        let begin = Instant::now();
        let mut load = Load::default();
        // 60 MB a second.
        for millis in 0..60_000_u64 {
            let now = || begin + Duration::from_millis(millis);
            assert!(!load.is_misplaced(Place::Home, millis * 60_000, now), "{millis} ms");
        }
    }

    #[test]
    fn where_there_are_no_threads_everything_stays() {
        assert_eq!(Bulk::threads(0).begin(), Place::Fixed);
        assert_eq!(Bulk::threads(1).begin(), Place::Home);
        assert!(!Load::default().is_misplaced(Place::Fixed, u64::MAX, || unreachable!()));
    }
}
