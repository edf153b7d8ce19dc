//! The settings file: TOML with a key for every flag, looked through as a whole before any of it is used.
//!
//! Everything that is wrong is said at once, with its line and column. The file fills a layer of [`crate::layers`];
//! whether the layers together make sense is for [`crate::settings`] to say.

mod client;
mod plugins;
mod principal;
mod problem;
mod section;
mod server;

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ferrotunnel::PrincipalConfig;
use toml::de::DeTable;

use crate::args::{ConfigArg, ServerArgs};
use crate::failure::{Exit, Failure};
use crate::output;

pub(crate) use client::ClientSection;
pub(crate) use problem::Problem;
pub(crate) use section::NamedFile;
use section::{Known, Reading, Section};

/// What a settings file says. Without one, it says nothing.
#[derive(Debug, Default)]
pub(crate) struct SettingsFile {
    /// Where it is; empty if there is none.
    pub(crate) path: PathBuf,
    pub(crate) server: Option<ServerArgs>,
    pub(crate) client: Option<ClientSection>,
    /// Who may register what, in the order of the file.
    pub(crate) principals: Vec<PrincipalConfig>,
    /// The files that it names.
    pub(crate) files: Vec<NamedFile>,
    /// Its mode, if it holds secrets that others than its owner may read.
    pub(crate) exposed: Option<u32>,
}

/// Why there is nothing to be had from a settings file.
#[derive(Debug)]
pub(crate) enum FileError {
    /// It could not be read.
    Unreadable(String),
    /// What it says makes no sense.
    Wrong(Vec<Problem>),
}

impl SettingsFile {
    /// The file that was asked for, if one was. Warns about what others can read in it.
    pub(crate) fn asked_for(arg: &ConfigArg) -> Result<Self, Failure> {
        let Some(path) = &arg.config else { return Ok(Self::default()) };
        let file = Self::load(path).map_err(|error| error.into_failure(path))?;
        if let Some(warning) = file.warning() {
            output::warning(warning);
        }
        Ok(file)
    }

    /// Reads a file and looks through all of it.
    pub(crate) fn load(path: &Path) -> Result<Self, FileError> {
        let (bytes, metadata) = read(path).map_err(|why| {
            FileError::Unreadable(format!("cannot read {}: {why}", path.display()))
        })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let mut file = Self::parse(&bytes, directory).map_err(FileError::Wrong)?;
        path.clone_into(&mut file.path);
        file.exposed = mode_for_others(&metadata).filter(|_| file.holds_a_secret());
        Ok(file)
    }

    /// What a text says. Relative paths begin at the directory.
    pub(crate) fn parse(bytes: &[u8], directory: &Path) -> Result<Self, Vec<Problem>> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let message = "this is not UTF-8; save the file as UTF-8".to_owned();
                return Err(vec![Problem::at(&good, good.len(), message)]);
            }
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What follows from a broken line is not worth saying. The text itself may be a secret: it is not quoted.
            let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
            let problem = |error| Problem::at(text, place(error), error.message().to_owned());
            let mut problems: Vec<_> = errors.iter().map(problem).collect();
            problems.sort_by_key(|problem| (problem.line, problem.column));
            return Err(problems);
        }
        let reading = Reading::new(directory);
        let mut file = reading.root(table.into_inner(), sections);
        let problems = reading.problems(text);
        if !problems.is_empty() {
            return Err(problems);
        }
        file.files = reading.files(text);
        Ok(file)
    }

    fn holds_a_secret(&self) -> bool {
        let server = self.server.as_ref().is_some_and(|server| {
            server.token.token.is_some() || server.plugins.visitor_secret_hash.is_some()
        });
        let client =
            self.client.as_ref().is_some_and(|client| client.connect.token.token.is_some());
        // Who has a verifier can pass for the server.
        let principals = self.principals.iter().any(|principal| !principal.verifiers.is_empty());
        server || client || principals
    }

    /// What its owner should see to.
    pub(crate) fn warning(&self) -> Option<String> {
        let mode = self.exposed?;
        let path = self.path.display();
        Some(format!(
            "{path} holds secrets and other users may read it (mode {mode:03o}); run: chmod 600 {path}"
        ))
    }
}

impl FileError {
    /// As the end of a command.
    pub(crate) fn into_failure(self, path: &Path) -> Failure {
        match self {
            Self::Unreadable(why) => Failure::failed(why),
            Self::Wrong(problems) => {
                let line = |problem: &Problem| format!("{}:{problem}", path.display());
                Failure::several(Exit::Usage, problems.iter().map(line).collect())
            }
        }
    }
}

/// The sections there are.
fn sections(root: &mut Section<'_, '_>) -> SettingsFile {
    let (has_server, has_client) = (root.has("server"), root.has("client"));
    let server = root.table("server", server::read);
    let client = root.table("client", client::read);
    let principals = root.named_tables("principals", principal::read);
    SettingsFile {
        server: has_server.then_some(server),
        client: has_client.then_some(client),
        principals: principal::together(principals, root),
        ..SettingsFile::default()
    }
}

/// Every key there is, with its section.
fn vocabulary() -> Vec<Known> {
    Reading::vocabulary(sections)
}

/// A pipe will do too: secrets may come from a program.
fn read(path: &Path) -> Result<(Vec<u8>, Metadata), String> {
    let advice = "give the path of a settings file that this user may read";
    let wrong = |error: std::io::Error| format!("{error}; {advice}");
    let file = File::open(path).map_err(wrong)?;
    let metadata = file.metadata().map_err(wrong)?;
    let mut bytes = Vec::new();
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(format!("it is longer than 1 MiB; {advice}"));
    }
    Ok((bytes, metadata))
}

/// Thousands of principals fit, and a path like `/dev/zero` does not take all memory.
const MAX_LEN: u64 = 1 << 20;

/// The mode of a regular file that others than its owner may read or write.
#[cfg(unix)]
fn mode_for_others(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    (metadata.is_file() && mode & 0o077 != 0).then_some(mode)
}

/// Elsewhere who may read a file is not told by a mode.
#[cfg(not(unix))]
fn mode_for_others(_: &Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests;
