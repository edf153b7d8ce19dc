//! A server's settings file, read again while the server runs: what comes of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrotunnel::{Cidr, ErrorPages, PrincipalConfig, RunningServer};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::args::{PluginArgs, ServerArgs};
use crate::control::{Asker, Control};
use crate::failure::Failure;
use crate::layers::Given;
use crate::occasion::Occasion;
use crate::output::{self, Output};
use crate::settings::{
    NewPlugins, Places, PluginSettings, Plugins, ServerSettings, changes, limits, token,
};
use crate::settings_file::SettingsFile;
use crate::value::Secret;

/// Reads a settings file again whenever that is asked for, and when the file has changed.
pub(crate) struct Reload {
    path: PathBuf,
    /// What wins over the file.
    given: Given<ServerArgs>,
    /// What the server was started with.
    running: ServerArgs,
    token: Option<Secret>,
    /// Where it listens on sockets of its own.
    places: Places,
    plugins: Option<Plugins>,
    occasion: Occasion,
}

impl Reload {
    /// To be called before the file is read for the first time, so that no change falls in between.
    pub(crate) fn of(path: &Path, given: Given<ServerArgs>) -> Result<Self, Failure> {
        Ok(Self {
            path: path.to_owned(),
            given,
            running: ServerArgs::default(),
            token: None,
            places: Places::default(),
            plugins: None,
            occasion: Occasion::of(path)?,
        })
    }

    /// What the server runs with from now on.
    pub(crate) fn runs_with(&mut self, running: ServerArgs, token: Option<Secret>, places: Places) {
        (self.running, self.token, self.places) = (running, token, places);
    }

    /// The plugins that the server has at first.
    pub(crate) fn has_plugins(&mut self, plugins: Plugins) {
        self.plugins = Some(plugins);
    }

    /// From now on it can be asked for there, too.
    pub(crate) fn listens_on(&mut self, control: Control) {
        self.occasion.listens_on(control);
    }

    /// Somebody asks for it elsewhere: the file is due.
    pub(crate) fn is_asked_by(&mut self, asker: Asker) {
        self.occasion.is_asked_by(asker);
    }

    /// Resolves when the file should be read again. Safe to drop and call again.
    pub(crate) async fn due(&mut self) {
        self.occasion.due().await;
    }

    /// Reads the file, changes what can be changed while the server runs, and tells everybody who wants to know.
    pub(crate) async fn run(&mut self, server: &RunningServer, output: &Output) {
        let event = self.outcome(server, output).await;
        output.event(&event);
        self.occasion.came_to(&event);
    }

    async fn outcome(&mut self, server: &RunningServer, output: &Output) -> Value {
        let said = match self.read().await {
            Ok(said) => said,
            Err(failure) => return refused(&failure),
        };
        // What may fail comes before anything is changed.
        let new_plugins = match &self.plugins {
            None => None,
            Some(plugins) => {
                match new_plugins(plugins.settings().clone(), said.args.plugins.clone()).await {
                    Ok(new) => Some(new),
                    Err(failure) => return refused(&failure),
                }
            }
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
        server.set_error_pages(said.error_pages);
        let proxies = said.args.trusted_proxies.iter().flatten().map(Cidr::to_string);
        if let Err(error) = server.set_trusted_proxies(proxies) {
            output::warning(format_args!("{error}; the proxies of before stay trusted"));
        }
        if let (Some(plugins), Some(new)) = (&mut self.plugins, new_plugins) {
            plugins.change(new);
            server.set_request_plugins(plugins.all());
        }
        if let Err(error) = server.reload_certificates() {
            output::warning(format_args!("{error}; the certificates of before stay in use"));
        }
        let mut restart_needed = changes(&self.running, &said.args);
        if said.token.is_none_or(|token| token != self.token) {
            restart_needed.insert(0, "token");
        }
        name_restarts(&self.path, &restart_needed);
        output.talk(format_args!("settings reloaded; principals: {count}"));
        json!({
            "event": "reloaded",
            "principals": count,
            "restart_needed": restart_needed,
        })
    }

    async fn read(&self) -> Result<Said, Failure> {
        let (path, given) = (self.path.clone(), self.given.clone());
        let (running, places) = (self.running.clone(), self.places);
        let said = spawn_blocking(move || Said::read(&path, given, &running, places)).await;
        said.unwrap_or_else(|error| Err(Failure::failed(error.to_string())))
    }
}

/// Plugins of other settings, with an access log that is open.
async fn new_plugins(before: PluginSettings, args: PluginArgs) -> Result<NewPlugins, Failure> {
    let settings = PluginSettings::new(args.without_halves())?;
    let path = settings.log_path().map(Path::to_owned).unwrap_or_default();
    let opening = spawn_blocking(move || settings.in_place_of(&before));
    match timeout(OPEN_WITHIN, opening).await {
        Ok(opened) => opened.unwrap_or_else(|error| Err(Failure::failed(error.to_string()))),
        // The thread that waits is left to itself; whatever it may open one day, it closes.
        Err(_) => Err(Failure::failed(format!(
            "--access-log: {} cannot be opened within {OPEN_WITHIN:?}: if it is a pipe nobody reads from it",
            path.display()
        ))),
    }
}

/// For a disk that has gone to sleep.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// What the sources say now, all together.
struct Said {
    args: ServerArgs,
    /// Unless it is in a file that cannot be read now.
    token: Option<Option<Secret>>,
    principals: Vec<PrincipalConfig>,
    error_pages: ErrorPages,
}

impl Said {
    fn read(
        path: &Path,
        given: Given<ServerArgs>,
        running: &ServerArgs,
        places: Places,
    ) -> Result<Self, Failure> {
        let file = load(path, "server")?;
        let args = given.over_file(file.server.unwrap_or_default()).resolve();
        // It holds until a restart: a file that is gone, or a pipe that was read at the start, is no reason
        // to leave a user in who was taken out.
        let token = match (&args.token.token, &args.token.token_file) {
            (None, Some(path)) if !path.is_file() => None,
            (None, Some(_)) => token(args.token.clone()).ok(),
            _ => Some(token(args.token.clone())?),
        };
        let in_file = |why: Failure| why.in_file(path);
        // The next start is not to be the first to find that there is something wrong.
        let error_pages =
            ServerSettings::check_start(args.clone(), file.principals.clone()).map_err(in_file)?;
        places.check(running, &args).map_err(in_file)?;
        Ok(Self { args, token, principals: file.principals, error_pages })
    }
}

/// Reads the settings file of a running server or client.
pub(crate) fn load(path: &Path, whose: &str) -> Result<SettingsFile, Failure> {
    // To open a pipe would be to wait for its writer.
    if path.exists() && !path.is_file() {
        let shown = path.display();
        return Err(Failure::failed(format!(
            "{shown} is no regular file and was read at the start; restart the {whose} to change its settings"
        )));
    }
    let file = SettingsFile::load(path).map_err(|error| error.into_failure(path))?;
    if let Some(warning) = file.warning() {
        output::warning(warning);
    }
    Ok(file)
}

/// Warns of what is said otherwise now, and changes at the next start only.
pub(crate) fn name_restarts(path: &Path, restart_needed: &[&str]) {
    if !restart_needed.is_empty() {
        output::warning(format_args!(
            "changed in {}, but in force only after a restart: {}",
            path.display(),
            restart_needed.join(", ")
        ));
    }
}

/// Nothing was changed, and why.
pub(crate) fn refused(failure: &Failure) -> Value {
    for message in failure.messages() {
        output::warning(message);
    }
    output::warning("the settings were not reloaded; those of before stay in force");
    json!({ "event": "reload_refused", "errors": failure.messages() })
}
