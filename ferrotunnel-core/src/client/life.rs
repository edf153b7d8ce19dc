//! Connects, serves and comes back until the end.

use std::sync::Arc;
use std::time::Instant;

use ferrotunnel_protocol::frame::{GoAway, GoAwayCode, Open, ResetCode};
use tokio::sync::watch;

use super::backoff::Backoff;
use super::connect::{self, Link};
use super::local;
use super::state::State;
use super::target::Target;
use super::{Event, Retry};
use crate::driver::{End, Incoming};
use crate::error::ConnectError;
use crate::session::Session;
use crate::stream::Stream;

/// Connects, serves and comes back until the end.
pub(super) async fn run(state: Arc<State>) {
    let mut backoff = Backoff::default();
    let mut stop = state.stop.subscribe();
    loop {
        let error = live(&state, &mut backoff).await;
        state.leave();
        let give_up = !error.is_retryable() || state.retry == Retry::Never || *state.stop.borrow();
        if give_up {
            let error = if *state.stop.borrow() { ConnectError::Shutdown } else { error };
            return state.finish(error);
        }
        let pause = backoff.next(error.is_cheap());
        state.tell(Event::Disconnected { reason: error.to_string(), retry_in: pause });
        tokio::select! {
            () = stopped(&mut stop) => return state.finish(ConnectError::Shutdown),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the client.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One session, from dialling to its end.
async fn live(state: &Arc<State>, backoff: &mut Backoff) -> ConnectError {
    let mut stop = state.stop.subscribe();
    let connected = tokio::select! {
        biased;
        () = stopped(&mut stop) => return ConnectError::Shutdown,
        connected = state.connector.connect() => connected,
    };
    let Link { carrier, greeted } = match connected {
        Ok(link) => link,
        Err(error) => return error,
    };
    let since = Instant::now();
    let session_id = greeted.session_id;
    let (session, shared) = connect::session(greeted.machine);
    state.tell(Event::Connected { session_id });
    state.enter(&session, session_id);
    let mut farewell = None;
    let end = {
        let on_incoming = |incoming| handle(state, &session, &mut farewell, incoming);
        let mut driving = std::pin::pin!(carrier.drive(shared, greeted.input, on_incoming));
        tokio::select! {
            end = &mut driving => end,
            () = stopped(&mut stop) => {
                session.drain(GoAwayCode::ShuttingDown, "the client is shutting down");
                driving.await
            }
        }
    };
    backoff.lived(since.elapsed());
    farewell.unwrap_or_else(|| match end {
        End::Closed => ConnectError::Lost(std::io::ErrorKind::UnexpectedEof.into()),
        End::Carrier(error) => ConnectError::Lost(error),
        End::Violation(violation) => {
            ConnectError::Protocol { server: state.connector.server().to_owned(), violation }
        }
    })
}

fn handle(
    state: &Arc<State>,
    session: &Session,
    farewell: &mut Option<ConnectError>,
    incoming: Incoming,
) {
    match incoming {
        Incoming::Opened(stream, open) => serve(state, stream, &open),
        Incoming::Registered(number, answer) => {
            if let Some(error) = state.registered(number, *answer) {
                *farewell = Some(error);
                session.close(GoAwayCode::ShuttingDown, "the tunnel is lost");
            }
        }
        Incoming::GoAway(go_away) => {
            let GoAway { code, reason, .. } = *go_away;
            // The refusal of the last tunnel comes first and says more.
            farewell.get_or_insert(match code {
                GoAwayCode::Superseded => ConnectError::Superseded(reason),
                GoAwayCode::WrongToken => ConnectError::WrongToken,
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
