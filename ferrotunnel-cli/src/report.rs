//! What a client's events look like: data for scripts, data and talk for people.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ferrotunnel::{ClientEvent, ServerMode, TunnelInfo};
use serde_json::{Value, json};

use crate::output::Output;

/// Turns events into lines: of each outage one when it begins and one when it is over.
pub(crate) struct Reporter {
    output: Output,
    servers: usize,
    mode: ServerMode,
    /// The public URL last printed for each tunnel, by server and name.
    urls: HashMap<(String, String), String>,
    /// Since when there is no session: with each server where all are used, with any otherwise.
    outages: HashMap<String, Instant>,
    /// The servers that there was a session with, the last one last.
    known: Vec<String>,
}

impl Reporter {
    pub(crate) fn new(output: Output, servers: usize, mode: ServerMode) -> Self {
        let (urls, outages, known) = (HashMap::new(), HashMap::new(), Vec::new());
        Self { output, servers, mode, urls, outages, known }
    }

    /// Writes one event.
    pub(crate) fn report(&mut self, event: &ClientEvent) {
        self.output.event(&as_json(event));
        let line = match event {
            ClientEvent::TunnelReady(info) => return self.print_url(info),
            event => self.line(event, Instant::now()),
        };
        if let Some(line) = line {
            self.output.talk(line);
        }
    }

    /// What people are told, if anything.
    fn line(&mut self, event: &ClientEvent, now: Instant) -> Option<String> {
        match event {
            ClientEvent::Connected { server, .. } => self.connected(server, now),
            ClientEvent::Disconnected { server, reason, .. } => {
                self.disconnected(server, reason, now)
            }
            ClientEvent::TunnelLost { name, server, reason } => {
                let was_there = self.urls.contains_key(&(server.clone(), name.clone()));
                let what = if was_there { "is gone" } else { "was refused" };
                Some(match self.servers {
                    1 => format!("tunnel {name} {what}: {reason}"),
                    _ => format!("tunnel {name} {what} at {server}: {reason}"),
                })
            }
            ClientEvent::LocalServiceDown { name, reason } => {
                Some(format!("the local service of tunnel {name} is down: {reason}"))
            }
            ClientEvent::LocalServiceUp { name } => {
                Some(format!("the local service of tunnel {name} is well again"))
            }
            _ => None,
        }
    }

    /// The URL of a tunnel, again only when it changed.
    fn print_url(&mut self, info: &TunnelInfo) {
        let tunnel = (info.server.clone(), info.name.clone());
        if self.urls.get(&tunnel) != Some(&info.public_url) {
            self.output.plain(&info.public_url);
            self.urls.insert(tunnel, info.public_url.clone());
        }
    }

    /// The first failure of an outage; every attempt after it fails anew.
    fn disconnected(&mut self, server: &str, reason: &str, now: Instant) -> Option<String> {
        let outage = self.outage_of(server);
        if self.outages.contains_key(&outage) {
            return None;
        }
        self.outages.insert(outage, now);
        Some(match (self.mode, self.servers) {
            (_, 1) => format!("{reason}; trying again until the server is back"),
            (ServerMode::All, _) => format!("{reason}; trying again until {server} is back"),
            _ => format!("{reason}; trying again until one of {} servers answers", self.servers),
        })
    }

    fn connected(&mut self, server: &str, now: Instant) -> Option<String> {
        let again = if self.known.iter().any(|known| known == server) { " again" } else { "" };
        let is_another = self.known.last().is_some_and(|last| last != server);
        self.known.retain(|known| known != server);
        self.known.push(server.to_owned());
        let name = if self.servers == 1 { String::new() } else { format!(" to {server}") };
        let outage = self.outage_of(server);
        match self.outages.remove(&outage) {
            Some(since) => {
                let gone = in_words(now.duration_since(since));
                Some(format!("connected{again}{name} after {gone}"))
            }
            // Back at an earlier one, which nobody has waited for.
            None if is_another && self.mode != ServerMode::All => {
                Some(format!("connected{again}{name}, which is earlier in order"))
            }
            None => None,
        }
    }

    fn outage_of(&self, server: &str) -> String {
        match self.mode {
            ServerMode::All => server.to_owned(),
            _ => String::new(),
        }
    }
}

/// A time as people say it: no finer than matters.
fn in_words(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..100 => format!("{secs} s"),
        100..6_000 => format!("{} min", secs / 60),
        _ => format!("{} h {} min", secs / 3_600, secs / 60 % 60),
    }
}

/// One event as scripts see it.
fn as_json(event: &ClientEvent) -> Value {
    match event {
        ClientEvent::Connected { session_id, server } => {
            json!({ "event": "connected", "session": session_id.to_string(), "server": server })
        }
        ClientEvent::TunnelReady(info) => tunnel_ready(info),
        ClientEvent::TunnelLost { name, server, reason } => {
            json!({ "event": "tunnel_lost", "name": name, "server": server, "reason": reason })
        }
        ClientEvent::Disconnected { server, reason, retry_in } => json!({
            "event": "disconnected",
            "server": server,
            "reason": reason,
            "retry_in_ms": retry_in.as_millis() as u64,
        }),
        ClientEvent::LocalServiceDown { name, reason } => {
            json!({ "event": "local_service_down", "name": name, "reason": reason })
        }
        ClientEvent::LocalServiceUp { name } => {
            json!({ "event": "local_service_up", "name": name })
        }
        ClientEvent::Ended { reason } => json!({ "event": "ended", "reason": reason }),
        other => json!({ "event": "other", "detail": format!("{other:?}") }),
    }
}

/// A tunnel that visitors can use, as scripts see it.
pub(crate) fn tunnel_ready(info: &TunnelInfo) -> Value {
    json!({
        "event": "tunnel_ready",
        "name": info.name,
        "server": info.server,
        "kind": info.kind.as_str(),
        "public_url": info.public_url,
        "session": info.session_id.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use ferrotunnel::SessionId;

    use super::*;
    use crate::output::Format;

    fn reporter(servers: usize, mode: ServerMode) -> Reporter {
        Reporter::new(Output::new(Format::Plain), servers, mode)
    }

    fn connected(server: &str) -> ClientEvent {
        ClientEvent::Connected { session_id: SessionId(1), server: server.to_owned() }
    }

    fn disconnected(server: &str, reason: &str) -> ClientEvent {
        ClientEvent::Disconnected {
            server: server.to_owned(),
            reason: reason.to_owned(),
            retry_in: Duration::from_millis(200),
        }
    }

    /// Says what was said of these, a second after each other.
    fn said(reporter: &mut Reporter, events: &[ClientEvent]) -> Vec<String> {
        let mut now = Instant::now();
        let mut said = Vec::new();
        for event in events {
            said.extend(reporter.line(event, now));
            now += Duration::from_secs(1);
        }
        said
    }

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_it_is_over() {
        let mut reporter = reporter(1, ServerMode::Failover);
        let events = [
            connected("a"),
            disconnected("a", "the connection broke"),
            disconnected("a", "connection refused"),
            disconnected("a", "connection refused"),
            connected("a"),
            disconnected("a", "it broke again"),
        ];
        assert_eq!(
            said(&mut reporter, &events),
            [
                "the connection broke; trying again until the server is back",
                "connected again after 3.0 s",
                "it broke again; trying again until the server is back",
            ]
        );
    }

    #[test]
    fn several_servers_are_one_to_people_who_need_one() {
        let mut reporter = reporter(2, ServerMode::Failover);
        let events = [
            disconnected("a", "no a"),
            disconnected("b", "no b"),
            connected("b"),
            connected("a"),
            disconnected("a", "no a"),
            connected("b"),
        ];
        assert_eq!(
            said(&mut reporter, &events),
            [
                "no a; trying again until one of 2 servers answers",
                "connected to b after 2.0 s",
                "connected to a, which is earlier in order",
                "no a; trying again until one of 2 servers answers",
                "connected again to b after 1.0 s",
            ]
        );
    }

    #[test]
    fn servers_that_are_used_at_once_have_outages_of_their_own() {
        let mut reporter = reporter(2, ServerMode::All);
        let events = [
            connected("a"),
            disconnected("b", "no b"),
            disconnected("a", "no a"),
            disconnected("b", "no b"),
            connected("b"),
            connected("a"),
        ];
        assert_eq!(
            said(&mut reporter, &events),
            [
                "no b; trying again until b is back",
                "no a; trying again until a is back",
                "connected to b after 3.0 s",
                "connected again to a after 3.0 s",
            ]
        );
    }

    #[test]
    fn a_tunnel_that_never_was_is_refused_and_one_that_was_is_gone() {
        let mut reporter = reporter(1, ServerMode::Failover);
        let lost = ClientEvent::TunnelLost {
            name: "app".to_owned(),
            server: "a".to_owned(),
            reason: "it is taken".to_owned(),
        };
        let lost = [lost];
        assert_eq!(said(&mut reporter, &lost), ["tunnel app was refused: it is taken"]);
        let (tunnel, url) = (("a".to_owned(), "app".to_owned()), "http://app.localhost/");
        reporter.urls.insert(tunnel, url.to_owned());
        assert_eq!(said(&mut reporter, &lost), ["tunnel app is gone: it is taken"]);
    }

    #[test]
    fn times_are_as_fine_as_they_matter() {
        for (time, words) in [
            (300, "0.3 s"),
            (59_900, "59 s"),
            (125_000, "2 min"),
            (2 * 3_600_000 + 300_000, "2 h 5 min"),
        ] {
            assert_eq!(in_words(Duration::from_millis(time)), words);
        }
    }

    #[test]
    fn scripts_see_why_and_when_a_client_tries_again() {
        assert_eq!(
            as_json(&disconnected("a:1", "connection refused")),
            json!({
                "event": "disconnected",
                "server": "a:1",
                "reason": "connection refused",
                "retry_in_ms": 200,
            })
        );
    }

    #[test]
    fn every_event_has_its_name_for_scripts() {
        let lost = ClientEvent::TunnelLost {
            name: "app".to_owned(),
            server: "a:1".to_owned(),
            reason: "taken".to_owned(),
        };
        assert_eq!(
            as_json(&lost),
            json!({ "event": "tunnel_lost", "name": "app", "server": "a:1", "reason": "taken" })
        );
        assert_eq!(
            as_json(&connected("a:1")),
            json!({ "event": "connected", "session": SessionId(1).to_string(), "server": "a:1" })
        );
        assert_eq!(
            as_json(&ClientEvent::Ended { reason: None }),
            json!({ "event": "ended", "reason": null })
        );
    }
}
