//! What `client`, `http`, `tcp` and `tls` share: run one client until it ends or is told to stop.

use std::future::pending;

use ferrotunnel::{AdminWish, ErrorKind};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::server::wish;
use crate::args::{ConfigArg, ConnectArgs};
use crate::client_reload::ClientReload;
use crate::control::{Asker, Control, next_asker, show};
use crate::failure::Failure;
use crate::layers::Given;
use crate::output::Output;
use crate::report::Reporter;
use crate::settings::ClientSettings;
use crate::settings_file::SettingsFile;
use crate::signals::StopSignals;
use crate::standing::Standing;
use crate::systemd::Manager;
use crate::traces::Traces;
use crate::tunnel::TunnelSettings;

/// A client with the one tunnel that was given; how to reach the server is the settings file's to say, too.
pub(super) async fn forward_one(
    connect: Given<ConnectArgs>,
    config: &ConfigArg,
    tunnel: TunnelSettings,
    output: &Output,
) -> Result<(), Failure> {
    let file = SettingsFile::asked_for(config)?.client.unwrap_or_default();
    let layers = connect.over_file(file.connect);
    let mut settings = ClientSettings::resolve(layers, vec![tunnel])?;
    settings.config_file.clone_from(&config.config);
    forward(settings, None, output).await
}

/// With a `reload` its tunnels change with the settings file, from when there are any.
pub(super) async fn forward(
    mut settings: ClientSettings,
    mut reload: Option<ClientReload>,
    output: &Output,
) -> Result<(), Failure> {
    // Whoever shows a site to somebody wants to see who comes.
    if output.is_for_people() && settings.has_http() {
        settings.is_looked_after();
    }
    let mut signals = StopSignals::listen()?;
    let mut reporter = Reporter::new(*output, settings.servers().len(), settings.server_mode());
    let mut standing = Standing::new(settings.server_mode());
    let servers: Vec<String> = settings.servers().iter().map(ToString::to_string).collect();

    let drain_timeout = settings.drain_timeout();
    // It goes last, and what it has to send with it.
    let traces = Traces::start("ferrotunnel-client")?;
    let mut control = settings.control().map(Control::open).transpose()?;
    let client = settings.build(&traces)?;
    let asked = reload.as_mut();
    show(&mut control, client.overview(), asked.map(|it| move |control| it.listens_on(control)));
    client.open_admin().map_err(no_admin)?;
    let mut wishes = client.admin_wishes();
    if let Some(addr) = client.admin_addr() {
        output.event(&json!({ "event": "admin_listening", "admin_addr": addr }));
        output.talk(format_args!("the admin interface listens on http://{addr}"));
    }
    let mut manager = Manager::from_env();
    output.talk(format_args!("connecting to {}", servers.join(", ")));
    let mut events = client.events();
    let has_started = watch::Sender::new(false);
    let running = async {
        client.start().await?;
        has_started.send_replace(true);
        client.wait().await
    };
    tokio::pin!(running);

    let ended = loop {
        tokio::select! {
            // Events first, so that the last ones are written before the end.
            biased;
            event = events.recv() => match event {
                Ok(event) => {
                    reporter.report(&event);
                    standing.take_in(&event);
                    if standing.is_ready() {
                        manager.ready(&standing.line());
                    }
                    manager.status(&standing.line());
                }
                // A slow terminal missed some; the newest are still to come.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break Some(running.await),
            },
            result = &mut running => break Some(result),
            () = signals.next() => break None,
            asker = next_asker(&mut control) => {
                asker.tell(&json!({ "event": "reload_refused", "errors": [NO_FILE] }));
            }
            wish = wish(&mut wishes) => match (wish, &mut reload) {
                (AdminWish::Reload(reply), Some(_)) if !*has_started.borrow() => {
                    reply.tell(Err(NOT_YET.to_owned()));
                }
                (AdminWish::Reload(reply), Some(reload)) => reload.is_asked_by(Asker::Admin(reply)),
                (AdminWish::Reload(reply), None) => reply.tell(Err(NO_FILE.to_owned())),
                (AdminWish::Drain, _) => break None,
                _ => {}
            },
            () = manager.due() => manager.beat(),
            reload = due(&mut reload, has_started.subscribe()) => {
                manager.reloading();
                // Its file may lie on a disk that does not answer.
                tokio::select! {
                    () = manager.beating(reload.run(&client, output)) => {}
                    () = signals.next() => break None,
                }
                manager.reloaded();
            }
        }
    };
    let Some(ended) = ended else {
        // Nobody is heard any more, and whoever asks is told so.
        drop((reload, control, wishes));
        manager.stopping(drain_timeout);
        let draining = manager.beating(client.shutdown());
        return signals.drain(output, drain_timeout, draining).await;
    };
    while let Ok(event) = events.try_recv() {
        reporter.report(&event);
    }
    Ok(ended?)
}

/// The library names its own setting; who types has flags.
fn no_admin(error: ferrotunnel::Error) -> Failure {
    match error.kind() {
        ErrorKind::AddrInUse => {
            Failure::failed(format!("{error}; choose another with --admin-bind, or off"))
        }
        _ => error.into(),
    }
}

/// What there is to say where nothing can be read again.
const NO_FILE: &str = "this client reads its settings at the start only; `ferrotunnel client --config FILE` reads them again";

/// What there is to say while there are no tunnels that could be changed.
const NOT_YET: &str =
    "this client is not connected yet; the settings that it began with are in force";

/// Resolves when the settings file should be read again, if there is one and the client has its tunnels. Who asks before that
/// is refused at once.
async fn due(
    reload: &mut Option<ClientReload>,
    mut has_started: watch::Receiver<bool>,
) -> &mut ClientReload {
    match reload {
        Some(reload) => {
            loop {
                tokio::select! {
                    // The sender lives for longer.
                    _ = has_started.wait_for(|started| *started) => break,
                    asker = reload.asker() => {
                        asker.tell(&json!({ "event": "reload_refused", "errors": [NOT_YET] }));
                    }
                }
            }
            reload.due().await;
            reload
        }
        None => pending().await,
    }
}
