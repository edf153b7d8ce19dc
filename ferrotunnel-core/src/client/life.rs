//! Connects, serves and comes back until the end, over each carrier.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_common::SessionId;
use ferrotunnel_protocol::Side;
use ferrotunnel_protocol::frame::{GoAway, GoAwayCode, Open, Registered, ResetCode};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::backoff::Backoff;
use super::connect::{self, Link};
use super::counts::{Entered, Farewell, Line, LocalFailure};
use super::direct;
use super::growth::{Growth, LOOK_EVERY};
use super::local;
use super::roster::{CarrierId, Fault, ServerIndex, ServerMode, Turn};
use super::state::{Next, State};
use super::target::Target;
use super::vigil;
use super::{Connections, Event, Retry};
use crate::clock;
use crate::driver::{End, Incoming};
use crate::error::ConnectError;
use crate::seat::Seat;
use crate::session::Session;
use crate::shards::Shards;
use crate::stream::Stream;
use crate::tasks::Tasks;

/// Keeps as many carriers as are wanted until the end, and an eye on the machine.
pub(super) async fn run(state: Arc<State>, connections: Connections, shards: Shards) {
    tokio::select! {
        () = keep_carriers(&state, connections, &shards) => {}
        never = vigil::keep(&state) => match never {},
    }
}

async fn keep_carriers(state: &Arc<State>, connections: Connections, shards: &Shards) {
    let mut roster = state.roster.subscribe();
    let servers: Vec<ServerIndex> = roster.borrow().servers().collect();
    let mut running = BTreeSet::new();
    let (report, mut reports) = mpsc::channel(servers.len() * usize::from(Connections::MOST));
    let mut growth: Vec<(ServerIndex, Growth)> = match connections {
        Connections::Auto => {
            servers.iter().map(|server| (*server, Growth::new(clock::now()))).collect()
        }
        Connections::Exactly(_) => Vec::new(),
    };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wanted: Vec<CarrierId> = roster.borrow_and_update().wanted().collect();
        for id in wanted {
            // One that has stopped is not to begin anew while the others still finish.
            if !*state.stop.borrow() && running.insert(id) {
                let (of_carrier, report) = (Arc::clone(state), report.clone());
                let turn = id.server.place() + usize::from(id.number.0);
                shards.spawn(&state.carriers.clone(), turn, async move {
                    let mut last_words = LastWords { report, id, ended: None };
                    last_words.ended = Some(carry(of_carrier, id).await);
                });
            }
        }
        if *state.stop.borrow() && running.is_empty() {
            state.parting.finished().await;
            return state.finish(ConnectError::Shutdown);
        }
        tokio::select! {
            // This end of the channel keeps it open.
            Some((id, ended)) = reports.recv() => {
                running.remove(&id);
                let error = match ended {
                    Ended::Unwanted | Ended::Stopped => {
                        if id.is_first() {
                            state.roster.send_if_modified(|roster| roster.forget(id.server));
                        }
                        continue;
                    }
                    Ended::ForGood(error) => error,
                };
                state.carriers.abort_all();
                if !matches!(error, ConnectError::Superseded(_)) {
                    // Servers let what is open finish, whatever became of the attempts to replace them.
                    state.parting.finished().await;
                }
                return state.finish(error);
            }
            _ = roster.changed() => {}
            _ = looks.tick(), if !growth.is_empty() => {
                let now = clock::now();
                for (server, growth) in &mut growth {
                    let count = growth.look(now, &state.contention(*server, now));
                    state.roster.send_if_modified(|roster| roster.set_carriers(*server, count));
                }
            }
        }
    }
}

/// Why a carrier is there no more.
enum Ended {
    /// Fewer are wanted, or another server is used.
    Unwanted,
    /// The client was told to stop.
    Stopped,
    /// Trying again would not help.
    ForGood(ConnectError),
}

/// Reports the end of a carrier, also when its task panics.
struct LastWords {
    report: mpsc::Sender<(CarrierId, Ended)>,
    id: CarrierId,
    ended: Option<Ended>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let panicked = || Ended::ForGood(ConnectError::System("a task of ours failed".to_owned()));
        let ended = self.ended.take().unwrap_or_else(panicked);
        // There is room for all of them; nobody listens once the client has ended.
        let _ = self.report.try_send((self.id, ended));
    }
}

/// One carrier: connects, serves and comes back until it is not wanted any more.
async fn carry(state: Arc<State>, id: CarrierId) -> Ended {
    let mut backoff = Backoff::default();
    let mut alarms = state.alarms.subscribe();
    loop {
        tokio::select! {
            biased;
            () = unwanted(&state, id) => return Ended::Unwanted,
            () = stopped(&state) => return Ended::Stopped,
            () = turn_to_dial(&state, id) => {}
        }
        let (error, had_session) = match live(&state, id, &mut backoff).await {
            Over::Unwanted => return Ended::Unwanted,
            Over::Unreached(error) => (error, false),
            Over::Lost(error) => (error, true),
        };
        if alarms.has_changed().unwrap_or(false) {
            // Whatever failed, failed by a way that is gone.
            alarms.mark_unchanged();
            backoff = Backoff::default();
        }
        let pause = backoff.next(error.is_cheap() && !is_served(&state));
        let has_another_chance =
            had_session && pause.is_zero() && state.retry == Retry::Forever && !error.is_farewell();
        judge(&state, id, &error, has_another_chance);
        let may_pass = may_pass(&state, &error);
        let is_told = may_pass && state.retry == Retry::Forever && !*state.stop.borrow();
        if !matches!(error, ConnectError::Shutdown) {
            if !had_session {
                state.book.failed(&error);
            }
            state.book.left(id, had_session, reason(&state, id.server, &error));
        }
        let told = is_told.then(|| Event::Disconnected {
            server: state.connector.server(id.server).to_owned(),
            reason: reason(&state, id.server, &error),
            retry_in: pause,
        });
        state.leave(id, told);
        if *state.stop.borrow() {
            return Ended::Stopped;
        }
        if (state.retry == Retry::Never && state.roster.borrow().is_hopeless()) || !may_pass {
            return Ended::ForGood(error);
        }
        let others = state.roster.borrow().sessions_with(id.server);
        if others > 0 {
            let (carrier, error) = (id.number.0, reason(&state, id.server, &error));
            tracing::info!(carrier, error, "one of several carriers was lost");
        } else {
            let server = state.connector.server(id.server);
            tracing::debug!(server, error = reason(&state, id.server, &error), "no session");
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped(&state) => {}
            // Nobody else is left to wait for.
            () = alone(&state, id.server), if others > 0 => {}
            // Who stood in for it is gone, and visitors are served by nobody.
            () = unserved(&state), if is_served(&state) => backoff = Backoff::default(),
            // The sender lives as long as the client.
            _ = alarms.changed() => backoff = Backoff::default(),
        }
    }
}

/// What a failure means for the server: whether those after it are to be tried.
fn judge(state: &State, id: CarrierId, error: &ConnectError, has_another_chance: bool) {
    let fault = if is_about_trust(error) { Fault::Distrust } else { Fault::Away };
    state.roster.send_if_modified(|roster| match () {
        // The others find out that it is there.
        () if !id.is_first() => false,
        () if has_another_chance => roster.forget(id.server),
        () => roster.failed(id.server, fault),
    });
}

/// Whether visitors are served while this server is away.
fn is_served(state: &State) -> bool {
    let roster = state.roster.borrow();
    roster.mode() == ServerMode::Failover && roster.sessions() > 0
}

/// Whether one side did not take the other for the right one.
fn is_about_trust(error: &ConnectError) -> bool {
    error.is_distrust() || error.is_about_a_certificate()
}

/// Whether trying again may help. Before there is a session anybody on the way can say that the
/// token is wrong, so a token that was right is not given up for that, and neither is one that another
/// server may take. A certificate that is not taken may be one that is just being renewed.
fn may_pass(state: &State, error: &ConnectError) -> bool {
    if error.is_retryable() {
        return true;
    }
    if is_about_trust(error) {
        let roster = state.roster.borrow();
        return roster.token_was_right() || !roster.is_distrusted();
    }
    false
}

fn reason(state: &State, server: ServerIndex, error: &ConnectError) -> String {
    if error.is_distrust() && state.roster.borrow().took_token(server) {
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

async fn unwanted(state: &State, id: CarrierId) {
    until(&state.roster, |roster| !roster.is_wanted(id)).await;
}

async fn turn_to_dial(state: &State, id: CarrierId) {
    let mut roster = state.roster.subscribe();
    loop {
        let turn = roster.borrow_and_update().turn(id, clock::now());
        let at = match turn {
            Turn::Now => break,
            Turn::At(at) => Some(at),
            Turn::Later => None,
        };
        tokio::select! {
            // The sender lives as long as the client.
            _ = roster.changed() => {}
            () = tokio::time::sleep_until(at.unwrap_or_else(clock::now).into()), if at.is_some() => {}
        }
    }
    if id.is_first() {
        state.roster.send_if_modified(|roster| roster.dialled(id.server, clock::now()));
    }
}

/// There is no session with the server.
async fn alone(state: &State, server: ServerIndex) {
    until(&state.roster, |roster| roster.sessions_with(server) == 0).await;
}

/// There is no session with any server.
async fn unserved(state: &State) {
    until(&state.roster, |roster| roster.sessions() == 0).await;
}

/// Asks for a sign of life whenever the way to the server may be gone; never returns.
async fn ask_when_alarmed(state: &State, session: &Session) -> Infallible {
    let mut alarms = state.alarms.subscribe();
    loop {
        // The sender lives as long as the client.
        let _ = alarms.changed().await;
        session.probe(clock::now(), SIGN_OF_LIFE);
    }
}

/// How a session's time with its carrier was over.
enum Over {
    /// Fewer carriers are wanted, or another server is used.
    Unwanted,
    /// There was none.
    Unreached(ConnectError),
    Lost(ConnectError),
}

/// One session, from dialling until it is over, or takes nothing new any more: then it finishes what
/// is open by itself, and the next one need not wait.
async fn live(state: &Arc<State>, id: CarrierId, backoff: &mut Backoff) -> Over {
    // A name may lead to several servers, and all carriers are to lead to one.
    let reached = state.reached(id.server);
    let connected = loop {
        let mut alarms = state.alarms.subscribe();
        tokio::select! {
            biased;
            () = stopped(state) => return Over::Unreached(ConnectError::Shutdown),
            () = unwanted(state, id) => return Over::Unwanted,
            connected = state.connector.connect(id.server, reached) => break connected,
            // What is under way may be so by a network that is gone.
            _ = alarms.changed() => {}
        }
    };
    let Link { carrier, greeted, peer } = match connected {
        Ok(link) => link,
        Err(error) => return Over::Unreached(error),
    };
    let since = clock::now();
    let (session, shared) = connect::session(greeted.machine);
    let (session_id, farewell) = (greeted.session_id, Farewell::default());
    let line = Line {
        carrier: id,
        session: session.clone(),
        session_id,
        peer,
        software: greeted.software,
        since,
        farewell: Arc::clone(&farewell),
    };
    let talk = Arc::new(Talk {
        state: Arc::clone(state),
        id,
        session,
        session_id,
        _entered: state.book.enter(line),
        questions: Tasks::default(),
        farewell,
        drains: Notify::new(),
    });
    state.enter(id, &talk.session, talk.session_id, peer);
    let on_incoming = {
        let talk = Arc::clone(&talk);
        move |incoming| talk.handle(incoming)
    };
    let mut driving = Box::pin(carrier.drive(shared, greeted.input, on_incoming));
    // To the end, and a moment longer: a carrier that is closed here may be one that a visitor is just given.
    let direct_carriers = direct::Carriers::default();
    let mut keeping = {
        let (state, talk) = (Arc::clone(state), Arc::clone(&talk));
        let carriers = direct_carriers.clone();
        Box::pin(async move {
            let direct = async {
                if !id.is_first() {
                    // One pool is enough for all.
                    return std::future::pending().await;
                }
                let (session, session_id) = (&talk.session, talk.session_id);
                direct::keep(&state, session, session_id, id.server, peer, carriers).await
            };
            tokio::select! {
                never = direct => never,
                never = ask_when_alarmed(&state, &talk.session) => never,
            }
        })
    };
    let (over, is_open) = tokio::select! {
        end = &mut driving => (Over::Lost(talk.why(end)), false),
        never = &mut keeping => match never {},
        () = stopped(state) => {
            talk.session.drain(GoAwayCode::ShuttingDown, "the client is shutting down");
            tokio::select! {
                end = &mut driving => (Over::Lost(talk.why(end)), false),
                never = &mut keeping => match never {},
            }
        }
        () = unwanted(state, id) => {
            if talk.is_judged() {
                // Its end says why, and that another server has a session, too, is no reason to forget it.
                tokio::select! {
                    end = &mut driving => (Over::Lost(talk.why(end)), false),
                    never = &mut keeping => match never {},
                }
            } else {
                talk.session.drain(GoAwayCode::Drain, "the client has other carriers");
                state.leave(id, None);
                (Over::Unwanted, true)
            }
        }
        // It had a reason, and that is what the closed carrier will be taken for.
        () = talk.drains.notified() => (Over::Lost(talk.why(End::Closed)), true),
    };
    backoff.lived(clock::now() - since);
    if is_open {
        // Nobody is asked for anything any more; the visitors finish.
        talk.questions.abort_all();
        state.tunnels_changed.send_replace(());
        state.parting.spawn(async move {
            tokio::select! {
                _ = driving => {}
                never = keeping => match never {},
            }
            direct_carriers.linger().await;
        });
    } else if direct_carriers.are_waiting() {
        state.parting.spawn(direct_carriers.linger());
    }
    over
}

/// What a session needs to answer the server.
struct Talk {
    state: Arc<State>,
    id: CarrierId,
    session: Session,
    session_id: SessionId,
    /// It is read of for as long.
    _entered: Entered,
    /// Tunnels to be asked for again; they end with the session.
    questions: Tasks,
    /// Why the server ended it.
    farewell: Farewell,
    /// The server takes nothing new.
    drains: Notify,
}

impl Talk {
    fn handle(&self, incoming: Incoming) {
        match incoming {
            Incoming::Opened(stream, open) => serve(&self.state, self.session_id, stream, &open),
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
        match self.state.answered(self.id, self.session_id, tunnel, answer) {
            Next::GoOn => {}
            Next::AskAgain(pause) => {
                let (state, id) = (Arc::clone(&self.state), self.id);
                self.questions.spawn(async move {
                    tokio::time::sleep(pause).await;
                    state.ask_again(id, tunnel);
                });
            }
            Next::End(error) => {
                *self.farewell.lock() = Some(error);
                self.session.close(GoAwayCode::ShuttingDown, "the tunnel is lost");
            }
        }
    }

    /// The session closes, and the client has no more to live for.
    fn is_judged(&self) -> bool {
        self.farewell.lock().as_ref().is_some_and(|farewell| !farewell.is_retryable())
    }

    /// Why it is over: what the server said, or what became of the carrier.
    fn why(&self, end: End) -> ConnectError {
        self.farewell
            .lock()
            .take()
            .unwrap_or_else(|| self.state.connector.ended(self.id.server, end))
    }
}

/// A visitor: to the local service and back.
fn serve(state: &Arc<State>, session: SessionId, stream: Stream, open: &Open) {
    let Some((spec, of)) = state.target(open.tunnel) else {
        return stream.reset(ResetCode::UnknownTunnel, "no such tunnel");
    };
    let counted = state.book.tally(&of, session, open).begin();
    let stream = stream.counted(counted, Side::Client);
    let stream = match state.opened(&spec, open) {
        None => stream,
        Some(kept) => stream.seated(Seat::with_only(kept)),
    };
    let stream = match state.tap(&spec, open) {
        None => stream,
        Some(tap) => stream.tapped(tap),
    };
    match &spec.target {
        Target::InProcess(acceptor) => {
            if let Err(error) = acceptor.give(stream, open) {
                state.book.missed(&of, LocalFailure::NotTaken, &error);
            }
        }
        _ => {
            let visit = state.visit(open, of);
            let forwarding = local::forward(stream, spec, visit, state.bulk.clone());
            drop(state.streams.spawn(forwarding));
        }
    }
}

/// How long a server may take to give a sign of life when the way to it may be gone. A server at the
/// other end of the world answers in a fifth of it; a packet that is lost on the way comes again in time.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
