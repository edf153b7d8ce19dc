//! Which stream sends next: DRR++ as in RFC 8290, section 4.
//!
//! A stream that just became active sends first, for one quantum; then it joins the round robin.
//! Interactive streams empty their queue within the quantum and so always go first; bulk streams
//! share by bytes, whatever the size of their frames.
//!
//! One thing differs from the RFC. There a stream that empties its queue passes through the round
//! robin, so that it cannot go first again before everybody had a turn. With our quantum of a
//! whole frame such a turn takes long: each second key press of a terminal would wait for it. Here
//! the stream leaves at once and keeps what is left of its quantum until the round is over, so it
//! goes first as often as it likes, yet for one quantum a round at most, which is the RFC's bound.

use std::collections::VecDeque;

use ferrotunnel_common::StreamId;

/// Bytes a stream may send before the next one's turn: one maximal frame, so that bulk streams
/// send whole frames.
pub(super) const QUANTUM: i32 = 65_535;

/// Where a stream stands, kept in the stream itself.
///
/// Invariant: `listed` exactly when the stream stands in one of the lists, and it stands there once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// What it may send before the next one's turn; outside the lists, what is left of that.
    deficit: i32,
    /// The round in which it left the lists.
    round: u32,
    listed: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self { deficit: QUANTUM, round: 0, listed: false }
    }
}

impl Turn {
    pub(super) fn is_listed(self) -> bool {
        self.listed
    }
}

/// The two lists of RFC 8290.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    new: VecDeque<StreamId>,
    old: VecDeque<StreamId>,
    /// Counts how often everybody in `old` had a turn. It may wrap: a stream that slept for 2^32
    /// rounds might not go first.
    round: u32,
    /// Turns in `old` until the round is over.
    turns_left: usize,
}

/// The head of the line, and which list it stands in.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) stream: StreamId,
    list: List,
}

#[derive(Clone, Copy)]
enum List {
    New,
    Old,
}

impl Scheduler {
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }

    /// A stream has something to send.
    pub(super) fn activate(&mut self, stream: StreamId, turn: &mut Turn) {
        if turn.listed {
            return;
        }
        turn.listed = true;
        if turn.round != self.round {
            // What it sent too much in an earlier round is not forgotten.
            turn.deficit = (turn.deficit + QUANTUM).min(QUANTUM);
        }
        if turn.deficit > 0 {
            self.new.push_back(stream);
        } else {
            turn.deficit += QUANTUM;
            self.old.push_back(stream);
        }
    }

    pub(super) fn head(&self) -> Option<Head> {
        let from = |list: &VecDeque<StreamId>, which| {
            list.front().map(|stream| Head { stream: *stream, list: which })
        };
        from(&self.new, List::New).or_else(|| from(&self.old, List::Old))
    }

    /// Whether the head may send now; if its quantum is used up it goes to the end of the round.
    pub(super) fn may_send(&mut self, head: Head, turn: &mut Turn) -> bool {
        if turn.deficit > 0 {
            return true;
        }
        turn.deficit += QUANTUM;
        self.old.push_back(head.stream);
        self.pop(head);
        false
    }

    pub(super) fn sent(turn: &mut Turn, bytes: usize) {
        // A FIN without payload costs its header, or it could go on for ever.
        turn.deficit -= (bytes as i32).max(crate::frame::HEADER_LEN as i32);
    }

    /// The head has nothing left to send.
    pub(super) fn emptied(&mut self, head: Head, turn: &mut Turn) {
        turn.listed = false;
        turn.round = self.round;
        self.pop(head);
    }

    /// The head's stream is gone.
    pub(super) fn remove_head(&mut self, head: Head) {
        self.pop(head);
    }

    fn pop(&mut self, head: Head) {
        match head.list {
            List::New => {
                self.new.pop_front();
            }
            List::Old => {
                self.old.pop_front();
                self.turns_left = self.turns_left.saturating_sub(1);
                if self.turns_left == 0 {
                    self.round = self.round.wrapping_add(1);
                    self.turns_left = self.old.len();
                }
            }
        }
    }

    /// Everybody in line, for checks.
    pub(super) fn iter(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.new.iter().chain(&self.old).copied()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
