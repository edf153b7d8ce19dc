//! How a command can end, and what is said when it ends badly.

use std::fmt;
use std::path::Path;
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
    /// The arguments, the environment or the settings file make no sense, or a token is missing.
    Usage = 2,
    /// The server does not accept the token, or cannot prove that it knows it.
    Unauthorized = 3,
    /// A newer client took the tunnel over.
    Superseded = 4,
}

/// The exit codes as the help tells them.
macro_rules! exit_codes {
    () => {
        "Exit codes: 0 stopped after finishing what was open, 1 failed, 2 settings that make no sense or no token, 3 wrong token, \
         4 a newer client took the tunnel over. Whatever else comes between a client and its server it tries again."
    };
}
pub(crate) use exit_codes;

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

    /// The same, said of a file.
    pub(crate) fn in_file(&self, path: &Path) -> Self {
        let lines = self.messages.iter().map(|why| format!("{}: {why}", path.display()));
        Self::several(self.exit, lines.collect())
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
            ErrorKind::Unauthorized => Self::several(Exit::Unauthorized, vec![error.to_string()]),
            ErrorKind::Superseded => {
                let advice = "clients that share a tunnel give the same --group";
                Self::several(Exit::Superseded, vec![format!("{error}; {advice}")])
            }
            ErrorKind::Config => Self::usage(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Unauthorized, Exit::Superseded];
        assert_eq!(codes.map(|exit| exit as u8), [0, 1, 2, 3, 4]);
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
