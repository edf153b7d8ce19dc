//! `ferrotunnel server`: the public side.

use std::net::SocketAddr;

use ferrotunnel::ErrorKind;
use serde_json::json;

use crate::args::ServerCommand;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{ServerSettings, refuse_principals};
use crate::settings_file::SettingsFile;
use crate::signals::StopSignals;

pub(super) async fn run(args: ServerCommand, output: &Output) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()?;
    let file = SettingsFile::asked_for(&args.config)?;
    refuse_principals(&file.principals)?;
    let layers = args.given.over_file(file.server.unwrap_or_default());
    let server = ServerSettings::resolve(layers)?.build()?;
    let server = server.spawn().await.map_err(cannot_start)?;
    announce(server.tunnel_addr(), server.http_addr(), output);
    signals.next().await;
    signals.drain(output, server.shutdown()).await
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
