//! `ferrotunnel tls`: a local service that speaks TLS itself, under a public host name.

use super::forward::forward_one;
use crate::args::TlsArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::tunnel::TunnelSettings;

pub(super) async fn run(args: TlsArgs, output: &Output) -> Result<(), Failure> {
    let tunnel = TunnelSettings::Tls {
        local_addr: args.target,
        name: args.name,
        hosts: args.hosts,
        streams: args.streams,
        sharing: args.sharing.into(),
        access: args.access.into(),
    };
    forward_one(args.connect, &args.config, tunnel, output).await
}
