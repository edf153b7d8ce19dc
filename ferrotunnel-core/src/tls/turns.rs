//! Whose turn it is to compute.
//!
//! The mathematics of one handshake takes as long as hundreds of frames do. A crowd of strangers, each with a task that is
//! ready at once, would stand between every frame and the thread that it waits for; so those tasks wait for each other
//! first, and only one for each processor for the thread. Sources have turns one after the other, so that one with
//! thousands of connections is no more in the way of the others than one with a few.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::source::Source;

/// Turns of all handshakes at one door. A cheap handle.
#[derive(Clone, Debug)]
pub struct HandshakeTurns(Arc<Mutex<Queue>>);

/// A turn to compute; the next one's when dropped. It is held while its task runs, and never while that waits for
/// its peer.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Mutex<Queue>>>);

#[derive(Debug)]
struct Queue {
    free: usize,
    /// Those of each source in the order in which they came; none is empty.
    waiting: HashMap<Source, VecDeque<oneshot::Sender<Turn>>>,
    /// Sources with somebody who waits, in turn.
    sources: VecDeque<Source>,
}

impl HandshakeTurns {
    /// As many at once as there are processors.
    pub fn of_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn new(at_once: usize) -> Self {
        let (waiting, sources) = (HashMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Queue { free: at_once, waiting, sources })))
    }

    /// Waits for one. Before it begins those go first whom new events concern.
    pub(super) async fn take(&self, from: IpAddr) -> Turn {
        let turn = match self.free_or_wait(Source::of(from)) {
            Ok(turn) => turn,
            // Whoever lets go of a queue hands it on first, so there is an answer.
            Err(wait) => wait.await.unwrap_or(Turn(None)),
        };
        tokio::task::yield_now().await;
        turn
    }

    fn free_or_wait(&self, from: Source) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut queue = self.0.lock();
        if queue.free > 0 {
            queue.free -= 1;
            return Ok(Turn(Some(Arc::clone(&self.0))));
        }
        let (give, wait) = oneshot::channel();
        let Queue { waiting, sources, .. } = &mut *queue;
        let of_source = waiting.entry(from).or_insert_with(|| {
            sources.push_back(from);
            VecDeque::new()
        });
        of_source.push_back(give);
        Err(wait)
    }

    /// Polls a handshake that computes whenever it is polled in turns only: it takes one each time that it is woken, and
    /// has none while it waits.
    pub async fn through<F: Future>(&self, from: IpAddr, handshake: F) -> F::Output {
        let mut handshake = pin!(handshake);
        loop {
            let turn = self.take(from).await;
            // Once: what it waits for wakes this task.
            let polled = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
            drop(turn);
            if let Poll::Ready(output) = polled {
                return output;
            }
            woken().await;
        }
    }
}

impl Queue {
    /// The next who waits: one of each source in turn.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let source = self.sources.pop_front()?;
        let of_source = self.waiting.get_mut(&source)?;
        let next = of_source.pop_front();
        if of_source.is_empty() {
            self.waiting.remove(&source);
        } else {
            self.sources.push_back(source);
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut queue) = self.0.take() else { return };
        loop {
            let mut locked = queue.lock();
            let Some(next) = locked.next() else {
                locked.free += 1;
                return;
            };
            drop(locked);
            match next.send(Turn(Some(queue))) {
                Ok(()) => return,
                // It has given up; the one behind it is next.
                Err(mut turn) => match turn.0.take() {
                    Some(back) => queue = back,
                    None => return,
                },
            }
        }
    }
}

/// Ready when the task is woken after this was polled first.
async fn woken() {
    let mut is_first = true;
    poll_fn(|_| match std::mem::take(&mut is_first) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::handshake;
    use super::super::tests::{configs, connect, soon};
    use super::*;
    use crate::loopback::sockets;

    const CROWD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn is_at_rest(turns: &HandshakeTurns) -> bool {
        let queue = turns.0.lock();
        queue.free == 1 && queue.waiting.is_empty() && queue.sources.is_empty()
    }

    #[tokio::test]
    async fn a_handshake_computes_when_it_is_its_turn_and_gives_it_back() {
        let (client, server) = configs();
        let turns = HandshakeTurns::new(1);
        let held = turns.take(CROWD).await;
        let (dialled, accepted) = sockets().await;
        let near = connect(&client, dialled);
        let far =
            handshake::accept((*server).clone(), accepted, BytesMut::new(), Some((&turns, OTHER)));
        let mut both = Box::pin(async { tokio::join!(near, far) });
        // Long enough for a whole handshake; it never is, while somebody else has the turn.
        for _ in 0..200 {
            tokio::select! {
                biased;
                _ = &mut both => unreachable!("it did not wait for its turn"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(held);
        let (near, far) = soon(both).await;
        assert!(near.is_ok() && far.is_ok());
        assert!(is_at_rest(&turns));
    }

    #[tokio::test]
    async fn who_comes_behind_a_crowd_of_one_source_is_next_but_one() {
        let turns = HandshakeTurns::new(1);
        let held = turns.take(CROWD).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut all = tokio::task::JoinSet::new();
        for from in [CROWD; 100].into_iter().chain([OTHER; 2]) {
            let (turns, order) = (turns.clone(), Arc::clone(&order));
            all.spawn(async move {
                let _turn = turns.take(from).await;
                order.lock().push(from);
            });
        }
        while turns.0.lock().waiting.values().map(VecDeque::len).sum::<usize>() < 102 {
            tokio::task::yield_now().await;
        }
        drop(held);
        soon(all.join_all()).await;
        assert_eq!(order.lock()[..5], [CROWD, OTHER, CROWD, OTHER, CROWD]);
        assert!(is_at_rest(&turns));
    }

    #[tokio::test]
    async fn who_gives_up_hands_its_turn_on() {
        let turns = HandshakeTurns::new(1);
        let held = turns.take(CROWD).await;
        let mut gone = Vec::new();
        for _ in 0..10_000 {
            gone.push(turns.free_or_wait(Source::of(CROWD)).unwrap_err());
        }
        let mut last = Box::pin(turns.take(OTHER));
        assert!(poll_fn(|cx| Poll::Ready(last.as_mut().poll(cx))).await.is_pending());
        // One that has its turn already, and the others that only wait.
        drop(held);
        gone.clear();
        drop(soon(last).await);
        assert!(is_at_rest(&turns));
    }

    #[tokio::test]
    async fn who_waits_for_its_peer_has_no_turn() {
        let turns = HandshakeTurns::new(1);
        let (go, wait) = oneshot::channel();
        let (began, mut begun) = tokio::sync::mpsc::channel(1);
        let slow = turns.through(CROWD, async move {
            began.send(()).await.unwrap();
            wait.await.unwrap()
        });
        let others = async {
            begun.recv().await.unwrap();
            for number in 0..3 {
                assert_eq!(turns.through(OTHER, async { number }).await, number);
            }
            go.send("done").unwrap();
        };
        let (said, ()) = soon(async { tokio::join!(slow, others) }).await;
        assert_eq!(said, "done");
        assert!(is_at_rest(&turns));
    }
}
