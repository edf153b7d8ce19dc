//! Connects, serves and comes back until the end, over each carrier.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ferrotunnel_protocol::frame::{GoAway, GoAwayCode, Open, ResetCode};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::backoff::Backoff;
use super::connect::{self, Link};
use super::direct;
use super::growth::{Growth, LOOK_EVERY};
use super::local;
use super::state::{Next, State};
use super::target::Target;
use super::{Connections, Event, Retry};
use crate::driver::Incoming;
use crate::error::ConnectError;
use crate::options::CarrierNumber;
use crate::session::Session;
use crate::shards::Shards;
use crate::stream::Stream;
use crate::tasks::Tasks;

/// Keeps as many carriers as are wanted until the end.
pub(super) async fn run(state: Arc<State>, connections: Connections, shards: Shards) {
    let mut wanted = state.carriers_wanted.subscribe();
    let mut running = BTreeSet::new();
    let (report, mut reports) = mpsc::channel(Connections::MOST.into());
    let mut growth = match connections {
        Connections::Auto => Some(Growth::new(Instant::now())),
        Connections::Exactly(_) => None,
    };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for number in 0..*wanted.borrow_and_update() as u8 {
            let number = CarrierNumber(number);
            // One that has stopped is not to begin anew while the others still finish.
            if !*state.stop.borrow() && running.insert(number) {
                let (state, report) = (Arc::clone(&state), report.clone());
                shards.spawn(&state.carriers.clone(), number.0.into(), async move {
                    let mut last_words = LastWords { report, number, ended: None };
                    last_words.ended = Some(carry(state, number).await);
                });
            }
        }
        if *state.stop.borrow() && running.is_empty() {
            return state.finish(ConnectError::Shutdown);
        }
        tokio::select! {
            // This end of the channel keeps it open.
            Some((number, ended)) = reports.recv() => {
                running.remove(&number);
                let error = match ended {
                    Ended::Unwanted | Ended::Stopped => continue,
                    Ended::ForGood(error) => error,
                };
                state.carriers.abort_all();
                return state.finish(error);
            }
            _ = wanted.changed() => {}
            _ = looks.tick(), if growth.is_some() => {
                let now = Instant::now();
                let seen = state.contention(now);
                if let Some(growth) = &mut growth {
                    let count = growth.look(now, &seen);
                    state.carriers_wanted.send_if_modified(|wanted| {
                        std::mem::replace(wanted, count) != count
                    });
                }
            }
        }
    }
}

/// Why a carrier is there no more.
enum Ended {
    /// Fewer are wanted.
    Unwanted,
    /// The client was told to stop.
    Stopped,
    /// Trying again would not help.
    ForGood(ConnectError),
}

/// Reports the end of a carrier, also when its task panics.
struct LastWords {
    report: mpsc::Sender<(CarrierNumber, Ended)>,
    number: CarrierNumber,
    ended: Option<Ended>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let panicked = || Ended::ForGood(ConnectError::System("a task of ours failed".to_owned()));
        let ended = self.ended.take().unwrap_or_else(panicked);
        // There is room for all of them; nobody listens once the client has ended.
        let _ = self.report.try_send((self.number, ended));
    }
}

/// One carrier: connects, serves and comes back until it is not wanted any more.
async fn carry(state: Arc<State>, number: CarrierNumber) -> Ended {
    let mut backoff = Backoff::default();
    loop {
        tokio::select! {
            biased;
            () = unwanted(&state, number) => return Ended::Unwanted,
            () = stopped(&state) => return Ended::Stopped,
            () = turn_to_dial(&state, number) => {}
        }
        let error = live(&state, number, &mut backoff).await;
        state.leave(number);
        if *state.stop.borrow() {
            return Ended::Stopped;
        }
        let is_last = *state.sessions.borrow() == 0;
        if (state.retry == Retry::Never && is_last) || !may_pass(&state, &error) {
            return Ended::ForGood(error);
        }
        let pause = backoff.next(error.is_cheap());
        if is_last {
            state.tell(Event::Disconnected { reason: reason(&error), retry_in: pause });
        } else {
            tracing::info!(
                carrier = number.0,
                error = reason(&error),
                "one of several carriers was lost"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(&state) => {}
            // Nobody else is left to wait for.
            () = alone(&state), if !is_last => {}
        }
    }
}

/// Whether trying again may help. Before there is a session anybody on the way can say that the
/// token is wrong, so a token that was right is not given up for that. A certificate that is not
/// taken may be one that is just being renewed.
fn may_pass(state: &State, error: &ConnectError) -> bool {
    let was_right = state.token_was_right.load(Ordering::Relaxed);
    let may_be_wrong = error.is_distrust() || error.is_about_a_certificate();
    error.is_retryable() || (was_right && may_be_wrong)
}

fn reason(error: &ConnectError) -> String {
    if error.is_distrust() {
        format!("{error}; it was right before, so somebody else may have answered")
    } else {
        error.to_string()
    }
}

async fn until<T>(value: &watch::Sender<T>, is_so: impl Fn(&T) -> bool) {
    // The sender lives as long as the client.
    let _ = value.subscribe().wait_for(is_so).await;
}

async fn stopped(state: &State) {
    until(&state.stop, |stop| *stop).await;
}

async fn unwanted(state: &State, number: CarrierNumber) {
    until(&state.carriers_wanted, |wanted| usize::from(number.0) >= *wanted).await;
}

/// The first carrier finds out whether there is a server, and says so; the others follow.
async fn turn_to_dial(state: &State, number: CarrierNumber) {
    until(&state.sessions, |sessions| number == CarrierNumber::FIRST || *sessions > 0).await;
}

/// There is no session.
async fn alone(state: &State) {
    until(&state.sessions, |sessions| *sessions == 0).await;
}

/// One session, from dialling to its end.
async fn live(state: &Arc<State>, number: CarrierNumber, backoff: &mut Backoff) -> ConnectError {
    let connected = tokio::select! {
        biased;
        () = stopped(state) => return ConnectError::Shutdown,
        connected = state.connector.connect() => connected,
    };
    let Link { carrier, greeted, peer } = match connected {
        Ok(link) => link,
        Err(error) => return error,
    };
    let since = Instant::now();
    state.token_was_right.store(true, Ordering::Relaxed);
    let session_id = greeted.session_id;
    let (session, shared) = connect::session(greeted.machine);
    state.enter(number, &session, session_id);
    let mut farewell = None;
    // They end with the session.
    let questions = Tasks::default();
    let end = {
        let on_incoming = |incoming| {
            handle(state, number, &session, &questions, &mut farewell, incoming);
        };
        let mut driving = std::pin::pin!(carrier.drive(shared, greeted.input, on_incoming));
        // To the end: a carrier that is closed here may be one that a visitor is just given.
        let mut keeping = std::pin::pin!(async {
            match number {
                CarrierNumber::FIRST => direct::keep(state, &session, session_id, peer).await,
                // One pool is enough for all.
                _ => std::future::pending().await,
            }
        });
        let goodbye = tokio::select! {
            end = &mut driving => Err(end),
            never = &mut keeping => match never {},
            () = stopped(state) => Ok((GoAwayCode::ShuttingDown, "the client is shutting down")),
            () = unwanted(state, number) => Ok((GoAwayCode::Drain, "fewer carriers will do")),
        };
        match goodbye {
            Err(end) => end,
            Ok((code, reason)) => {
                session.drain(code, reason);
                tokio::select! {
                    end = driving => end,
                    never = keeping => match never {},
                }
            }
        }
    };
    backoff.lived(since.elapsed());
    farewell.unwrap_or_else(|| state.connector.ended(end))
}

fn handle(
    state: &Arc<State>,
    number: CarrierNumber,
    session: &Session,
    questions: &Tasks,
    farewell: &mut Option<ConnectError>,
    incoming: Incoming,
) {
    match incoming {
        Incoming::Opened(stream, open) => serve(state, stream, &open),
        Incoming::Registered(tunnel, answer) => match state.answered(number, tunnel, *answer) {
            Next::GoOn => {}
            Next::AskAgain(pause) => {
                let state = Arc::clone(state);
                questions.spawn(async move {
                    tokio::time::sleep(pause).await;
                    state.ask_again(tunnel);
                });
            }
            Next::End(error) => {
                *farewell = Some(error);
                session.close(GoAwayCode::ShuttingDown, "the tunnel is lost");
            }
        },
        Incoming::GoAway(go_away) => {
            let GoAway { code, reason, .. } = *go_away;
            // The refusal of the last tunnel comes first and says more.
            farewell.get_or_insert(match code {
                GoAwayCode::Superseded if state.wants_nothing() => ConnectError::Superseded(reason),
                code => ConnectError::GoAway { code, reason },
            });
        }
        Incoming::Register(..) | Incoming::Unregister(_) => {}
    }
}

/// A visitor: to the local service and back.
fn serve(state: &Arc<State>, stream: Stream, open: &Open) {
    let Some(spec) = state.target(open.tunnel) else {
        return stream.reset(ResetCode::UnknownTunnel, "no such tunnel");
    };
    match &spec.target {
        Target::InProcess(acceptor) => acceptor.give(stream, open),
        _ => drop(state.streams.spawn(local::forward(stream, spec))),
    }
}
