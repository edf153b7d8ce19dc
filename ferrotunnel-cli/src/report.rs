//! What a client's events look like: data for scripts, data and talk for people.

use std::collections::HashMap;

use ferrotunnel::{ClientEvent, TunnelInfo};
use serde_json::{Value, json};

use crate::output::Output;

/// Turns events into lines, and says the same thing once.
pub(crate) struct Reporter {
    output: Output,
    /// The public URL last printed for each tunnel, by name.
    urls: HashMap<String, String>,
    /// Why the server was last out of reach; cleared when it is back.
    trouble: Option<String>,
}

impl Reporter {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, urls: HashMap::new(), trouble: None }
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

    fn say_trouble(&mut self, reason: &str) {
        if self.trouble.as_deref() != Some(reason) {
            self.output.talk(format_args!("{reason}; trying again until the server is back"));
            self.trouble = Some(reason.to_owned());
        }
    }

    fn say_recovered(&mut self) {
        if self.trouble.take().is_some() {
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
