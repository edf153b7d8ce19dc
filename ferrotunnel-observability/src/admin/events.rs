//! Server-sent events: whoever listens has the same as by asking again and again, at a fraction of the cost.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::Room;
use super::shapes::{Sessions, Status, Tunnels};
use super::traffic::Before;

/// Tells those who listen.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    newest: watch::Sender<Newest>,
    told: Mutex<Told>,
}

/// Status, sessions and tunnels as they were told last. They may be long, so only the last of each is kept for those who are
/// behind: it has all that they have missed.
#[derive(Debug, Default)]
struct Newest([Option<Event>; 3], [u64; 3]);

/// One event. Everybody gets the same text.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    name: &'static str,
    data: Arc<str>,
}

/// What was told last, without what changes while nothing happens.
#[derive(Debug, Default)]
struct Told {
    status: Option<Status>,
    sessions: Option<Sessions>,
    tunnels: Option<Tunnels>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(MOST_BEHIND),
            newest: watch::Sender::default(),
            told: Mutex::default(),
        }
    }
}

impl Events {
    /// Tells all who listen, if anybody does.
    pub(crate) fn tell(&self, name: &'static str, thing: &impl Serialize) {
        if self.is_heard() {
            // Nobody may be left by now.
            let _ = self.sender.send(Event::of(name, thing));
        }
    }

    fn are_newest(&self, news: [Option<Event>; 3]) {
        self.newest.send_if_modified(|newest| {
            let mut is_any = false;
            for (place, event) in news.into_iter().enumerate() {
                if event.is_some() {
                    newest.0[place] = event;
                    newest.1[place] += 1;
                    is_any = true;
                }
            }
            is_any
        });
    }

    pub(super) fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }
}

impl Event {
    fn of(name: &'static str, thing: &impl Serialize) -> Self {
        // Maps with keys that are no text, and the like, are not among our answers.
        let data = serde_json::to_string(thing).unwrap_or_default().into();
        Self { name, data }
    }
}

impl Room {
    /// Everything, for somebody who begins to listen. What the others were told stays as it was: they hear of a change by the
    /// next second all the same.
    fn everything(&self) -> Vec<Event> {
        vec![
            Event::of("status", &self.overview.status()),
            Event::of("sessions", &self.house().sessions()),
            Event::of("tunnels", &self.house().tunnels()),
        ]
    }

    /// What is not as it was told last, each in its place.
    fn news(&self) -> [Option<Event>; 3] {
        let mut told = self.events.told.lock();
        let mut news = [None, None, None];
        let status = self.overview.status();
        if told.status.as_ref() != Some(&status.clone().at_rest()) {
            news[0] = Some(Event::of("status", &status));
            told.status = Some(status.at_rest());
        }
        let sessions = self.house().sessions();
        if told.sessions.as_ref() != Some(&sessions.clone().at_rest()) {
            news[1] = Some(Event::of("sessions", &sessions));
            told.sessions = Some(sessions.at_rest());
        }
        let tunnels = self.house().tunnels();
        if told.tunnels.as_ref() != Some(&tunnels) {
            news[2] = Some(Event::of("tunnels", &tunnels));
            told.tunnels = Some(tunnels);
        }
        news
    }

    /// Takes a sample each second, and tells what has changed.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut before = Before::of(self.house());
        seconds.tick().await;
        loop {
            seconds.tick().await;
            let sample = before.sample(self.house());
            self.events.tell(SAMPLE, &sample);
            self.history.push(sample);
            if self.events.is_heard() {
                self.events.are_newest(self.news());
            }
        }
    }
}

/// Somebody who listens.
struct Listener {
    room: Arc<Room>,
    heard: broadcast::Receiver<Event>,
    newest: watch::Receiver<Newest>,
    /// Which of the newest they have.
    has: [u64; 3],
    /// What they logged in by, if they have not shown the token.
    login: Option<HeaderMap>,
}

impl Listener {
    fn new(room: &Arc<Room>, headers: HeaderMap) -> Self {
        let heard = room.events.sender.subscribe();
        room.want_requests();
        let newest = room.events.newest.subscribe();
        let has = newest.borrow().1;
        let is_login = room.token.is_some() && !headers.contains_key(AUTHORIZATION);
        Self { room: Arc::clone(room), heard, newest, has, login: is_login.then_some(headers) }
    }

    /// The next event; `None` when there is no more for this one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.newer() {
                return Some(event);
            }
            tokio::select! {
                biased;
                changed = self.newest.changed() => changed.ok()?,
                heard = self.heard.recv() => {
                    // Who is behind would not know what it has missed.
                    let event = heard.ok()?;
                    // Once a second is soon enough.
                    return (event.name != SAMPLE || self.is_let()).then_some(event);
                }
            }
        }
    }

    fn newer(&mut self) -> Option<Event> {
        let newest = self.newest.borrow_and_update();
        let place = (0..3).find(|place| newest.1[*place] != self.has[*place])?;
        self.has[place] = newest.1[place];
        newest.0[place].clone()
    }

    /// Whether they may still listen: a login comes to its end.
    fn is_let(&self) -> bool {
        let login = self.login.as_ref();
        login.is_none_or(|login| self.room.logins.knows(login, Instant::now()))
    }
}

/// Everything at the beginning, and then what changes.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "readings",
    responses((
        status = 200,
        content_type = "text/event-stream",
        body = String,
        description = "Events `status`, `sessions` and `tunnels` at the beginning and when they change, at most once a second, \
                       with what those paths answer; `sample` each second; where requests are inspected \
                       `request` at the beginning of each, at its answer and at its end, and `requests_cleared`. Who does not keep up is cut off and begins anew. It ends with the login by which it was asked for."
    ))
)]
pub(crate) async fn events(
    State(room): State<Arc<Room>>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    // In this order, so that nothing falls in between.
    let listener = Listener::new(&room, headers);
    let first = stream::iter(room.everything());
    let rest = stream::unfold(listener, async |mut listener| {
        let event = listener.next().await?;
        Some((event, listener))
    });
    let events = first
        .chain(rest)
        .map(|event| Ok(sse::Event::default().event(event.name).data(event.data.as_ref())));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// What there is each second.
const SAMPLE: &str = "sample";

/// Events that somebody may be behind; each is there once for all who listen.
const MOST_BEHIND: usize = 256;

/// Below the 30 s and more after which proxies take a silent connection for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
