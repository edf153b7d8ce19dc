//! Which stream sends next: DRR++ as in RFC 8290, section 4.
//!
//! A stream that just became active sends first, for one quantum; then it joins the round robin.
//! Interactive streams empty their queue within the quantum and so always go first; bulk streams
//! share by bytes, whatever the size of their frames.

use std::collections::VecDeque;

use ferrotunnel_common::StreamId;

/// Bytes a stream may send before the next one's turn: one maximal frame, so that bulk streams
/// send whole frames.
pub(super) const QUANTUM: i32 = 65_535;

/// Where a stream stands, kept in the stream itself.
///
/// Invariant: `listed` exactly when the stream stands in one of the lists, and it stands there once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    deficit: i32,
    listed: bool,
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
        if !turn.listed {
            *turn = Turn { deficit: QUANTUM, listed: true };
            self.new.push_back(stream);
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
        self.pop(head);
        self.old.push_back(head.stream);
        false
    }

    pub(super) fn sent(turn: &mut Turn, bytes: usize) {
        // A FIN without payload costs its header, or it could go on for ever.
        turn.deficit -= (bytes as i32).max(crate::frame::HEADER_LEN as i32);
    }

    /// The head has nothing left. From the new list it passes through the old one, so that it
    /// cannot jump the line again by emptying its queue; from the old list it leaves.
    pub(super) fn emptied(&mut self, head: Head, turn: &mut Turn) {
        self.pop(head);
        match head.list {
            List::New if !self.old.is_empty() => self.old.push_back(head.stream),
            List::New | List::Old => turn.listed = false,
        }
    }

    /// The head's stream is gone.
    pub(super) fn remove_head(&mut self, head: Head) {
        self.pop(head);
    }

    fn pop(&mut self, head: Head) {
        match head.list {
            List::New => self.new.pop_front(),
            List::Old => self.old.pop_front(),
        };
    }

    /// Everybody in line, for checks.
    pub(super) fn iter(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.new.iter().chain(&self.old).copied()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
