//! Keeps direct carriers waiting at the server, as many as the visitors of late have needed.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use ferrotunnel_common::{SessionId, StreamId};
use ferrotunnel_protocol::Frame;
use ferrotunnel_protocol::frame::Open;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backoff::Backoff;
use super::connect::{AnyCarrier, Link};
use super::local;
use super::roster::ServerIndex;
use super::state::State;
use crate::carrier::Carrier;
use crate::direct::{self, Call, FAR, Streams};
use crate::handshake::Greeted;
use crate::session::Session;
use crate::socket;
use crate::splice::{End, Prefixed};

/// Dials carriers to the session's server for as long as the session lives; never returns.
pub(super) async fn keep(
    state: &Arc<State>,
    session: &Session,
    session_id: SessionId,
    server: ServerIndex,
    reached: Option<SocketAddr>,
    carriers: Carriers,
) -> Infallible {
    let mut keeper = Keeper::new(session_id, server, reached, carriers);
    let mut changes = state.tunnels_changed.subscribe();
    loop {
        let now = Instant::now();
        changes.mark_unchanged();
        let streams =
            if session.is_draining() { Streams::Multiplexed } else { state.streams_wanted() };
        // The least, as everywhere: what a busy machine adds is not distance.
        let appetite = Appetite::of(streams, session.least_round_trip());
        keeper.wanted = keeper.wanted.clamp(appetite.least, appetite.most);
        // A burst, then one after each pause.
        let burst_began = now.checked_sub(appetite.pause * appetite.burst).unwrap_or(now);
        keeper.dial_after = keeper.dial_after.max(burst_began);
        while keeper.dial_after <= now && keeper.carriers.len() < keeper.wanted {
            keeper.dial(state, session);
            keeper.dial_after += appetite.pause;
        }
        let is_short = keeper.carriers.len() < keeper.wanted;
        tokio::select! {
            Some(ended) = keeper.carriers.next() => keeper.ended(ended),
            () = sleep_until(keeper.dial_after), if is_short => {}
            // The sender lives as long as the client.
            _ = changes.changed() => {}
            () = sleep(LOOK_AGAIN), if session.least_round_trip().is_none() => {}
        }
    }
}

/// Carriers that are dialled or wait. A cheap handle; they end with the last one.
#[derive(Clone, Default)]
pub(super) struct Carriers {
    tasks: Arc<Mutex<JoinSet<Ended>>>,
    /// Those that wait.
    waiting: Arc<AtomicUsize>,
}

impl Carriers {
    fn len(&self) -> usize {
        self.tasks.lock().len()
    }

    /// Whether there are some for a visitor.
    pub(super) fn are_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// The next that has ended; `None` while there are none.
    async fn next(&self) -> Option<Ended> {
        let ended = poll_fn(|cx| self.tasks.lock().poll_join_next(cx)).await;
        ended.map(|ended| ended.unwrap_or(Ended::Failed))
    }

    /// Their session is over. One that waits may have been given a visitor in its last moments, who is to be served all the
    /// same: the server closes those that it does not need, and what it says over one connection may come later than what it
    /// says over another.
    pub(super) async fn linger(self) {
        let all_end = async { while self.are_waiting() && self.next().await.is_some() {} };
        let _ = timeout(LINGER, all_end).await;
    }
}

struct Keeper {
    session_id: SessionId,
    server: ServerIndex,
    /// Where the session is: a name may lead to several servers.
    reached: Option<SocketAddr>,
    carriers: Carriers,
    wanted: usize,
    backoff: Backoff,
    /// Until then nothing is dialled, since something has failed.
    rests_until: Instant,
    /// Moves on by a pause with each dial; how far it lies in the past is how many are still free.
    dial_after: Instant,
}

/// What became of a carrier.
#[derive(Clone, Copy)]
enum Ended {
    /// The server has called it.
    Used,
    /// The server has enough.
    Closed,
    Failed,
}

/// How many carriers to keep.
struct Appetite {
    least: usize,
    most: usize,
    /// Dials that need no pause, after a rest.
    burst: u32,
    /// Between two dials, in the long run.
    pause: Duration,
}

impl Appetite {
    fn of(streams: Streams, round_trip: Option<Duration>) -> Self {
        match streams {
            Streams::Multiplexed => Self { least: 0, most: 0, burst: 0, pause: Duration::ZERO },
            Streams::Direct => {
                Self { least: 4, most: direct::MOST_WAITING / 2, burst: 0, pause: Duration::ZERO }
            }
            // Where a loss would hold up every stream of one carrier, most visitors get their own.
            Streams::Auto if round_trip.is_some_and(|time| time >= FAR) => {
                Self { least: 8, most: 16, burst: 16, pause: Duration::from_millis(20) }
            }
            // A dial is quick here, and visitors who come together wait for theirs: no more than the
            // server lets wait. It counts the carriers that come, and not those on their way.
            Streams::Auto => Self {
                least: 1,
                most: 8,
                burst: direct::QUEUE_BURST + 8,
                pause: direct::QUEUE_PAUSE,
            },
        }
    }
}

impl Keeper {
    fn new(
        session_id: SessionId,
        server: ServerIndex,
        reached: Option<SocketAddr>,
        carriers: Carriers,
    ) -> Self {
        let now = Instant::now();
        Self {
            session_id,
            server,
            reached,
            carriers,
            wanted: 0,
            backoff: Backoff::default(),
            rests_until: now,
            // Long enough ago for a first burst.
            dial_after: now.checked_sub(PAUSE * 60).unwrap_or(now),
        }
    }

    fn dial(&mut self, state: &Arc<State>, session: &Session) {
        let (state, waiting) = (Arc::clone(state), Arc::clone(&self.carriers.waiting));
        let (session_id, server, reached) = (self.session_id, self.server, self.reached);
        let session = session.clone();
        self.carriers.tasks.lock().spawn(async move {
            let link = state.connector.connect_direct(server, session_id, reached).await;
            let Link { carrier, greeted, .. } = match link {
                Ok(link) => link,
                Err(error) => {
                    tracing::debug!(%error, "no direct carrier");
                    return Ended::Failed;
                }
            };
            // It is a session only up to here.
            let Greeted { machine, input, heartbeat, .. } = greeted;
            drop(machine);
            match carrier {
                AnyCarrier::Tcp(carrier) => {
                    // The server could take the end of this process for that of a visitor's answer.
                    socket::abort_on_close(&carrier);
                    wait(&session, session_id, carrier, input, heartbeat, &state, &waiting).await
                }
                AnyCarrier::Tls(carrier) => {
                    wait(&session, session_id, carrier, input, heartbeat, &state, &waiting).await
                }
                #[cfg(test)]
                AnyCarrier::Simulated(carrier) => {
                    wait(&session, session_id, carrier, input, heartbeat, &state, &waiting).await
                }
            }
        });
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Used => {
                self.backoff = Backoff::default();
                if !self.carriers.are_waiting() {
                    // The next visitor would have found none.
                    self.wanted = self.wanted.saturating_mul(2).max(1);
                }
            }
            Ended::Closed => {
                self.wanted /= 2;
                self.dial_after = self.dial_after.max(Instant::now() + PAUSE);
            }
            // Those that were dialled at the same time fail for the same reason.
            Ended::Failed if self.rests_until > Instant::now() => {}
            Ended::Failed => {
                self.rests_until = Instant::now() + PAUSE.max(self.backoff.next(false));
                self.dial_after = self.dial_after.max(self.rests_until);
            }
        }
    }
}

async fn wait<C: Carrier>(
    session: &Session,
    session_id: SessionId,
    mut carrier: C,
    mut input: BytesMut,
    heartbeat: Duration,
    state: &Arc<State>,
    waiting: &AtomicUsize,
) -> Ended {
    waiting.fetch_add(1, Ordering::Relaxed);
    let waited = direct::wait(&mut carrier, &mut input, heartbeat).await;
    waiting.fetch_sub(1, Ordering::Relaxed);
    match waited {
        Ok(Some(call)) => {
            if let Some(socket) = carrier.socket() {
                socket::tune_direct(socket);
            }
            match call {
                Call::Visitor(open) => {
                    let carrier = Prefixed::new(input.freeze(), carrier.into_end());
                    serve(state, session_id, &open, carrier);
                }
                Call::Stream(stream) => {
                    if let Err(error) = hand_over(session, carrier, input, stream).await {
                        tracing::debug!(%stream, %error, "direct carrier broke that a stream was to go on over");
                    }
                }
            }
            Ended::Used
        }
        Ok(None) => Ended::Closed,
        Err(error) => {
            tracing::debug!(%error, "direct carrier broke");
            Ended::Failed
        }
    }
}

/// Agrees that a stream goes on over the carrier, and gives that to who has the stream. One that has ended, or may not move, is
/// refused by the end of the carrier.
async fn hand_over<C: Carrier>(
    session: &Session,
    mut carrier: C,
    input: BytesMut,
    stream: StreamId,
) -> io::Result<()> {
    let Some(give) = session.expect_onward(stream) else { return Ok(()) };
    carrier.write_all(&Frame::Move(stream).encode()).await?;
    carrier.flush().await?;
    // Whoever had the stream may have gone.
    let _ = give.send(direct::onward(carrier, input));
    Ok(())
}

fn serve(state: &Arc<State>, session: SessionId, open: &Open, mut carrier: impl End + 'static) {
    match state.target(open.tunnel) {
        Some((spec, of)) => {
            let kept = state.opened(&spec, open);
            let tally = state.book.tally(&of, session, open);
            let visit = state.visit(open, of);
            let forwarding = local::forward_direct(carrier, spec, visit, tally, state.bulk.clone());
            match kept {
                None => drop(state.streams.spawn(forwarding)),
                Some(kept) => drop(state.streams.spawn(async move {
                    forwarding.await;
                    drop(kept);
                })),
            }
        }
        None => carrier.abort(),
    }
}

/// Until it is known how far away the server is.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long carriers wait when their session is over: a server that is there has closed them by then, even if that is lost on the
/// way once or twice.
const LINGER: Duration = Duration::from_secs(5);

/// After a failure. The visitors travel over the session meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_carriers_are_kept_where_the_server_is_far_away() {
        let (near, far) = (Some(FAR - Duration::from_micros(1)), Some(FAR));
        let kept = |streams, round_trip| {
            let appetite = Appetite::of(streams, round_trip);
            (appetite.least, appetite.most)
        };
        assert_eq!((kept(Streams::Auto, None), kept(Streams::Auto, near)), ((1, 8), (1, 8)));
        assert_eq!(kept(Streams::Auto, far), (8, 16));
        assert_eq!((kept(Streams::Direct, near), kept(Streams::Direct, far)), ((4, 32), (4, 32)));
        assert_eq!(kept(Streams::Multiplexed, far), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn dials_that_fail_come_less_and_less_often() {
        let mut keeper = Keeper::new(SessionId(1), ServerIndex(0), None, Carriers::default());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let began = Instant::now();
            sleep_until(keeper.dial_after).await;
            pauses.push(began.elapsed());
            keeper.dial_after = Instant::now() + direct::QUEUE_PAUSE;
            // Together with one that was dialled before.
            keeper.ended(Ended::Failed);
            keeper.ended(Ended::Failed);
        }
        assert!(pauses[1..].iter().all(|pause| *pause >= PAUSE), "{pauses:?}");
        assert!(pauses[7] > 4 * PAUSE, "{pauses:?}");
    }
}
