//! `ferrotunnel tcp`: a local TCP service on a public port.

use super::forward::forward;
use crate::args::TcpArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::ClientSettings;
use crate::settings_file::SettingsFile;
use crate::tunnel::TunnelSettings;

pub(super) async fn run(args: TcpArgs, output: &Output) -> Result<(), Failure> {
    let file = SettingsFile::asked_for(&args.config)?.client.unwrap_or_default();
    let tunnel = TunnelSettings::Tcp {
        local_addr: args.target,
        remote_port: args.remote_port,
        streams: args.streams,
        sharing: args.sharing.into(),
        local_tls: args.local_tls.into(),
        access: args.access.into(),
    };
    // How to reach the server is the file's to say; the tunnel has been given.
    let layers = args.connect.over_file(file.connect);
    let mut settings = ClientSettings::resolve(layers, vec![tunnel])?;
    settings.config_file = args.config.config;
    forward(settings, None, output).await
}
