//! What was carried, and what went wrong. One ledger for all threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferrotunnel_loadgen::Report;
use parking_lot::Mutex;

use crate::fault::Fault;
use crate::presence::Watch;

/// The counts of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Connections of visitors that came about.
    pub connections: AtomicU64,
    /// HTTP requests and WebSocket messages that were answered well.
    pub requests: AtomicU64,
    /// Bytes of conversations that were checked, both ways, at their receiver.
    pub bytes: AtomicU64,
    /// Servers and clients that were killed, told to end, or relieved.
    pub kills: AtomicU64,
    faults: Mutex<Faults>,
    kinds: Mutex<BTreeMap<&'static str, u64>>,
    returns: Mutex<Vec<Duration>>,
}

#[derive(Debug, Default)]
struct Faults {
    allowed: Counted,
    forbidden: Counted,
}

#[derive(Debug, Default)]
struct Counted {
    total: u64,
    texts: BTreeMap<String, u64>,
}

impl Counted {
    fn add(&mut self, text: String) {
        self.total += 1;
        if self.texts.len() < TEXTS || self.texts.contains_key(&text) {
            *self.texts.entry(text).or_default() += 1;
        }
    }
}

/// Who a conversation needs.
#[derive(Clone, Debug)]
pub struct Needs {
    /// The server, since the visitor connected.
    pub server: Watch,
    /// The client, since the conversation began.
    pub client: Watch,
}

impl Needs {
    /// Whether somebody was away since.
    pub fn were_away(&self) -> bool {
        self.server.was_away() || self.client.was_away()
    }

    /// By the table in [`crate::presence`].
    pub fn allow(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Broken(..) | Fault::Refused(..) => self.were_away(),
            Fault::CutShort(_) => self.server.was_away(),
            Fault::Stuck(_) | Fault::Wrong(_) => false,
        }
    }
}

impl Ledger {
    /// Counts a conversation of that kind that went well.
    pub fn went_well(&self, kind: &'static str) {
        *self.kinds.lock().entry(kind).or_default() += 1;
    }

    /// Judges what a conversation met, and says whether it was allowed.
    pub fn judge(&self, kind: &'static str, tenant: &str, fault: &Fault, needs: &Needs) -> bool {
        let allowed = needs.allow(fault);
        let mut faults = self.faults.lock();
        if allowed {
            faults.allowed.add(format!("{kind}: {fault}"));
        } else {
            faults.forbidden.add(format!("{kind}, {tenant}: {fault}"));
        }
        allowed
    }

    /// Something that nothing excuses.
    pub fn forbid(&self, text: String) {
        self.faults.lock().forbidden.add(text);
    }

    /// How long a party needed until it was there again.
    pub fn returned(&self, after: Duration) {
        self.returns.lock().push(after);
    }

    /// Errors that were allowed.
    pub fn allowed(&self) -> u64 {
        self.faults.lock().allowed.total
    }

    /// Errors that were not.
    pub fn forbidden(&self) -> u64 {
        self.faults.lock().forbidden.total
    }

    /// What they were.
    pub fn forbidden_texts(&self) -> BTreeMap<String, u64> {
        self.faults.lock().forbidden.texts.clone()
    }

    /// Writes it all down.
    pub fn report(&self, report: &mut Report, time: Duration) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        report.count("connections", count(&self.connections));
        report.rate(
            "connections_per_second",
            count(&self.connections) as f64 / time.as_secs_f64().max(1e-9),
        );
        report.count("requests", count(&self.requests));
        report.count("bytes", count(&self.bytes));
        report.count("kills", count(&self.kills));
        let returns = self.returns.lock();
        report.count("returns", returns.len() as u64);
        if let Some(slowest) = returns.iter().max() {
            report.exact("slowest_return_s", slowest.as_secs_f64());
        }
        let kinds = self.kinds.lock();
        let kinds = kinds.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        report.counts("conversations", &kinds);
        let faults = self.faults.lock();
        report.count("allowed_errors", faults.allowed.total);
        report.count("forbidden_errors", faults.forbidden.total);
        report.counts("allowed", &faults.allowed.texts);
        report.counts("forbidden", &faults.forbidden.texts);
    }
}

/// Kinds of faults told apart. Tens are usual; each allowed kind of traffic has a few of its own.
const TEXTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::Party;

    #[test]
    fn what_is_allowed_depends_on_who_was_away() {
        let (server, client) = (Party::new("server"), Party::new("client"));
        server.is_back();
        client.is_back();
        let needs = || Needs { server: server.watch(), client: client.watch() };
        let broken = Fault::Broken("connection reset".to_owned(), "reading");
        let (cut, stuck) = (Fault::CutShort("reading"), Fault::Stuck("reading"));
        let wrong = Fault::Wrong("bytes".to_owned());
        let allowed = |needs: &Needs| [&broken, &cut, &stuck, &wrong].map(|it| needs.allow(it));
        let all_there = needs();
        assert_eq!(allowed(&all_there), [false; 4]);
        client.leaves();
        assert_eq!(allowed(&all_there), [true, false, false, false]);
        client.is_back();
        assert_eq!(allowed(&needs()), [false; 4]);
        let with_server = needs();
        server.leaves();
        assert_eq!(allowed(&with_server), [true, true, false, false]);
    }

    #[test]
    fn a_forbidden_error_is_counted_with_its_tenant() {
        let (server, client) = (Party::new("server"), Party::new("client"));
        server.is_back();
        client.is_back();
        let needs = Needs { server: server.watch(), client: client.watch() };
        let ledger = Ledger::default();
        assert!(!ledger.judge("short", "tenant 3", &Fault::CutShort("reading"), &needs));
        server.leaves();
        assert!(ledger.judge("short", "tenant 3", &Fault::CutShort("reading"), &needs));
        assert_eq!((ledger.forbidden(), ledger.allowed()), (1, 1));
        assert!(ledger.forbidden_texts().keys().all(|text| text.contains("tenant 3")));
    }
}
