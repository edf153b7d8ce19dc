//! Threads for what moves much.
//!
//! A connection that always has more to move keeps those beside it waiting: its thread for each of its turns, and all that
//! live there for as long as the system gives the processor to somebody else. A splice of sockets goes on here while it is
//! like that, and what stays behind rests between its turns, so that the system lets it through as soon as it wakes. Of a crowd
//! that fills a thread with less than that each, nobody goes.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::shards::Thread;
use crate::tasks::{AbortOnDrop, Tasks};

/// Those threads. They start when the first is needed. A cheap handle; they end with the last clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bulk(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    most: usize,
    threads: OnceLock<Vec<Thread>>,
    /// What goes on there, each as long as somebody waits for it.
    away: Tasks,
}

impl Bulk {
    pub(crate) fn threads(most: usize) -> Self {
        let inner = || Inner { most, threads: OnceLock::new(), away: Tasks::default() };
        Self((most > 0).then(|| Arc::new(inner())))
    }

    /// Where something goes on first: at home, and there for good where there are no threads.
    pub(crate) fn first_place(&self) -> Place {
        if self.0.is_some() { Place::Home } else { Place::Fixed }
    }

    /// Runtimes of those that have started.
    pub(crate) fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().filter_map(|inner| inner.threads.get()).flatten().map(Thread::runtime)
    }

    /// Cuts off what goes on here, and waits until it has really ended. For the end: whoever waits for it has been ended already.
    pub(crate) async fn finish(&self) {
        if let Some(inner) = &self.0 {
            inner.away.finish(Duration::ZERO).await;
        }
    }

    /// The one with the least to do. `None`: there are none, nor does the system give any.
    fn thread(&self) -> Option<(&Tasks, &Handle)> {
        let inner = self.0.as_deref()?;
        let threads = inner.threads.get_or_init(|| {
            let start = |index| match Thread::start(format!("ferrotunnel-bulk-{index}")) {
                Ok(thread) => {
                    // Before anything else that it does.
                    thread.runtime().spawn(async { step_back() });
                    Some(thread)
                }
                Err(error) => {
                    tracing::warn!(%error, started = index, "too few threads for bulk from now on");
                    None
                }
            };
            (0..inner.most).map_while(start).collect()
        });
        let load = |runtime: &&Handle| runtime.metrics().num_alive_tasks();
        let runtime = threads.iter().map(Thread::runtime).min_by_key(load)?;
        Some((&inner.away, runtime))
    }
}

/// Lets the other threads of this machine go first where they compete with this one for processors.
fn step_back() {
    // Of other systems the whole process would step back.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread for bulk does not step back");
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
    type Outcome: Send + 'static;

    /// Copies until all is done. `None`: it is [misplaced](Load::is_misplaced) here.
    fn copy(&mut self) -> impl Future<Output = Option<Self::Outcome>> + Send;

    /// It is on the calling thread now, which is that to it; at a fixed place nothing but that changes.
    fn settle(&mut self, place: Place);

    /// What comes of it if it was cut off on another thread, or has panicked there.
    fn cut_off() -> Self::Outcome;
}

/// Copies until all is done: here, and on a thread for bulk while that is better.
#[expect(clippy::manual_async_fn, reason = "that would have room for its argument twice")]
pub(crate) fn copy_with<C: Copying>(
    mut copying: C,
    bulk: Bulk,
) -> impl Future<Output = C::Outcome> + Send {
    async move {
        if let Some(outcome) = copying.copy().await {
            return outcome;
        }
        let mut copying = Box::new(copying);
        loop {
            if let Some((away, runtime)) = bulk.thread() {
                let (give_back, back) = oneshot::channel();
                let going_on = async move {
                    copying.settle(Place::Away);
                    let outcome = copying.copy().await;
                    // If nobody waits for it, this is its end.
                    let _ = give_back.send((copying, outcome));
                };
                let task = AbortOnDrop::new(away.spawn_on(going_on, runtime));
                let Ok((given_back, outcome)) = back.await else { return C::cut_off() };
                drop(task);
                if let Some(outcome) = outcome {
                    return outcome;
                }
                copying = given_back;
                copying.settle(Place::Home);
            } else {
                copying.settle(Place::Fixed);
            }
            if let Some(outcome) = copying.copy().await {
                return outcome;
            }
        }
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
            Place::Home => self.look(moved, now()).is_some_and(|took| took <= BUSY),
            Place::Away => {
                let now = now();
                if self.at.is_some_and(|at| now - at < CALM) {
                    return false;
                }
                // Between two turns there may be an hour.
                let is_calm = |took: Duration| {
                    u128::from(more) * CALM.as_nanos() < u128::from(MUCH) * took.as_nanos()
                };
                self.look(moved, now).is_some_and(is_calm)
            }
        }
    }

    /// How long it is since the last look.
    fn look(&mut self, moved: u64, now: Instant) -> Option<Duration> {
        self.before = moved;
        self.at.replace(now).map(|at| now - at)
    }

    /// It begins anew in another place.
    pub(crate) fn restart(&mut self, moved: u64) {
        *self = Self { before: moved, at: None };
    }
}

/// Measured over loopback on two processors: half of the round trips beside one stream of bulk take 0.15 ms instead of 0.86, and
/// beside eight 0.15 instead of 4.0, with 99th percentiles of 2.7 instead of 4.0 and 6.4 instead of 11.9; half as nice has the half of
/// that. The bulk is as fast: a tenth of a processor, which is what others leave it at worst, still moves some Gbit/s.
/// Niceness counts within a scheduling group. Where visitors and local service are on the same machine in groups of their own
/// (autogroup, services of systemd) they get their share between, and half of the round trips take 0.9 and 3 ms.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Bytes, both ways together. A few milliseconds of bulk at the speed of memory.
const MUCH: u64 = 8 << 20;

/// Who moves [`MUCH`] in this time goes away: 168 Mbit/s. Sixty-four who share 10 Gbit/s are just below that.
const BUSY: Duration = Duration::from_millis(400);

/// Who moves less than [`MUCH`] in this time comes home at its next turn: 67 Mbit/s.
const CALM: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the calling thread: proc_pid_stat(5), field 19.
    #[cfg(target_os = "linux")]
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn threads_for_bulk_step_back_and_no_others() {
        let before = niceness();
        let bulk = Bulk::threads(1);
        let (_, runtime) = bulk.thread().unwrap();
        let there = runtime.spawn(async { niceness() }).await.unwrap();
        assert_eq!(there, (before + NICENESS).min(19));
        let other = Thread::start("other".to_owned()).unwrap();
        let there = other.runtime().spawn(async { niceness() }).await.unwrap();
        assert_eq!((there, niceness()), (before, before));
    }

    #[test]
    fn what_moves_much_goes_away_and_comes_back_when_it_is_calm() {
        let begin = Instant::now();
        let at = |millis| move || begin + Duration::from_millis(millis);
        let mut load = Load::default();
        assert!(!load.is_misplaced(Place::Home, MUCH, at(0)), "it may have taken for ever");
        assert!(!load.is_misplaced(Place::Home, 2 * MUCH - 1, || unreachable!()));
        assert!(load.is_misplaced(Place::Home, 2 * MUCH, at(400)));
        load.restart(2 * MUCH);
        assert!(!load.is_misplaced(Place::Away, 2 * MUCH, at(500)));
        assert!(!load.is_misplaced(Place::Away, 2 * MUCH, at(1_499)), "not for long enough");
        assert!(!load.is_misplaced(Place::Away, 3 * MUCH, at(1_500)), "it was busy");
        assert!(load.is_misplaced(Place::Away, 4 * MUCH - 1, at(2_500)));
        load.restart(4 * MUCH);
        assert!(!load.is_misplaced(Place::Home, 4 * MUCH, || unreachable!()));
        load.restart(4 * MUCH);
        assert!(!load.is_misplaced(Place::Away, 4 * MUCH, at(3_000)));
        assert!(load.is_misplaced(Place::Away, 9 * MUCH, at(3_600_000)), "what was long ago");
    }

    #[test]
    fn what_a_network_brings_stays_at_home() {
        let begin = Instant::now();
        let mut load = Load::default();
        // 160 Mbit/s.
        for millis in 0..60_000_u64 {
            let now = || begin + Duration::from_millis(millis);
            assert!(!load.is_misplaced(Place::Home, millis * 20_000, now), "{millis} ms");
        }
    }

    #[test]
    fn where_there_are_no_threads_everything_stays() {
        assert_eq!(Bulk::threads(0).first_place(), Place::Fixed);
        assert_eq!(Bulk::threads(1).first_place(), Place::Home);
        assert!(!Load::default().is_misplaced(Place::Fixed, u64::MAX, || unreachable!()));
    }
}
