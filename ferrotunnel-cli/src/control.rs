//! The control socket: how `ferrotunnel reload` and `ferrotunnel status` speak with a server or client of the same machine.
//!
//! One line each way: `reload`, and then the event that comes of it, or `status`, and then what there is; both as JSON. Who
//! may open the socket is all there is to who may ask, so it is its owner's alone.

#[cfg(unix)]
mod asking;
/// Systems without such sockets.
#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod place;
#[cfg(unix)]
mod serving;

use std::sync::Arc;

use ferrotunnel::Overview;
use ferrotunnel::observability::Reply;
use serde_json::Value;
use tokio::sync::oneshot;

#[cfg(unix)]
pub(crate) use asking::ask;
#[cfg(not(unix))]
pub(crate) use elsewhere::{Control, ask};
#[cfg(unix)]
pub(crate) use serving::Control;

/// Shows what runs at a control socket, where there is one. What asks for a reload there goes to whoever is `asked`.
pub(crate) fn show(
    control: &mut Option<Control>,
    overview: Arc<Overview>,
    asked: Option<impl FnOnce(Control)>,
) {
    if let Some(control) = control {
        control.shows(overview);
    }
    if let Some(asked) = asked
        && let Some(control) = control.take()
    {
        asked(control);
    }
}

/// Somebody who waits for what comes of a reload.
#[derive(Debug)]
pub(crate) enum Asker {
    /// At a control socket, which is told the event.
    Control(oneshot::Sender<Value>),
    /// At the admin interface, which is told in words.
    Admin(Reply),
}

impl Asker {
    /// Tells what came of it.
    pub(crate) fn tell(self, event: &Value) {
        match self {
            // Who went away has no use for it.
            Self::Control(asker) => drop(asker.send(event.clone())),
            Self::Admin(reply) => reply.tell(in_words(event)),
        }
    }
}

/// What an event says: that settings were taken, or why not.
fn in_words(event: &Value) -> Result<String, String> {
    let texts = |key: &str| -> Vec<&str> {
        let list = event.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    };
    if event.get("event").and_then(Value::as_str) == Some("reload_refused") {
        return Err(texts("errors").join("; "));
    }
    let restart_needed = texts("restart_needed");
    match restart_needed.is_empty() {
        true => Ok("the settings were read again and are in force".to_owned()),
        false => Ok(format!(
            "the settings were read again; in force only after a restart: {}",
            restart_needed.join(", ")
        )),
    }
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The settings are to be read again.
    Reload,
    /// What there is.
    Status,
}

#[cfg(unix)]
impl Request {
    const ALL: [Self; 2] = [Self::Reload, Self::Status];

    fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Status => "status",
        }
    }
}

/// Resolves when somebody asks there for the settings to be read again, if there is such a place.
pub(crate) async fn next_asker(control: &mut Option<Control>) -> Asker {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}
