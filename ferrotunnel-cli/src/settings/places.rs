//! Where a server would listen after a restart, looked at while it runs.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::{DEFAULT_BIND, DEFAULT_HTTP_BIND};
use crate::args::ServerArgs;
use crate::failure::Failure;
use crate::systemd::Sockets;

/// Which listeners a server opens itself, as opposed to those that it was passed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    tunnel: bool,
    http: bool,
    https: bool,
}

impl Places {
    /// All that were not passed.
    pub(crate) fn beside(sockets: &Sockets) -> Self {
        Self {
            tunnel: sockets.tunnel.is_none(),
            http: sockets.http.is_none(),
            https: sockets.https.is_none(),
        }
    }

    /// Whether the addresses that `said` has in other words than `running` can be listened on. One that is in use
    /// may be so by this very server.
    pub(crate) fn check(self, running: &ServerArgs, said: &ServerArgs) -> Result<(), Failure> {
        let bind = |args: &ServerArgs| args.bind.unwrap_or(DEFAULT_BIND);
        let http = |args: &ServerArgs| args.http_bind.unwrap_or(DEFAULT_HTTP_BIND);
        let https = |args: &ServerArgs| args.https.https_bind;
        let tcp = |args: &ServerArgs| args.tcp_bind_ip.map(|ip| SocketAddr::new(ip, 0));
        let wanted = [
            ("bind", self.tunnel, Some(bind(running)), Some(bind(said))),
            ("http-bind", self.http, Some(http(running)), Some(http(said))),
            ("https-bind", self.https, https(running), https(said)),
            ("tcp-bind-ip", true, tcp(running), tcp(said)),
        ];
        for (setting, is_ours, before, addr) in wanted {
            let Some(addr) = addr.filter(|_| is_ours && before != addr) else { continue };
            match TcpListener::bind(addr) {
                Err(error) if error.kind() != ErrorKind::AddrInUse => {
                    return Err(Failure::failed(format!(
                        "--{setting}: cannot listen on {addr}: {error}"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
