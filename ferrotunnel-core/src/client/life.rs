//! Connects, serves and comes back until the end, over each carrier.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ferrotunnel_common::SessionId;
use ferrotunnel_protocol::frame::{GoAway, GoAwayCode, Open, Registered, ResetCode};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::backoff::Backoff;
use super::connect::{self, Link};
use super::direct;
use super::growth::{Growth, LOOK_EVERY};
use super::local;
use super::state::{Next, State};
use super::target::Target;
use super::{Connections, Event, Retry};
use crate::driver::{End, Incoming};
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
            state.parting.finished().await;
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
                if matches!(error, ConnectError::GoAway { .. }) {
                    // The server lets what is open finish.
                    state.parting.finished().await;
                }
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
        let error = match live(&state, number, &mut backoff).await {
            Over::Unwanted => return Ended::Unwanted,
            Over::Failed(error) => error,
        };
        let pause = backoff.next(error.is_cheap());
        let may_pass = may_pass(&state, &error);
        let is_told = may_pass && state.retry == Retry::Forever && !*state.stop.borrow();
        let told = is_told.then(|| Event::Disconnected { reason: reason(&error), retry_in: pause });
        let nobody_left = state.leave(number, told);
        if *state.stop.borrow() {
            return Ended::Stopped;
        }
        if (state.retry == Retry::Never && nobody_left) || !may_pass {
            return Ended::ForGood(error);
        }
        if !nobody_left {
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
            () = alone(&state), if !nobody_left => {}
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

/// How a session's time with its carrier number was over.
enum Over {
    /// Fewer carriers are wanted.
    Unwanted,
    Failed(ConnectError),
}

/// One session, from dialling until it is over, or takes nothing new any more: then it finishes what
/// is open by itself, and the next one need not wait.
async fn live(state: &Arc<State>, number: CarrierNumber, backoff: &mut Backoff) -> Over {
    let connected = tokio::select! {
        biased;
        () = stopped(state) => return Over::Failed(ConnectError::Shutdown),
        () = unwanted(state, number) => return Over::Unwanted,
        // A name may lead to several servers, and all carriers are to lead to one.
        connected = state.connector.connect(state.reached()) => connected,
    };
    let Link { carrier, greeted, peer } = match connected {
        Ok(link) => link,
        Err(error) => return Over::Failed(error),
    };
    let since = Instant::now();
    state.token_was_right.store(true, Ordering::Relaxed);
    let (session, shared) = connect::session(greeted.machine);
    let talk = Arc::new(Talk {
        state: Arc::clone(state),
        number,
        session,
        session_id: greeted.session_id,
        questions: Tasks::default(),
        farewell: Mutex::default(),
        drains: Notify::new(),
    });
    state.enter(number, &talk.session, talk.session_id, peer);
    let on_incoming = {
        let talk = Arc::clone(&talk);
        move |incoming| talk.handle(incoming)
    };
    let mut driving = Box::pin(carrier.drive(shared, greeted.input, on_incoming));
    // To the end: a carrier that is closed here may be one that a visitor is just given.
    let mut keeping = {
        let (state, talk) = (Arc::clone(state), Arc::clone(&talk));
        Box::pin(async move {
            match number {
                CarrierNumber::FIRST => {
                    direct::keep(&state, &talk.session, talk.session_id, peer).await
                }
                // One pool is enough for all.
                _ => std::future::pending().await,
            }
        })
    };
    let (over, is_open) = tokio::select! {
        end = &mut driving => (Over::Failed(talk.why(end)), false),
        never = &mut keeping => match never {},
        () = stopped(state) => {
            talk.session.drain(GoAwayCode::ShuttingDown, "the client is shutting down");
            tokio::select! {
                end = &mut driving => (Over::Failed(talk.why(end)), false),
                never = &mut keeping => match never {},
            }
        }
        () = unwanted(state, number) => {
            talk.session.drain(GoAwayCode::Drain, "fewer carriers will do");
            state.leave(number, None);
            (Over::Unwanted, true)
        }
        // It had a reason, and that is what the closed carrier will be taken for.
        () = talk.drains.notified() => (Over::Failed(talk.why(End::Closed)), true),
    };
    backoff.lived(since.elapsed());
    if is_open {
        // Nobody is asked for anything any more; the visitors finish.
        talk.questions.abort_all();
        state.tunnels_changed.send_replace(());
        state.parting.spawn(async move {
            tokio::select! {
                _ = driving => {}
                never = keeping => match never {},
            }
        });
    }
    over
}

/// What a session needs to answer the server.
struct Talk {
    state: Arc<State>,
    number: CarrierNumber,
    session: Session,
    session_id: SessionId,
    /// Tunnels to be asked for again; they end with the session.
    questions: Tasks,
    /// Why the server ended it.
    farewell: Mutex<Option<ConnectError>>,
    /// The server takes nothing new.
    drains: Notify,
}

impl Talk {
    fn handle(&self, incoming: Incoming) {
        match incoming {
            Incoming::Opened(stream, open) => serve(&self.state, stream, &open),
            Incoming::Registered(tunnel, answer) => self.registered(tunnel, *answer),
            Incoming::GoAway(go_away) => {
                let GoAway { code, reason, .. } = *go_away;
                // The refusal of the last tunnel comes first and says more.
                self.farewell.lock().get_or_insert(match code {
                    GoAwayCode::Superseded if self.state.wants_nothing() => {
                        ConnectError::Superseded(reason)
                    }
                    code => ConnectError::GoAway { code, reason },
                });
                if !code.is_immediate() {
                    self.drains.notify_one();
                }
            }
            Incoming::Register(..) | Incoming::Unregister(_) => {}
        }
    }

    fn registered(&self, tunnel: u32, answer: Registered) {
        match self.state.answered(self.number, self.session_id, tunnel, answer) {
            Next::GoOn => {}
            Next::AskAgain(pause) => {
                let (state, number) = (Arc::clone(&self.state), self.number);
                self.questions.spawn(async move {
                    tokio::time::sleep(pause).await;
                    state.ask_again(number, tunnel);
                });
            }
            Next::End(error) => {
                *self.farewell.lock() = Some(error);
                self.session.close(GoAwayCode::ShuttingDown, "the tunnel is lost");
            }
        }
    }

    /// Why it is over: what the server said, or what became of the carrier.
    fn why(&self, end: End) -> ConnectError {
        self.farewell.lock().take().unwrap_or_else(|| self.state.connector.ended(end))
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
