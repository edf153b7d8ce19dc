//! Everything this program writes: stdout is data, stderr is talk. No other module writes to either.
//!
//! A reader that goes away (`ferrotunnel http 3000 | head -1`) does not end the tunnel: a write that fails is dropped.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

use crate::failure::{Exit, Failure};

/// How stdout is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people and `$(..)`: the public URL, one a line.
    Plain,
    /// For scripts: one JSON object a line, each with an `event`.
    Json,
}

/// Writes in the format that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether somebody sits before it.
    pub(crate) fn is_for_people(self) -> bool {
        self.format == Format::Plain && io::stdout().is_terminal()
    }

    /// One line of data, whatever the format.
    pub(crate) fn data(self, line: impl Display) {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }

    /// One line of data for people; scripts get the same as an event.
    pub(crate) fn plain(self, line: impl Display) {
        if self.format == Format::Plain {
            self.data(line);
        }
    }

    /// One event for scripts; people get the same as data or talk.
    pub(crate) fn event(self, event: &Value) {
        if self.format == Format::Json {
            self.data(event);
        }
    }

    /// One line for the person at the terminal.
    pub(crate) fn talk(self, line: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Why the command ended.
    pub(crate) fn failure(self, failure: &Failure) {
        for message in failure.messages() {
            self.talk(format_args!("error: {message}"));
        }
    }
}

/// What the person at the terminal should change, though it goes on.
pub(crate) fn warning(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "warning: {line}");
}

/// What clap has to say: help and version are data, the rest is talk.
pub(crate) fn argument_answer(answer: &clap::Error) -> Exit {
    let _ = answer.print();
    if answer.use_stderr() { Exit::Usage } else { Exit::Ok }
}
