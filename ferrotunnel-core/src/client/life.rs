//! Connects, serves and comes back until the end.

use std::sync::Arc;
use std::time::Instant;

use ferrotunnel_protocol::frame::{GoAway, GoAwayCode, Open, ResetCode};
use tokio::sync::watch;

use super::backoff::Backoff;
use super::connect::{self, Link};
use super::direct;
use super::local;
use super::state::{Next, State};
use super::target::Target;
use super::{Event, Retry};
use crate::driver::Incoming;
use crate::error::ConnectError;
use crate::session::Session;
use crate::stream::Stream;
use crate::tasks::Tasks;

/// Connects, serves and comes back until the end.
pub(super) async fn run(state: Arc<State>) {
    let mut past = Past::default();
    let mut stop = state.stop.subscribe();
    loop {
        let error = live(&state, &mut past).await;
        state.leave();
        if *state.stop.borrow() {
            return state.finish(ConnectError::Shutdown);
        }
        if state.retry == Retry::Never || !past.may_pass(&error) {
            return state.finish(error);
        }
        let pause = past.backoff.next(error.is_cheap());
        state.tell(Event::Disconnected { reason: reason(&error), retry_in: pause });
        tokio::select! {
            () = stopped(&mut stop) => return state.finish(ConnectError::Shutdown),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What a client has been through.
#[derive(Default)]
struct Past {
    backoff: Backoff,
    /// There was a session: the server took this token, and proved that it knows it.
    token_was_right: bool,
}

impl Past {
    /// Whether trying again may help. Before there is a session anybody on the way can say that the
    /// token is wrong, so a token that was right is not given up for that.
    fn may_pass(&self, error: &ConnectError) -> bool {
        error.is_retryable() || (self.token_was_right && error.is_distrust())
    }
}

fn reason(error: &ConnectError) -> String {
    if error.is_distrust() {
        format!("{error}; it was right before, so somebody else may have answered")
    } else {
        error.to_string()
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the client.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One session, from dialling to its end.
async fn live(state: &Arc<State>, past: &mut Past) -> ConnectError {
    let mut stop = state.stop.subscribe();
    let connected = tokio::select! {
        biased;
        () = stopped(&mut stop) => return ConnectError::Shutdown,
        connected = state.connector.connect() => connected,
    };
    let Link { carrier, greeted, peer } = match connected {
        Ok(link) => link,
        Err(error) => return error,
    };
    let since = Instant::now();
    past.token_was_right = true;
    let session_id = greeted.session_id;
    let (session, shared) = connect::session(greeted.machine);
    state.tell(Event::Connected { session_id });
    state.enter(&session, session_id);
    let mut farewell = None;
    // They end with the session.
    let questions = Tasks::default();
    let end = {
        let on_incoming = |incoming| {
            handle(state, &session, &questions, &mut farewell, incoming);
        };
        let mut driving = std::pin::pin!(carrier.drive(shared, greeted.input, on_incoming));
        // To the end: a carrier that is closed here may be one that a visitor is just given.
        let mut keeping = std::pin::pin!(direct::keep(state, &session, session_id, peer));
        tokio::select! {
            end = &mut driving => end,
            never = &mut keeping => match never {},
            () = stopped(&mut stop) => {
                session.drain(GoAwayCode::ShuttingDown, "the client is shutting down");
                tokio::select! {
                    end = driving => end,
                    never = keeping => match never {},
                }
            }
        }
    };
    past.backoff.lived(since.elapsed());
    farewell.unwrap_or_else(|| state.connector.ended(end))
}

fn handle(
    state: &Arc<State>,
    session: &Session,
    questions: &Tasks,
    farewell: &mut Option<ConnectError>,
    incoming: Incoming,
) {
    match incoming {
        Incoming::Opened(stream, open) => serve(state, stream, &open),
        Incoming::Registered(number, answer) => match state.answered(number, *answer) {
            Next::GoOn => {}
            Next::AskAgain(pause) => {
                let (state, session) = (Arc::clone(state), session.clone());
                questions.spawn(async move {
                    tokio::time::sleep(pause).await;
                    state.ask_again(&session, number);
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
