//! Passwords are checked a few at a time, and off the threads that serve visitors.
//!
//! Whoever sends wrong ones can use up no more than those few threads: each source has so many tries, the check of a
//! password waits for its turn, and no more than so many wait.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{VisitorRate, rate::Limiter};
use crate::refusal::Refusal;

/// All checks of a server.
#[derive(Clone, Debug)]
pub(crate) struct Checks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Counts what was wrong.
    guesses: Limiter,
}

impl Checks {
    pub(crate) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with((threads / 4).max(1), Instant::now())
    }

    fn with(at_once: usize, now: Instant) -> Self {
        Self(Arc::new(Inner {
            turns: Arc::new(Semaphore::new(at_once)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            guesses: Limiter::new(VisitorRate::PASSWORDS, now),
        }))
    }

    /// Runs a check when it is its turn. `is_known` is asked again before: what was checked meanwhile need not be
    /// checked twice. Whatever becomes of the visitor, a check that has begun is finished and counted.
    ///
    /// # Errors
    /// It is not right, or there is no time for it.
    pub(super) async fn run(
        self,
        from: IpAddr,
        is_known: impl Fn() -> bool + Send,
        check: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<(), Wrong> {
        let Inner { turns, waiting, guesses } = &*self.0;
        let too_many = |wait| Wrong::NotNow(Refusal::TooManyGuesses(in_seconds(wait)));
        guesses.check(from, Instant::now()).map_err(too_many)?;
        let busy = || Wrong::NotNow(Refusal::ChecksBusy);
        let _place = Arc::clone(waiting).try_acquire_owned().map_err(|_| busy())?;
        let turn = Arc::clone(turns).acquire_owned().await.map_err(|_| busy())?;
        if is_known() {
            return Ok(());
        }
        // Those before it may have been guesses from there.
        guesses.check(from, Instant::now()).map_err(too_many)?;
        let inner = Arc::clone(&self.0);
        let checking = spawn_blocking(move || {
            let is_right = check();
            if !is_right {
                // With several turns a source may be that much ahead, which this does not let pass for free.
                let _ = inner.guesses.take(from, Instant::now());
            }
            drop(turn);
            is_right
        });
        match checking.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Wrong::Password),
            // The runtime ends.
            Err(_) => Err(busy()),
        }
    }
}

/// Why a check lets nobody in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Password,
    NotNow(Refusal),
}

/// Rounded up: who comes earlier would be turned away again.
pub(super) fn in_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// At 30 ms each the last of them waits for some seconds. What a request holds meanwhile is its head.
const MOST_WAITING: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn checks() -> Checks {
        Checks::with(1, Instant::now())
    }

    #[tokio::test]
    async fn a_source_that_guesses_has_so_many_tries_and_others_have_theirs() {
        let (checks, checked) = (checks(), Arc::new(AtomicUsize::new(0)));
        let guess = |from: [u8; 4]| {
            let checked = Arc::clone(&checked);
            checks.clone().run(
                IpAddr::from(from),
                || false,
                move || {
                    checked.fetch_add(1, Ordering::Relaxed);
                    false
                },
            )
        };
        for _ in 0..10 {
            assert_eq!(guess([192, 0, 2, 1]).await, Err(Wrong::Password));
        }
        for _ in 0..100 {
            let refused = guess([192, 0, 2, 1]).await;
            assert!(
                matches!(refused, Err(Wrong::NotNow(Refusal::TooManyGuesses(1..=6)))),
                "{refused:?}"
            );
        }
        assert_eq!(checked.load(Ordering::Relaxed), 10);
        assert_eq!(guess([192, 0, 2, 2]).await, Err(Wrong::Password));
    }

    #[tokio::test]
    async fn who_waits_for_the_same_check_needs_none() {
        let checks = checks();
        assert_eq!(checks.run(FROM, || true, || unreachable!()).await, Ok(()));
    }

    #[tokio::test]
    async fn checks_take_turns_and_only_so_many_wait() {
        let (checks, (release, held)) = (checks(), std::sync::mpsc::channel::<()>());
        let first = tokio::spawn(checks.clone().run(FROM, || false, move || held.recv().is_ok()));
        while checks.0.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let waiting: Vec<_> = (1..MOST_WAITING)
            .map(|_| tokio::spawn(checks.clone().run(FROM, || false, || true)))
            .collect();
        while checks.0.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let busy = Err(Wrong::NotNow(Refusal::ChecksBusy));
        assert_eq!(checks.clone().run(FROM, || false, || true).await, busy);
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        for one in waiting {
            assert_eq!(one.await.unwrap(), Ok(()));
        }
    }

    #[tokio::test]
    async fn a_guess_counts_though_its_visitor_has_left() {
        let (checks, (release, held)) = (checks(), std::sync::mpsc::channel::<()>());
        let leaving =
            tokio::spawn(checks.clone().run(FROM, || false, move || held.recv().is_err()));
        while checks.0.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        leaving.abort();
        assert!(leaving.await.is_err());
        assert_eq!(checks.0.turns.available_permits(), 0, "the check goes on");
        release.send(()).unwrap();
        while checks.0.turns.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..9 {
            assert_eq!(checks.clone().run(FROM, || false, || false).await, Err(Wrong::Password));
        }
        assert!(matches!(checks.run(FROM, || false, || false).await, Err(Wrong::NotNow(_))));
    }
}
