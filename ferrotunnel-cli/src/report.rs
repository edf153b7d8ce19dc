//! What a client's events look like: data for scripts, data and talk for people.

use std::collections::{HashMap, HashSet};

use ferrotunnel::{ClientEvent, TunnelInfo};
use serde_json::{Value, json};

use crate::output::Output;

/// Turns events into lines, and says the same thing once.
pub(crate) struct Reporter {
    output: Output,
    /// The public URL last printed for each tunnel, by name.
    urls: HashMap<String, String>,
    /// What was said about a server out of reach; empty again when it is back.
    troubles: HashSet<String>,
}

impl Reporter {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, urls: HashMap::new(), troubles: HashSet::new() }
    }

    /// Writes one event.
    pub(crate) fn report(&mut self, event: &ClientEvent) {
        self.output.event(&as_json(event));
        match event {
            ClientEvent::Connected { .. } => self.say_recovered(),
            ClientEvent::TunnelReady(info) => self.print_url(info),
            ClientEvent::TunnelLost { name, reason } => {
                self.output.talk(format_args!("tunnel {name} is gone: {reason}"));
            }
            ClientEvent::Disconnected { reason, .. } => self.say_trouble(reason),
            _ => {}
        }
    }

    /// The URL of a tunnel, again only when it changed.
    fn print_url(&mut self, info: &TunnelInfo) {
        if self.urls.get(&info.name) != Some(&info.public_url) {
            self.output.plain(&info.public_url);
            self.urls.insert(info.name.clone(), info.public_url.clone());
        }
    }

    /// A reason once in each outage: every attempt fails anew, often for the same one.
    fn say_trouble(&mut self, reason: &str) {
        if self.troubles.insert(reason.to_owned()) {
            self.output.talk(format_args!("{reason}; trying again until the server is back"));
        }
    }

    fn say_recovered(&mut self) {
        if !self.troubles.is_empty() {
            self.troubles.clear();
            self.output.talk("connected again");
        }
    }
}

/// One event as scripts see it.
fn as_json(event: &ClientEvent) -> Value {
    match event {
        ClientEvent::Connected { session_id, .. } => {
            json!({ "event": "connected", "session": session_id.to_string() })
        }
        ClientEvent::TunnelReady(info) => tunnel_ready(info),
        ClientEvent::TunnelLost { name, reason } => {
            json!({ "event": "tunnel_lost", "name": name, "reason": reason })
        }
        ClientEvent::Disconnected { reason, retry_in } => {
            json!({ "event": "disconnected", "reason": reason, "retry_in_ms": retry_in.as_millis() as u64 })
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
        "kind": info.kind.as_str(),
        "public_url": info.public_url,
        "session": info.session_id.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::output::Format;

    #[test]
    fn a_reason_is_remembered_until_the_server_is_back() {
        let mut reporter = Reporter::new(Output::new(Format::Plain));
        let refused = ClientEvent::Disconnected {
            reason: "connection refused".to_owned(),
            retry_in: Duration::from_millis(200),
        };
        reporter.report(&refused);
        reporter.report(&refused);
        assert_eq!(reporter.troubles.len(), 1);
        reporter.say_recovered();
        assert!(reporter.troubles.is_empty());
    }

    #[test]
    fn scripts_see_why_and_when_a_client_tries_again() {
        let event = ClientEvent::Disconnected {
            reason: "connection refused".to_owned(),
            retry_in: Duration::from_millis(200),
        };
        assert_eq!(
            as_json(&event),
            json!({ "event": "disconnected", "reason": "connection refused", "retry_in_ms": 200 })
        );
    }

    #[test]
    fn every_event_has_its_name_for_scripts() {
        let lost = ClientEvent::TunnelLost { name: "app".to_owned(), reason: "taken".to_owned() };
        assert_eq!(
            as_json(&lost),
            json!({ "event": "tunnel_lost", "name": "app", "reason": "taken" })
        );
        assert_eq!(
            as_json(&ClientEvent::Ended { reason: None }),
            json!({ "event": "ended", "reason": null })
        );
    }
}
