//! `ferrotunnel tls`: a local service that speaks TLS itself, under a public host name.

use super::forward::forward;
use crate::args::TlsArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::ClientSettings;
use crate::settings_file::SettingsFile;
use crate::tunnel::TunnelSettings;

pub(super) async fn run(args: TlsArgs, output: &Output) -> Result<(), Failure> {
    let file = SettingsFile::asked_for(&args.config)?.client.unwrap_or_default();
    let tunnel = TunnelSettings::Tls {
        local_addr: args.target,
        name: args.name,
        hosts: args.hosts,
        streams: args.streams,
        sharing: args.sharing.into(),
        access: args.access.into(),
    };
    // How to reach the server is the file's to say; the tunnel has been given.
    let layers = args.connect.over_file(file.connect);
    let mut settings = ClientSettings::resolve(layers, vec![tunnel])?;
    settings.config_file = args.config.config;
    forward(settings, None, output).await
}
