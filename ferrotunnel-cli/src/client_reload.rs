//! A client's settings file, read again while the client runs: its tunnels change, the rest is named.

use std::path::{Path, PathBuf};

use ferrotunnel::{Client, Tunnel, TunnelChanges};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::args::ConnectArgs;
use crate::control::{Asker, Control};
use crate::failure::Failure;
use crate::layers::Given;
use crate::occasion::Occasion;
use crate::output::Output;
use crate::reload::{load, name_restarts, refused};
use crate::settings::{ClientSettings, client_changes};
use crate::tunnel::TunnelSettings;

/// Reads a client's settings file again whenever that is asked for, and when the file has changed.
pub(crate) struct ClientReload {
    path: PathBuf,
    /// What wins over the file.
    given: Given<ConnectArgs>,
    /// The tunnel of the command line, which stands for those of the file.
    given_tunnel: Option<TunnelSettings>,
    /// What the client was started with.
    running: ConnectArgs,
    occasion: Occasion,
}

impl ClientReload {
    /// To be called before the file is read for the first time, so that no change falls in between.
    pub(crate) fn of(path: &Path, given: Given<ConnectArgs>) -> Result<Self, Failure> {
        Ok(Self {
            path: path.to_owned(),
            given,
            given_tunnel: None,
            running: ConnectArgs::default(),
            occasion: Occasion::of(path)?,
        })
    }

    /// What the client runs with from now on.
    pub(crate) fn runs_with(&mut self, running: ConnectArgs, given_tunnel: Option<TunnelSettings>) {
        (self.running, self.given_tunnel) = (running, given_tunnel);
    }

    /// Somebody asks for it elsewhere: the file is due.
    pub(crate) fn is_asked_by(&mut self, asker: Asker) {
        self.occasion.is_asked_by(asker);
    }

    /// From now on it can be asked for there, too.
    pub(crate) fn listens_on(&mut self, control: Control) {
        self.occasion.listens_on(control);
    }

    /// Resolves when the file should be read again. Safe to drop and call again.
    pub(crate) async fn due(&mut self) {
        self.occasion.due().await;
    }

    /// Reads the file, changes the tunnels, and tells what came of it.
    pub(crate) async fn run(&mut self, client: &Client, output: &Output) {
        let event = match self.change(client, output).await {
            Ok(event) => event,
            Err(failure) => refused(&failure),
        };
        output.event(&event);
        self.occasion.came_to(&event);
    }

    async fn change(&self, client: &Client, output: &Output) -> Result<Value, Failure> {
        let (path, given, tunnel) =
            (self.path.clone(), self.given.clone(), self.given_tunnel.clone());
        let said = spawn_blocking(move || Said::read(&path, given, tunnel)).await;
        let said = said.unwrap_or_else(|error| Err(Failure::failed(error.to_string())))?;
        let changed = client.set_tunnels(said.tunnels).await;
        let changed = changed
            .map_err(|error| Failure::failed(format!("{}: {error}", self.path.display())))?;
        let restart_needed = client_changes(&self.running, &said.args);
        name_restarts(&self.path, &restart_needed);
        let TunnelChanges { added, changed, removed, unchanged, .. } = changed;
        output.talk(format_args!(
            "settings reloaded; tunnels: {added} added, {changed} changed, {removed} removed, {unchanged} as before"
        ));
        Ok(json!({
            "event": "reloaded",
            "added": added,
            "changed": changed,
            "removed": removed,
            "unchanged": unchanged,
            "restart_needed": restart_needed,
        }))
    }
}

/// What the sources say now, all together.
struct Said {
    args: ConnectArgs,
    tunnels: Vec<Tunnel>,
}

impl Said {
    fn read(
        path: &Path,
        given: Given<ConnectArgs>,
        given_tunnel: Option<TunnelSettings>,
    ) -> Result<Self, Failure> {
        let file = load(path, "client")?;
        let client = file.client.unwrap_or_default();
        let in_file = |why: Failure| why.in_file(path);
        let tunnels = given_tunnel.map_or(client.tunnels, |tunnel| vec![tunnel]);
        if tunnels.is_empty() {
            return Err(in_file(Failure::failed("there is no tunnel in it any more")));
        }
        let args = given.over_file(client.connect).resolve();
        // The next start is not to be the first to find that there is something wrong.
        ClientSettings::check_start(args.clone(), tunnels.clone()).map_err(in_file)?;
        Ok(Self { args, tunnels: tunnels.into_iter().map(Tunnel::from).collect() })
    }
}
