//! Everything this program writes: stdout is data, stderr is talk. No other module writes to either.
//!
//! A reader that goes away (`ferrotunnel http 3000 | head -1`) does not end the tunnel: a write that fails is dropped. Who
//! asks for something and waits for the answer is told that it could not be written.

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
    fn data(self, line: impl Display) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush())
    }

    /// One line of what the command is for, whatever the format.
    pub(crate) fn answer(self, line: impl Display) -> Result<(), Failure> {
        arrived(self.data(line))
    }

    /// The same for people; scripts get it as an event.
    pub(crate) fn answer_plain(self, line: impl Display) -> Result<(), Failure> {
        if self.format == Format::Plain { self.answer(line) } else { Ok(()) }
    }

    /// The same for scripts.
    pub(crate) fn answer_event(self, event: &Value) -> Result<(), Failure> {
        if self.format == Format::Json { self.answer(event) } else { Ok(()) }
    }

    /// One line of data for people; scripts get the same as an event.
    pub(crate) fn plain(self, line: impl Display) {
        if self.format == Format::Plain {
            let _ = self.data(line);
        }
    }

    /// One event for scripts; people get the same as data or talk.
    pub(crate) fn event(self, event: &Value) {
        if self.format == Format::Json {
            let _ = self.data(event);
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
    let printed = answer.print();
    if answer.use_stderr() {
        return Exit::Usage;
    }
    match arrived(printed) {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            Output::new(Format::Plain).failure(&failure);
            failure.exit()
        }
    }
}

/// What was asked for has to arrive, unless its reader has seen enough.
fn arrived(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}
