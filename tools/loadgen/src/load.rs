//! The one loop: every lane does one exchange after the other, at once or when it is due.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout_at};

use crate::crew;
use crate::failure::Failure;
use crate::lane::Lane;
use crate::pace::Pace;
use crate::tally::{Outcome, Tally, Window};

/// How much load, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// Threads that make it; each has its share of the connections.
    pub threads: usize,
    /// Connections, all there before the run begins.
    pub connections: usize,
    /// The beginning that is not measured.
    pub warmup: Duration,
    /// What is measured.
    pub duration: Duration,
    /// When the next exchange begins.
    pub rhythm: Rhythm,
    /// How long after the end answers are waited for.
    pub patience: Duration,
}

/// When the next exchange begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// After the one before: shows how much goes through. Its latencies flatter whoever stalls,
    /// since nothing is asked while it stalls.
    Closed,
    /// At a fixed rate over all lanes, whatever became of those before. Latency counts from when
    /// an exchange was due, be it sent or still waiting for a lane: nothing is omitted.
    Open {
        /// Exchanges due in a second.
        per_second: NonZeroU32,
    },
}

impl Load {
    fn window(&self, start: Instant) -> Window {
        let measured_from = start + self.warmup;
        let ends = measured_from + self.duration;
        Window { measured_from, ends, give_up: ends + self.patience }
    }
}

/// Where a lane gets its turns from.
enum Turns {
    Closed { ends: Instant },
    Open { pace: Arc<Pace>, start: Instant },
}

impl Turns {
    /// When the next exchange is due, once it is.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { ends } => Some(Instant::now()).filter(|now| now < ends),
            Self::Open { pace, start } => pace.turn(*start).await,
        }
    }

    /// Turns that nobody came to before the run was given up.
    fn left(&self) -> Option<Instant> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { pace, start } => pace.turn_left(*start),
        }
    }
}

/// Runs a load. `make` sets up one connection and gives its lanes.
pub(crate) fn run<L: Lane>(
    load: &Load,
    make: impl AsyncFn() -> Result<Vec<L>, Failure> + Sync,
) -> Result<Outcome, Failure> {
    let pace = match load.rhythm {
        Rhythm::Closed => None,
        Rhythm::Open { per_second } => {
            Some(Arc::new(Pace::new(per_second, load.warmup + load.duration)))
        }
    };
    let work = async |connections: Vec<Vec<L>>, start| {
        let window = load.window(start);
        let tally = Arc::new(Mutex::new(Tally::new(window)?));
        let mut tasks = JoinSet::new();
        for lane in connections.into_iter().flatten() {
            let turns = match &pace {
                None => Turns::Closed { ends: window.ends },
                Some(pace) => Turns::Open { pace: Arc::clone(pace), start },
            };
            tasks.spawn(drive(lane, turns, window.give_up, Arc::clone(&tally)));
        }
        tasks.join_all().await;
        Arc::into_inner(tally).map(Mutex::into_inner).ok_or(Failure::ThreadEnded)
    };
    let keep_pace = |start| {
        if let Some(pace) = &pace {
            pace.keep(start);
        }
    };
    let tallies = crew::run(load.threads, load.connections, make, work, keep_pace)?;
    Outcome::of(tallies.into_iter().collect::<Result<_, _>>()?, load.duration)
}

async fn drive<L: Lane>(mut lane: L, turns: Turns, give_up: Instant, tally: Arc<Mutex<Tally>>) {
    let mut under_way = None;
    let all = async {
        while let Some(due) = turns.next().await {
            under_way = Some(due);
            let result = lane.exchange().await;
            let now = Instant::now();
            under_way = None;
            match result {
                Ok(()) => {
                    tally.lock().answered(due, now);
                    lane.settle().await;
                }
                Err(fault) => {
                    tally.lock().failed(&fault);
                    sleep(AFTER_A_FAULT).await;
                }
            }
        }
    };
    // One timer for all: one for each exchange would be part of what is measured.
    let _ = timeout_at(give_up.into(), all).await;
    let mut tally = tally.lock();
    if let Some(due) = under_way {
        tally.unanswered(due);
    }
    while let Some(due) = turns.left() {
        tally.unanswered(due);
    }
}

/// Whoever refuses connections is not asked a million times a second.
const AFTER_A_FAULT: Duration = Duration::from_millis(10);
