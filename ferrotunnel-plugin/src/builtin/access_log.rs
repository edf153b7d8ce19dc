//! One line for each request.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use http::Request;

use super::line::{Asked, early_line, line};
use super::writer::Writer;
use crate::{EarlyAnswer, Outcome, Plugin, PluginAction, RequestContext, Result};

/// Writes a line for each request when it is over, also for those that no tunnel got or that nobody could make out. To be the first of the plugins:
/// what comes before it, it does not see.
///
/// Lines wait in a bounded queue for a thread that writes them; when a disk does not keep up, lines are lost, which is
/// logged, and no visitor waits. A file that is moved away is made anew within a second of the next request.
#[derive(Debug)]
pub struct AccessLog {
    format: LogFormat,
    writer: Writer,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// The Common Log Format of web servers.
    Common,
    /// The same with `Referer` and `User-Agent`.
    #[default]
    Combined,
    /// An object with all that is known.
    Json,
}

impl LogFormat {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Common, Self::Combined, Self::Json];
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "common",
            Self::Combined => "combined",
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is none of common, combined and json"))
    }
}

impl AccessLog {
    /// Appends to a file, which is made if need be.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn to_file(path: impl AsRef<Path>, format: LogFormat) -> io::Result<Self> {
        Ok(Self { format, writer: Writer::file(path.as_ref())? })
    }

    /// Writes to the standard output.
    ///
    /// # Errors
    /// The system has no thread to spare.
    pub fn to_stdout(format: LogFormat) -> io::Result<Self> {
        Ok(Self { format, writer: Writer::stdout()? })
    }
}

#[async_trait]
impl Plugin for AccessLog {
    fn name(&self) -> &str {
        "access-log"
    }

    fn wants_sessions(&self) -> bool {
        false
    }

    async fn on_request(
        &self,
        request: &mut Request<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        context.insert(Arc::new(Asked::of(request)));
        Ok(PluginAction::Continue)
    }

    fn on_finished(&self, context: &RequestContext, outcome: &Outcome) {
        if let Some(asked) = context.get::<Arc<Asked>>() {
            self.writer.write(line(self.format, &asked, context, outcome));
        }
    }

    fn on_early_answer(&self, answer: &EarlyAnswer) {
        self.writer.write(early_line(self.format, answer));
    }
}
