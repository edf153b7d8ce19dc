//! How a client stands, in one line for whoever supervises it.

use std::collections::BTreeMap;

use ferrotunnel::ClientEvent;

/// What is known from its events.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Public URLs by name.
    tunnels: BTreeMap<String, String>,
    /// Why there is no session.
    trouble: Option<String>,
}

impl Standing {
    /// Takes one event in.
    pub(crate) fn take_in(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Connected { .. } => self.trouble = None,
            ClientEvent::TunnelReady(info) => {
                self.tunnels.insert(info.name.clone(), info.public_url.clone());
            }
            ClientEvent::TunnelLost { name, .. } => drop(self.tunnels.remove(name)),
            ClientEvent::Disconnected { reason, .. } => {
                self.tunnels.clear();
                self.trouble = Some(reason.clone());
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
        if let Some(reason) = &self.trouble {
            return format!("not connected, trying again: {reason}");
        }
        let urls: Vec<&str> = self.tunnels.values().map(String::as_str).collect();
        match urls.len() {
            0 => "connected, without a tunnel yet".to_owned(),
            _ => format!("visitors come in at {}", urls.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_outage_is_in_the_line_until_it_is_over() {
        let mut standing = Standing::default();
        assert!(!standing.is_ready());
        standing.take_in(&ClientEvent::Disconnected {
            server: String::new(),
            reason: "connection refused".to_owned(),
            retry_in: Duration::ZERO,
        });
        assert_eq!(standing.line(), "not connected, trying again: connection refused");
        standing.take_in(&ClientEvent::Connected {
            server: String::new(),
            session_id: ferrotunnel::SessionId(1),
        });
        assert_eq!(standing.line(), "connected, without a tunnel yet");
    }
}
