//! `ferrotunnel tcp`: a local TCP service on a public port.

use super::forward::forward_one;
use crate::args::TcpArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::tunnel::TunnelSettings;

pub(super) async fn run(args: TcpArgs, output: &Output) -> Result<(), Failure> {
    let tunnel = TunnelSettings::Tcp {
        local_addr: args.target,
        remote_port: args.remote_port,
        streams: args.streams,
        sharing: args.sharing.into(),
        local_tls: args.local_tls.into(),
        access: args.access.into(),
    };
    forward_one(args.connect, &args.config, tunnel, output).await
}
