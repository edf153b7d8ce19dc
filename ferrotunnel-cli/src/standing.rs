//! How a client stands, in one line for whoever supervises it.

use std::collections::{BTreeMap, BTreeSet};

use ferrotunnel::{ClientEvent, ServerMode};

/// What is known from its events.
#[derive(Debug)]
pub(crate) struct Standing {
    mode: ServerMode,
    /// Public URLs, by server and name.
    tunnels: BTreeMap<(String, String), String>,
    /// The servers that it has a session with, as far as it was told.
    connected: BTreeSet<String>,
    /// Why there is no session, by server.
    trouble: BTreeMap<String, String>,
}

impl Standing {
    /// Of a client that uses its servers in this way.
    pub(crate) fn new(mode: ServerMode) -> Self {
        Self {
            mode,
            tunnels: BTreeMap::new(),
            connected: BTreeSet::new(),
            trouble: BTreeMap::new(),
        }
    }

    /// Takes one event in.
    pub(crate) fn take_in(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Connected { server, .. } => {
                if self.mode == ServerMode::Failover {
                    self.trouble.clear();
                }
                self.trouble.remove(server);
                self.connected.insert(server.clone());
            }
            ClientEvent::TunnelReady(info) => {
                if self.mode == ServerMode::Failover {
                    // It is served there now. Until then the server of before still had it.
                    self.tunnels.retain(|(server, _), _| *server == info.server);
                }
                let place = (info.server.clone(), info.name.clone());
                self.tunnels.insert(place, info.public_url.clone());
            }
            ClientEvent::TunnelLost { name, server, .. } => {
                self.tunnels.remove(&(server.clone(), name.clone()));
            }
            ClientEvent::Disconnected { server, reason, .. } => {
                if self.mode == ServerMode::Failover {
                    // Told only while there is no session with any.
                    *self = Self::new(self.mode);
                }
                self.tunnels.retain(|(at, _), _| at != server);
                self.connected.remove(server);
                self.trouble.insert(server.clone(), reason.clone());
            }
            _ => {}
        }
    }

    /// Whether visitors can come.
    pub(crate) fn is_ready(&self) -> bool {
        !self.tunnels.is_empty()
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        if self.connected.is_empty()
            && let Some(reason) = self.trouble.values().next_back()
        {
            return format!("not connected, trying again: {reason}");
        }
        let urls: Vec<&str> = self.tunnels.values().map(String::as_str).collect();
        let mut line = match urls.len() {
            0 => "connected, without a tunnel yet".to_owned(),
            _ => format!("visitors come in at {}", urls.join(", ")),
        };
        for (server, reason) in &self.trouble {
            line += &format!("; not connected to {server}, trying again: {reason}");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connected(server: &str) -> ClientEvent {
        let session_id = ferrotunnel::SessionId(1);
        ClientEvent::Connected { session_id, server: server.to_owned() }
    }

    fn disconnected(server: &str, reason: &str) -> ClientEvent {
        let (server, reason) = (server.to_owned(), reason.to_owned());
        ClientEvent::Disconnected { server, reason, retry_in: Duration::ZERO }
    }

    fn lost(server: &str, name: &str) -> ClientEvent {
        let (server, name) = (server.to_owned(), name.to_owned());
        ClientEvent::TunnelLost { name, server, reason: "taken".to_owned() }
    }

    #[test]
    fn an_outage_is_in_the_line_until_it_is_over() {
        let mut standing = Standing::new(ServerMode::Failover);
        assert!(!standing.is_ready());
        standing.take_in(&disconnected("a:1", "connection refused"));
        assert_eq!(standing.line(), "not connected, trying again: connection refused");
        standing.take_in(&connected("b:1"));
        assert_eq!(standing.line(), "connected, without a tunnel yet");
    }

    #[test]
    fn a_server_that_is_down_says_nothing_about_another_that_serves() {
        let mut standing = Standing::new(ServerMode::All);
        standing.take_in(&disconnected("b:1", "connection refused"));
        standing.take_in(&connected("a:1"));
        for _ in 0..2 {
            standing.take_in(&disconnected("b:1", "connection refused"));
            assert_eq!(
                standing.line(),
                "connected, without a tunnel yet; not connected to b:1, trying again: connection refused"
            );
        }
        standing.take_in(&connected("b:1"));
        assert_eq!(standing.line(), "connected, without a tunnel yet");
        standing.take_in(&disconnected("a:1", "gone"));
        standing.take_in(&disconnected("b:1", "gone"));
        assert_eq!(standing.line(), "not connected, trying again: gone");
    }

    #[test]
    fn tunnels_of_one_name_at_two_servers_are_two() {
        let mut standing = Standing::new(ServerMode::All);
        for server in ["a:1", "b:1"] {
            standing.take_in(&connected(server));
            let url = format!("http://app.{server}/");
            standing.tunnels.insert((server.to_owned(), "app".to_owned()), url);
        }
        assert_eq!(standing.line(), "visitors come in at http://app.a:1/, http://app.b:1/");
        standing.take_in(&lost("b:1", "app"));
        assert_eq!(standing.line(), "visitors come in at http://app.a:1/");
        standing.take_in(&lost("b:1", "app"));
        assert!(standing.is_ready());
        standing.take_in(&disconnected("a:1", "gone"));
        assert!(!standing.is_ready());
    }
}
