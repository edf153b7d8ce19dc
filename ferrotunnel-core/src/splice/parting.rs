//! What is left to do when one end broke: the other is to hear what that end had said before.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::end::{End, Room};
use super::{CHUNKS_PER_POLL, Direction, Fault, Flow, SpliceError};

/// The last moments of a splice one end of which broke.
///
/// A service that answers an upload early and closes has its socket reset by what still comes; its
/// answer lies in our socket all the same. It is read and handed on. A stream keeps it through the
/// abort that follows; a socket would throw away what is queued there and is given time.
pub(super) struct Parting {
    pub(super) side: Side,
    pub(super) error: SpliceError,
    /// What the broken end had said by the time it fell silent; none if it spoke just now.
    silent_since: Option<u64>,
    /// The other end has said all it had to say.
    other_ended: bool,
    deadline: Option<(Duration, Pin<Box<Sleep>>)>,
}

/// Which end broke.
#[derive(Clone, Copy)]
pub(super) enum Side {
    A,
    B,
}

/// How a parting ended.
pub(super) enum Parted {
    /// Both directions of the other end are over; nothing is to be aborted.
    Orderly,
    /// The other end must not take what it has for the whole.
    Cut,
}

impl Parting {
    /// `words` come from the broken end, of which `said_before` had moved before this turn;
    /// `lost` were for it.
    pub(super) fn new(
        side: Side,
        fault: Fault,
        keeps_words: bool,
        (words, said_before): (&mut Direction, u64),
        lost: &mut Direction,
    ) -> Self {
        lost.state = Flow::Stopped;
        // Last words are short, and do not wait.
        words.pacing = None;
        let (error, last) = match fault {
            Fault::Source(error) => (error, Flow::Stopped),
            // A reset that follows an orderly end is told as a broken pipe.
            Fault::Sink(error) | Fault::UnreadSource(error)
                if keeps_words || error.kind() == ErrorKind::BrokenPipe =>
            {
                (error, Flow::Copying)
            }
            // The error that the read would have met is taken: its end proves nothing.
            Fault::Sink(error) | Fault::UnreadSource(error) => (error, Flow::LastWords),
        };
        if words.state == Flow::Copying {
            words.state = last;
        }
        let silent_since = if spoke_lately(words, &error) { None } else { Some(said_before) };
        let error = match side {
            Side::A => SpliceError::A(error),
            Side::B => SpliceError::B(error),
        };
        Self { side, error, silent_since, other_ended: false, deadline: None }
    }

    pub(super) fn poll<X: End, Y: End>(
        &mut self,
        cx: &mut Context<'_>,
        words: &mut Direction,
        broken: &mut X,
        other: &mut Y,
    ) -> Poll<Parted> {
        let before = words.moved;
        let copied = words.poll_copy(cx, broken, other);
        if let Poll::Ready(Err(Fault::UnreadSource(error))) = &copied
            && words.state == Flow::Copying
            && error.kind() != ErrorKind::BrokenPipe
            && !broken.keeps_words()
        {
            // What it was thought to have ended by was only how a write met the same break.
            words.state = Flow::LastWords;
        }
        if words.moved > before {
            // Whoever takes them slowly takes them all the same.
            self.deadline = None;
        }
        match copied {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Fault::Sink(_))) => return Poll::Ready(Parted::Cut),
            Poll::Ready(Err(Fault::Source(_))) => words.state = Flow::Stopped,
            // Its reader is slow, or stalls.
            Poll::Pending | Poll::Ready(Err(Fault::UnreadSource(_))) => {
                let is_whole = matches!(words.state, Flow::Copying | Flow::Finishing);
                let grace = if other.keeps_words() && is_whole { PAUSE_GRACE } else { WHOLE_GRACE };
                return self.poll_unheard(cx, other, false, grace);
            }
        }
        if other.keeps_words() {
            return Poll::Ready(Parted::Cut);
        }
        // The grace below is for what the other end still holds back, too.
        if let Poll::Ready(Err(_)) = other.poll_flush(cx) {
            return Poll::Ready(Parted::Cut);
        }
        let whole = words.state == Flow::Finished;
        if !whole && self.silent_since == Some(words.moved) {
            return Poll::Ready(Parted::Cut);
        }
        let grace = if whole { WHOLE_GRACE } else { CUT_GRACE };
        self.poll_unheard(cx, other, whole, grace)
    }

    /// What the other end says nobody hears any more. It is taken all the same, until that time has passed: an end that
    /// cannot get rid of its own words may read none. `whole`: it has all that there is for it.
    fn poll_unheard<Y: End>(
        &mut self,
        cx: &mut Context<'_>,
        other: &mut Y,
        whole: bool,
        grace: Duration,
    ) -> Poll<Parted> {
        let mut unheard = Vec::new();
        for _ in 0..CHUNKS_PER_POLL {
            if self.other_ended {
                break;
            }
            match other.poll_read(cx, Room::MAX, &mut unheard) {
                Poll::Ready(Ok(true)) => {
                    other.release(unheard.drain(..).map(|chunk| chunk.len()).sum());
                }
                Poll::Ready(Ok(false)) => self.other_ended = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Parted::Cut),
                Poll::Pending => return self.poll_deadline(cx, grace),
            }
        }
        if self.other_ended && whole {
            return Poll::Ready(Parted::Orderly);
        }
        if !self.other_ended {
            crate::yielding::behind_new_events(cx);
        }
        self.poll_deadline(cx, grace)
    }

    /// The time runs anew when it is asked for with another length.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, grace: Duration) -> Poll<Parted> {
        let running = self.deadline.take().filter(|(length, _)| *length == grace);
        let (_, timer) =
            self.deadline.insert(running.unwrap_or_else(|| (grace, Box::pin(sleep(grace)))));
        timer.as_mut().poll(cx).map(|()| Parted::Cut)
    }
}

/// Whether a reset came so soon behind what was said that it may not have arrived yet. The end of a
/// session is another matter: it says nothing about the words, and whoever was served through it had
/// better learn of it at once.
fn spoke_lately(words: &Direction, error: &io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionReset
        && words.moved_at.is_some_and(|at| at.elapsed() < CUT_GRACE)
}

/// Time for the last words of an end that was cut off to arrive, before a reset takes what is
/// still queued. Peers that know the length of an answer are done much earlier; for the others it
/// is how much later they learn of the break.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// The same while the words are read, since the last of them that was, and for words that are whole: the peer gets them
/// with their end, and closes when it likes. It costs an idle stream for that long.
pub(super) const WHOLE_GRACE: Duration = Duration::from_secs(30);

/// The same for words that are whole and still on this side: whoever reads them may pause, as anywhere else, but not for
/// ever.
pub(super) const PAUSE_GRACE: Duration = Duration::from_secs(600);
