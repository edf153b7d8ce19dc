//! Server-sent events: whoever listens has the same as by asking again and again, at a fraction of the cost.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::Room;
use super::shapes::{Sessions, Status, Tunnels};
use super::traffic::Before;

/// Tells those who listen.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    told: Mutex<Told>,
}

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
        Self { sender: broadcast::Sender::new(MOST_BEHIND), told: Mutex::default() }
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

    fn is_heard(&self) -> bool {
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
    /// What is not as it was told last; with `anew` everything.
    fn news(&self, anew: bool) -> Vec<Event> {
        let mut told = self.events.told.lock();
        let mut news = Vec::new();
        let status = self.overview.status();
        if anew || told.status.as_ref() != Some(&status.clone().at_rest()) {
            news.push(Event::of("status", &status));
            told.status = Some(status.at_rest());
        }
        let sessions = self.house().sessions();
        if anew || told.sessions.as_ref() != Some(&sessions.clone().at_rest()) {
            news.push(Event::of("sessions", &sessions));
            told.sessions = Some(sessions.at_rest());
        }
        let tunnels = self.house().tunnels();
        if anew || told.tunnels.as_ref() != Some(&tunnels) {
            news.push(Event::of("tunnels", &tunnels));
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
            self.events.tell("sample", &sample);
            self.history.push(sample);
            if self.events.is_heard() {
                for event in self.news(false) {
                    let _ = self.events.sender.send(event);
                }
            }
        }
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
                       `request` at the beginning of each, at its answer and at its end, and `requests_cleared`. Who does not keep up is cut off and begins anew."
    ))
)]
pub(crate) async fn events(
    State(room): State<Arc<Room>>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    // In this order, so that nothing falls in between.
    let receiver = room.events.sender.subscribe();
    let first = stream::iter(room.news(true));
    let rest = stream::unfold(receiver, async |mut receiver| match receiver.recv().await {
        Ok(event) => Some((event, receiver)),
        // It would not know what it has missed.
        Err(RecvError::Lagged(_) | RecvError::Closed) => None,
    });
    let events = first
        .chain(rest)
        .map(|event| Ok(sse::Event::default().event(event.name).data(event.data.as_ref())));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// Events that somebody may be behind; each is there once for all who listen.
const MOST_BEHIND: usize = 256;

/// Below the 30 s and more after which proxies take a silent connection for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
