//! Who was there, and whether an error is therefore allowed.
//!
//! A [`Party`] is a server or a client: the process, and with a client its tunnel. It **leaves** in
//! the moment before this tool sends it (or the server that it needs) a signal, and **is back**
//! once it has said so: a server that it listens, a client that its tunnel is ready. Nothing but
//! what this tool does counts as leaving; a session that breaks for another reason excuses nobody.
//!
//! A visitor takes a [`Watch`] of the two parties it needs before it connects. Its error is allowed
//! if one of them was away then or has left since, and only then:
//!
//! | what the visitor met | allowed |
//! |---|---|
//! | refused, reset, an answer of the server's own (404, 502, 503, 504) | if server or client was away |
//! | an orderly end before all was said | if the *server* was away: the system ends what a dead process had open in an orderly way, and nobody else may |
//! | nothing at all for a minute | never |
//! | bytes that are not its own, or not in order | never |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A server or a client.
#[derive(Debug)]
pub struct Party {
    name: String,
    /// Odd while it is away.
    turns: AtomicU64,
}

impl Party {
    /// One that is not there yet.
    pub fn new(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), turns: AtomicU64::new(1) })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Before it is killed, or what it needs is.
    pub fn leaves(&self) {
        self.turns.fetch_add(1 - (self.turns() & 1), Ordering::SeqCst);
    }

    /// It has said that it is there.
    pub fn is_back(&self) {
        self.turns.fetch_add(self.turns() & 1, Ordering::SeqCst);
    }

    /// Whether it is.
    pub fn is_away(&self) -> bool {
        self.turns() & 1 == 1
    }

    /// From now on.
    pub fn watch(self: &Arc<Self>) -> Watch {
        Watch { party: Arc::clone(self), since: self.turns() }
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }
}

/// A party since a moment.
#[derive(Clone, Debug)]
pub struct Watch {
    party: Arc<Party>,
    since: u64,
}

impl Watch {
    /// Whether it was away at any time since, that moment and this one included.
    pub fn was_away(&self) -> bool {
        self.since & 1 == 1 || self.party.turns() != self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_seen_whenever_it_was() {
        let party = Party::new("client");
        let before_it_came = party.watch();
        party.is_back();
        let present = party.watch();
        assert!(before_it_came.was_away());
        assert!(!present.was_away());
        party.leaves();
        let away = party.watch();
        assert!(present.was_away() && away.was_away() && party.is_away());
        party.is_back();
        assert!(present.was_away(), "it was away in between");
        assert!(away.was_away(), "it was away at the beginning");
        assert!(!party.watch().was_away() && !party.is_away());
    }

    #[test]
    fn leaving_twice_is_leaving_once() {
        let party = Party::new("client");
        party.is_back();
        let watch = party.watch();
        party.leaves();
        party.leaves();
        assert!(party.is_away());
        party.is_back();
        party.is_back();
        assert!(!party.is_away() && watch.was_away());
    }
}
