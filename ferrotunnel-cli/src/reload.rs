//! A server's settings file, read again while the server runs: when, and what comes of it.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrotunnel::{Cidr, ErrorPages, FileLook, PrincipalConfig, RunningServer};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::args::ServerArgs;
use crate::control::{Asker, Control};
use crate::failure::Failure;
use crate::layers::Given;
use crate::output::{self, Output};
use crate::settings::{PluginSettings, Plugins, changes, error_pages, limits, token};
use crate::settings_file::SettingsFile;
use crate::signals::HangUps;
use crate::value::Secret;

/// Reads a settings file again whenever that is asked for, and when the file has changed.
pub(crate) struct Reload {
    path: PathBuf,
    /// What wins over the file.
    given: Given<ServerArgs>,
    /// What the server was started with.
    running: ServerArgs,
    token: Option<Secret>,
    plugins: Option<Plugins>,
    hang_ups: HangUps,
    /// Where others than signals ask, if there is such a place.
    control: Option<Control>,
    /// Who asked there, and waits for what comes of it.
    askers: Vec<Asker>,
    /// It was asked for, and has not come to it yet.
    is_asked_for: bool,
    watch: Watch,
    pulse: Interval,
    /// A pipe can be read once.
    is_regular: bool,
}

impl Reload {
    /// To be called before the file is read for the first time, so that no change falls in between.
    pub(crate) fn of(path: &Path, given: Given<ServerArgs>) -> Result<Self, Failure> {
        let mut pulse = interval(LOOK_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            path: path.to_owned(),
            given,
            running: ServerArgs::default(),
            token: None,
            plugins: None,
            hang_ups: HangUps::listen()?,
            control: None,
            askers: Vec::new(),
            is_asked_for: false,
            watch: Watch::new(FileLook::of(path)),
            pulse,
            is_regular: path.is_file(),
        })
    }

    /// What the server runs with from now on.
    pub(crate) fn runs_with(&mut self, running: ServerArgs, token: Option<Secret>) {
        (self.running, self.token) = (running, token);
    }

    /// The plugins that the server has at first.
    pub(crate) fn has_plugins(&mut self, plugins: Plugins) {
        self.plugins = Some(plugins);
    }

    /// From now on it can be asked for there, too.
    pub(crate) fn listens_on(&mut self, control: Control) {
        self.control = Some(control);
    }

    /// Resolves when the file should be read again. Safe to drop and call again.
    pub(crate) async fn due(&mut self) {
        loop {
            if !self.is_asked_for {
                tokio::select! {
                    () = self.hang_ups.next() => self.is_asked_for = true,
                    asker = next_asker(&mut self.control) => {
                        self.askers.push(asker);
                        self.is_asked_for = true;
                    }
                    _ = self.pulse.tick(), if self.is_regular => {}
                }
            }
            let look = self.look().await;
            if std::mem::take(&mut self.is_asked_for) {
                return self.watch.loads(look);
            }
            if self.watch.is_due(look) {
                return;
            }
        }
    }

    /// Reads the file, changes what can be changed while the server runs, and tells everybody who wants to know.
    pub(crate) async fn run(&mut self, server: &RunningServer, output: &Output) {
        let event = self.outcome(server, output).await;
        output.event(&event);
        for asker in self.askers.drain(..) {
            // Who went away has no use for it.
            let _ = asker.send(event.clone());
        }
    }

    async fn outcome(&mut self, server: &RunningServer, output: &Output) -> Value {
        let said = match self.read().await {
            Ok(said) => said,
            Err(failure) => return refused(&failure),
        };
        let count = said.principals.len();
        if let Err(error) = server.set_principals(said.principals) {
            let message = format!("{}: {error}", self.path.display());
            return refused(&Failure::failed(message));
        }
        if count == 0 && self.token.is_none() {
            output::warning("nobody can log in any more: there is neither a principal nor a token");
        }
        if let Err(error) = server.set_limits(&limits(&said.args.limits)) {
            output::warning(format_args!("{error}; the limits of before stay in force"));
        }
        let proxies = said.args.trusted_proxies.iter().flatten().map(Cidr::to_string);
        if let Err(error) = server.set_trusted_proxies(proxies) {
            output::warning(format_args!("{error}; the proxies of before stay trusted"));
        }
        if let Some(plugins) = &mut self.plugins {
            let args = said.args.plugins.clone().without_halves();
            match PluginSettings::new(args).and_then(|settings| plugins.change(settings)) {
                Ok(()) => server.set_request_plugins(plugins.all()),
                Err(failure) => {
                    for message in failure.messages() {
                        output::warning(format_args!(
                            "{message}; the plugins of before stay in use"
                        ));
                    }
                }
            }
        }
        match said.error_pages {
            Ok(pages) => server.set_error_pages(pages),
            Err(failure) => {
                for message in failure.messages() {
                    output::warning(format_args!("{message}; the pages of before stay in use"));
                }
            }
        }
        if let Err(error) = server.reload_certificates() {
            output::warning(format_args!("{error}; the certificates of before stay in use"));
        }
        let mut restart_needed = changes(&self.running, &said.args);
        if said.token.is_none_or(|token| token != self.token) {
            restart_needed.insert(0, "token");
        }
        if !restart_needed.is_empty() {
            output::warning(format_args!(
                "changed in {}, but in force only after a restart: {}",
                self.path.display(),
                restart_needed.join(", ")
            ));
        }
        output.talk(format_args!("settings reloaded; principals: {count}"));
        json!({
            "event": "reloaded",
            "principals": count,
            "restart_needed": restart_needed,
        })
    }

    /// Files may lie on a disk that is far away.
    async fn look(&self) -> FileLook {
        let path = self.path.clone();
        let look = spawn_blocking(move || FileLook::of(&path)).await;
        look.unwrap_or_else(|_| self.watch.loaded.clone())
    }

    async fn read(&self) -> Result<Said, Failure> {
        let (path, given) = (self.path.clone(), self.given.clone());
        let said = spawn_blocking(move || Said::read(&path, given)).await;
        said.unwrap_or_else(|error| Err(Failure::failed(error.to_string())))
    }
}

/// What the sources say now, all together.
struct Said {
    args: ServerArgs,
    /// Unless it is in a file that cannot be read now.
    token: Option<Option<Secret>>,
    principals: Vec<PrincipalConfig>,
    /// They may be unusable without anything else being so.
    error_pages: Result<ErrorPages, Failure>,
}

impl Said {
    fn read(path: &Path, given: Given<ServerArgs>) -> Result<Self, Failure> {
        // To open a pipe would be to wait for its writer.
        if path.exists() && !path.is_file() {
            let shown = path.display();
            return Err(Failure::failed(format!(
                "{shown} is no regular file and was read at the start; restart the server to change its settings"
            )));
        }
        let file = SettingsFile::load(path).map_err(|error| error.into_failure(path))?;
        if let Some(warning) = file.warning() {
            output::warning(warning);
        }
        let args = given.over_file(file.server.unwrap_or_default()).resolve();
        // It holds until a restart: a file that is gone, or a pipe that was read at the start, is no reason
        // to leave a user in who was taken out.
        let token = match (&args.token.token, &args.token.token_file) {
            (None, Some(path)) if !path.is_file() => None,
            (None, Some(_)) => token(args.token.clone()).ok(),
            _ => Some(token(args.token.clone())?),
        };
        let error_pages = error_pages(args.error_pages.as_deref());
        Ok(Self { args, token, principals: file.principals, error_pages })
    }
}

/// Who asks next, if there is a place for it.
async fn next_asker(control: &mut Option<Control>) -> Asker {
    match control {
        Some(control) => control.next().await,
        None => pending().await,
    }
}

fn refused(failure: &Failure) -> Value {
    for message in failure.messages() {
        output::warning(message);
    }
    output::warning("the settings were not reloaded; those of before stay in force");
    json!({ "event": "reload_refused", "errors": failure.messages() })
}

/// When a file that is looked at now and then is to be read. Pure.
///
/// The beginning of a settings file is often a good one too, so a file is left alone while it is being written: it has
/// to look the same twice.
#[derive(Debug)]
struct Watch {
    loaded: FileLook,
    seen: FileLook,
}

impl Watch {
    fn new(look: FileLook) -> Self {
        Self { loaded: look.clone(), seen: look }
    }

    /// It is read now, whatever it looks like.
    fn loads(&mut self, look: FileLook) {
        *self = Self::new(look);
    }

    /// Whether a file that looks like that is to be read now.
    fn is_due(&mut self, look: FileLook) -> bool {
        let rests = look == self.seen;
        let has_changed = look != self.loaded;
        self.seen = look.clone();
        if rests && has_changed {
            self.loaded = look;
        }
        rests && has_changed
    }
}

/// A change takes two looks to be taken over; one look costs a system call.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_when_it_has_come_to_rest() {
        let dir = tempfile::tempdir().unwrap();
        let look = |length: usize| {
            let path = dir.path().join("file");
            std::fs::write(&path, "x".repeat(length)).unwrap();
            FileLook::of(&path)
        };
        let (old, half, new) = (look(1), look(2), look(3));
        let mut watch = Watch::new(old.clone());
        let mut is_due = |look: &FileLook| watch.is_due(look.clone());
        assert!(!is_due(&old));
        assert!(!is_due(&half) && !is_due(&new), "it is being written");
        assert!(is_due(&new), "it rests");
        assert!(!is_due(&new), "it has been read");
        assert!(!is_due(&half) && !is_due(&new), "as if nothing had been");
        watch.loads(half.clone());
        assert!(!watch.is_due(half), "it was read when that was asked for");
    }
}
