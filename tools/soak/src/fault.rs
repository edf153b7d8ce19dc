//! What a visitor can meet, by how bad it is.

use std::error::Error as _;
use std::io;

use hyper::StatusCode;

use crate::pattern::Differs;

/// What went wrong with one conversation. Equal texts are counted together, so they name no number.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The connection broke, or did not come about.
    #[error("{what}: {0}", what = .1)]
    Broken(String, &'static str),
    /// An answer of the server's own.
    #[error("status {0} ({1})")]
    Refused(StatusCode, String),
    /// An orderly end before all was said: it looks whole and is not.
    #[error("an orderly end before all was said, {0}")]
    CutShort(&'static str),
    /// No end within [`crate::visitor::PATIENCE`].
    #[error("nothing more came, {0}")]
    Stuck(&'static str),
    /// Bytes that are not those, or an answer to somebody else.
    #[error("WRONG: {0}")]
    Wrong(String),
}

impl Fault {
    /// An error of a socket.
    pub(crate) fn io(what: &'static str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::CutShort(what),
            kind => Self::Broken(kind.to_string(), what),
        }
    }

    /// An error of an HTTP connection, with its cause.
    pub(crate) fn http(what: &'static str, error: &hyper::Error) -> Self {
        let text = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::Broken(text, what)
    }

    /// Bytes of which one is another.
    pub(crate) fn differs(what: &'static str, differs: Differs) -> Self {
        // The place is told by size only: equal faults are counted together.
        let place = if differs.at == 0 { "from the first byte on" } else { "in the middle" };
        Self::Wrong(format!("other bytes than were sent, {place}, {what}"))
    }
}
