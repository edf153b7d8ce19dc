//! `ferrotunnel http`: a local HTTP service under a public host name.

use super::forward::forward;
use crate::args::HttpArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::ClientSettings;
use crate::settings_file::SettingsFile;
use crate::tunnel::TunnelSettings;

pub(super) async fn run(args: HttpArgs, output: &Output) -> Result<(), Failure> {
    let file = SettingsFile::asked_for(&args.config)?.client.unwrap_or_default();
    let tunnel = TunnelSettings::Http {
        local_addr: args.target,
        name: args.name,
        hosts: args.hosts,
        path: args.path.unwrap_or_default(),
        strip_path: args.strip_path,
        http2: args.http2,
        sharing: args.sharing.into(),
        local_tls: args.local_tls.into(),
        access: args.access.with_http(args.http_access)?,
        headers: args.headers.read()?,
    };
    // How to reach the server is the file's to say; the tunnel has been given.
    let layers = args.connect.over_file(file.connect);
    let mut settings = ClientSettings::resolve(layers, vec![tunnel])?;
    settings.config_file = args.config.config;
    if output.is_for_people() {
        settings.is_looked_after();
    }
    forward(settings, None, output).await
}
