//! `ferrotunnel http`: a local HTTP service under a public host name.

use super::forward::forward_one;
use crate::args::HttpArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::tunnel::TunnelSettings;

pub(super) async fn run(args: HttpArgs, output: &Output) -> Result<(), Failure> {
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
    forward_one(args.connect, &args.config, tunnel, output).await
}
