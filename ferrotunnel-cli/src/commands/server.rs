//! `ferrotunnel server`: the public side.

use std::net::SocketAddr;

use ferrotunnel::{ErrorKind, RunningServer};
use serde_json::json;

use crate::args::ServerCommand;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::ServerSettings;
use crate::settings_file::SettingsFile;
use crate::signals::StopSignals;
use crate::systemd::{Manager, Sockets};

pub(super) async fn run(
    args: ServerCommand,
    sockets: Sockets,
    output: &Output,
) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()?;
    let file = SettingsFile::asked_for(&args.config)?;
    let layers = args.given.over_file(file.server.unwrap_or_default());
    let settings = ServerSettings::resolve(layers, file.principals)?;
    let drain_timeout = settings.drain_timeout();
    let server = settings.build(sockets)?.spawn().await.map_err(cannot_start)?;
    announce(server.tunnel_addr(), server.http_addr(), output);
    let mut manager = Manager::from_env();
    manager.ready(&status(&server));
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = manager.due() => {
                manager.beat();
                manager.status(&status(&server));
            }
        }
    }
    manager.stopping(drain_timeout);
    signals.drain(output, drain_timeout, manager.beating(server.shutdown())).await
}

/// One line for whoever supervises it.
fn status(server: &RunningServer) -> String {
    let (sessions, tunnels, streams) = (server.sessions(), server.tunnels(), server.streams());
    format!("sessions: {sessions}, tunnels: {tunnels}, streams: {streams}")
}

/// The library names its own setting; who types has flags.
fn cannot_start(error: ferrotunnel::Error) -> Failure {
    match error.kind() {
        ErrorKind::AddrInUse => {
            Failure::failed(format!("{error}; choose another with --bind or --http-bind"))
        }
        _ => error.into(),
    }
}

fn announce(tunnel: SocketAddr, http: Option<SocketAddr>, output: &Output) {
    output.event(&json!({ "event": "listening", "tunnel_addr": tunnel, "http_addr": http }));
    output.talk(format_args!("clients dial {tunnel}"));
    if let Some(http) = http {
        output.talk(format_args!("visitors of HTTP tunnels come in on {http}"));
    }
}
