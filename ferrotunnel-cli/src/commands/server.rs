//! `ferrotunnel server`: the public side.

use std::future::pending;
use std::path::Path;

use ferrotunnel::{AdminWish, AdminWishes, ErrorKind, RunningServer};
use serde_json::json;

use crate::args::ServerCommand;
use crate::control::{Asker, Control, next_asker, show};
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::reload::Reload;
use crate::settings::{Places, ServerSettings, error_pages};
use crate::settings_file::SettingsFile;
use crate::signals::{HangUps, StopSignals};
use crate::systemd::{Manager, Sockets};
use crate::traces::Traces;

pub(super) async fn run(
    args: ServerCommand,
    sockets: Sockets,
    output: &Output,
) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()?;
    let path = args.config.config.as_deref();
    let mut reload = path.map(|path| Reload::of(path, args.given.clone())).transpose()?;
    // With a file it is the reload that listens for them.
    let mut hang_ups = reload.is_none().then(HangUps::listen).transpose()?;
    let file = SettingsFile::asked_for(&args.config)?;
    let layers = args.given.over_file(file.server.unwrap_or_default());
    let running = layers.clone().resolve();
    let mut settings = ServerSettings::resolve(layers, file.principals)?;
    settings.config_file = path.map(Path::to_owned);
    let control = running.control.clone().map(Control::open).transpose()?;
    if let Some(reload) = &mut reload {
        reload.runs_with(running, settings.token().cloned(), Places::beside(&sockets));
    }
    let drain_timeout = settings.drain_timeout();
    let pages = settings.error_pages.clone();
    // It goes last, and what it has to send with it.
    let traces = Traces::start("ferrotunnel-server")?;
    let (settled, plugins) = settings.build(sockets, &traces)?;
    let server = settled.spawn().await.map_err(cannot_start)?;
    // It has the plugins of the start, which a reload may put an end to.
    drop(settled);
    let mut wishes = server.admin_wishes();
    if let Some(reload) = &mut reload {
        reload.has_plugins(plugins);
    }
    let mut control = control;
    let asked = reload.as_mut();
    show(&mut control, server.overview(), asked.map(|it| move |control| it.listens_on(control)));
    announce(&server, output);
    let mut manager = Manager::from_env();
    manager.ready(&status(&server));
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = manager.due() => {
                manager.beat();
                manager.status(&status(&server));
            }
            () = next(&mut hang_ups) => drop(read_files_again(&server, pages.as_deref(), output)),
            asker = next_asker(&mut control) => {
                let read = read_files_again(&server, pages.as_deref(), output);
                asker.tell(&match read {
                    Ok(_) => json!({ "event": "reloaded", "restart_needed": [] }),
                    Err(error) => json!({ "event": "reload_refused", "errors": [error] }),
                });
            }
            wish = wish(&mut wishes) => match (wish, &mut reload) {
                (AdminWish::Drain, _) => break,
                (AdminWish::Reload(reply), Some(reload)) => reload.is_asked_by(Asker::Admin(reply)),
                (AdminWish::Reload(reply), None) => {
                    reply.tell(read_files_again(&server, pages.as_deref(), output));
                }
                _ => {}
            },
            reload = due(&mut reload) => {
                manager.reloading();
                // Its file may lie on a disk that does not answer.
                tokio::select! {
                    () = signals.next() => break,
                    () = manager.beating(reload.run(&server, output)) => {}
                }
                manager.reloaded();
            }
        }
    }
    // Nobody asks any more, and the next server may listen there.
    drop((reload, control, wishes));
    manager.stopping(drain_timeout);
    signals.drain(output, drain_timeout, manager.beating(server.shutdown())).await
}

/// All that there is to read where there is no settings file.
fn read_files_again(
    server: &RunningServer,
    pages: Option<&Path>,
    output: &Output,
) -> Result<String, String> {
    let mut wrong = Vec::new();
    match error_pages(pages) {
        Ok(pages) => server.set_error_pages(pages),
        Err(failure) => {
            for message in failure.messages() {
                output::warning(format_args!("{message}; the pages of before stay in use"));
            }
            wrong.extend_from_slice(failure.messages());
        }
    }
    match server.reload_certificates() {
        Ok(()) => {
            output.event(&json!({ "event": "certificates_reloaded" }));
            output.talk("certificates are read again; there is no settings file to read");
        }
        Err(error) => {
            output::warning(format_args!("{error}; the certificates of before stay in use"));
            wrong.push(error.to_string());
        }
    }
    match wrong.is_empty() {
        true => Ok("certificates and pages were read again; there is no settings file".to_owned()),
        false => Err(wrong.join("; ")),
    }
}

/// Resolves when the admin interface is asked for something, if there is one.
pub(super) async fn wish(wishes: &mut Option<AdminWishes>) -> AdminWish {
    match wishes {
        Some(wishes) => wishes.next().await,
        None => pending().await,
    }
}

/// Resolves at the next SIGHUP, if nobody else listens for them.
async fn next(hang_ups: &mut Option<HangUps>) {
    match hang_ups {
        Some(hang_ups) => hang_ups.next().await,
        None => pending().await,
    }
}

/// Resolves when the settings file should be read again, if there is one.
async fn due(reload: &mut Option<Reload>) -> &mut Reload {
    match reload {
        Some(reload) => {
            reload.due().await;
            reload
        }
        None => pending().await,
    }
}

/// One line for whoever supervises it.
fn status(server: &RunningServer) -> String {
    let (sessions, tunnels, streams) = (server.sessions(), server.tunnels(), server.streams());
    format!("sessions: {sessions}, tunnels: {tunnels}, streams: {streams}")
}

/// The library names its own setting; who types has flags.
fn cannot_start(error: ferrotunnel::Error) -> Failure {
    match error.kind() {
        ErrorKind::AddrInUse => Failure::failed(format!(
            "{error}; choose another with --bind, --http-bind, --https-bind or --admin-bind"
        )),
        _ => error.into(),
    }
}

fn announce(server: &RunningServer, output: &Output) {
    let (tunnel, http, https) = (server.tunnel_addr(), server.http_addr(), server.https_addr());
    output.event(&json!({
        "event": "listening",
        "tunnel_addr": tunnel,
        "http_addr": http,
        "https_addr": https,
        "admin_addr": server.admin_addr(),
    }));
    output.talk(format_args!("clients dial {tunnel}"));
    if let Some(http) = http {
        output.talk(format_args!("visitors of HTTP tunnels come in on {http}"));
    }
    if let Some(https) = https {
        output.talk(format_args!("visitors of HTTP tunnels come in over TLS on {https}"));
    }
    if let Some(admin) = server.admin_addr() {
        output.talk(format_args!("the admin interface listens on {admin}"));
    }
}
