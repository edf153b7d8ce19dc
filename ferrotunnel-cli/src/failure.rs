//! How a command can end, and what is said when it ends badly.

use std::fmt;
use std::process::ExitCode;

use ferrotunnel::ErrorKind;

/// The exit codes of this program; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, or stopped by a signal after draining.
    Ok = 0,
    /// Something went wrong and trying again would not help, or was not wanted.
    Failed = 1,
    /// The arguments or the settings file make no sense.
    Usage = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that ended badly: the exit code, and texts that say what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    messages: Vec<String>,
}

impl Failure {
    /// Ends with [`Exit::Failed`].
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::several(Exit::Failed, vec![message.into()])
    }

    /// Ends with [`Exit::Usage`].
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::several(Exit::Usage, vec![message.into()])
    }

    /// Ends with everything that was found wrong at once.
    pub(crate) fn several(exit: Exit, messages: Vec<String>) -> Self {
        Self { exit, messages }
    }

    /// What is said, each on a line of its own.
    pub(crate) fn messages(&self) -> &[String] {
        &self.messages
    }

    /// The code for whoever started this program.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("\n"))
    }
}

impl From<ferrotunnel::Error> for Failure {
    fn from(error: ferrotunnel::Error) -> Self {
        match error.kind() {
            ErrorKind::Unreachable => {
                Self::failed(format!("{error}; is the server running, and --server its address?"))
            }
            _ => Self::failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        assert_eq!([Exit::Ok, Exit::Failed, Exit::Usage].map(|exit| exit as u8), [0, 1, 2]);
    }

    #[test]
    fn a_failure_keeps_its_code_and_its_text() {
        assert_eq!(Failure::failed("no").exit(), Exit::Failed);
        assert_eq!(Failure::usage("no").exit(), Exit::Usage);
        assert_eq!(Failure::usage("say yes").to_string(), "say yes");
        let several = Failure::several(Exit::Usage, vec!["one".to_owned(), "two".to_owned()]);
        assert_eq!(several.messages(), ["one", "two"]);
    }
}
