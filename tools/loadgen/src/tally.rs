//! What became of the exchanges.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Fault};
use crate::latency::Latencies;
use crate::report::Report;

/// The times of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Exchanges of before warm up.
    pub(crate) measured_from: Instant,
    /// No exchange begins after it.
    pub(crate) ends: Instant,
    /// What is under way then is given up.
    pub(crate) give_up: Instant,
}

/// What one thread has counted.
#[derive(Debug)]
pub(crate) struct Tally {
    window: Window,
    answered: u64,
    in_window: u64,
    failed: u64,
    unanswered: u64,
    latencies: Latencies,
    faults: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new(window: Window) -> Result<Self, Failure> {
        Ok(Self {
            window,
            answered: 0,
            in_window: 0,
            failed: 0,
            unanswered: 0,
            latencies: Latencies::new()?,
            faults: BTreeMap::new(),
        })
    }

    pub(crate) fn answered(&mut self, due: Instant, now: Instant) {
        self.answered += 1;
        self.in_window += u64::from((self.window.measured_from..self.window.ends).contains(&now));
        self.measure(due, now);
    }

    pub(crate) fn failed(&mut self, fault: &Fault) {
        self.failed += 1;
        let text = fault.to_string();
        if self.faults.len() < FAULTS || self.faults.contains_key(&text) {
            *self.faults.entry(text).or_default() += 1;
        }
    }

    /// Counts with the age it has: leaving it out would hide the worst of all.
    pub(crate) fn unanswered(&mut self, due: Instant) {
        self.unanswered += 1;
        self.measure(due, self.window.give_up);
    }

    fn measure(&mut self, due: Instant, now: Instant) {
        if due >= self.window.measured_from {
            self.latencies.record(now.saturating_duration_since(due));
        }
    }
}

/// What a run of exchanges came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Exchanges that were answered well, those of the warm-up too.
    pub answered: u64,
    /// Exchanges that failed. They are in no latency.
    pub failed: u64,
    /// Exchanges given up at the end of the run's patience, some of them never begun. Their age
    /// is among the latencies.
    pub unanswered: u64,
    /// Good answers per second, between the warm-up and the end.
    pub per_second: f64,
    /// From the moment an exchange was due until it was answered; without the warm-up.
    pub latencies: Latencies,
    /// What went wrong, and how often.
    pub faults: BTreeMap<String, u64>,
}

impl Outcome {
    pub(crate) fn of(tallies: Vec<Tally>, measured: Duration) -> Result<Self, Failure> {
        let mut outcome = Self {
            answered: 0,
            failed: 0,
            unanswered: 0,
            per_second: 0.0,
            latencies: Latencies::new()?,
            faults: BTreeMap::new(),
        };
        let mut in_window = 0;
        for tally in tallies {
            outcome.answered += tally.answered;
            outcome.failed += tally.failed;
            outcome.unanswered += tally.unanswered;
            in_window += tally.in_window;
            outcome.latencies.add(&tally.latencies)?;
            for (text, count) in tally.faults {
                *outcome.faults.entry(text).or_default() += count;
            }
        }
        outcome.per_second = in_window as f64 / measured.as_secs_f64();
        Ok(outcome)
    }

    /// Writes it down; `unit` is what an exchange is called, in the plural.
    pub fn report(&self, report: &mut Report, unit: &str) {
        report.rate(&format!("{unit}_per_second"), self.per_second);
        report.count("answered", self.answered);
        report.count("failed", self.failed);
        report.count("unanswered", self.unanswered);
        report.latencies(&self.latencies);
        report.counts("faults", &self.faults);
    }
}

/// Kinds of faults told apart; a run has one or two.
const FAULTS: usize = 16;
