//! The admin interface of a server or client, and what a server's metrics read.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use ferrotunnel_core::server::{self, ServerEngine};
use ferrotunnel_core::{Listen, StartError};
use ferrotunnel_http::Https;
use ferrotunnel_observability::{Admin, AdminToken, Certificate, Overview, Watched, check_bind};
use tokio::net::TcpListener;

use crate::error::Error;
use crate::server::BindAddr;

/// As a builder was told.
#[derive(Clone, Default)]
pub(crate) struct AdminTold {
    pub(crate) bind: Option<BindAddr>,
    /// Where its port is taken, one of the next will do.
    pub(crate) or_next: bool,
    pub(crate) token: Option<String>,
}

impl std::fmt::Debug for AdminTold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "..");
        f.debug_struct("AdminTold").field("bind", &self.bind).field("token", &token).finish()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct AdminSettings {
    bind: SocketAddr,
    or_next: bool,
    token: Option<AdminToken>,
}

impl AdminTold {
    pub(crate) fn resolve(self) -> Result<Option<AdminSettings>, Error> {
        let invalid = |setting: &str, error| Error::config(format!("{setting}: {error}"));
        let token = self.token.as_deref().map(AdminToken::new).transpose();
        let token = token.map_err(|error| invalid("admin_token", error))?;
        let Some(bind) = self.bind else {
            return match token {
                None => Ok(None),
                Some(_) => {
                    Err(Error::config("admin_token is of no use without admin_bind; set that too"))
                }
            };
        };
        let bind = bind.resolve("admin_bind")?;
        check_bind(bind, token.as_ref()).map_err(|error| invalid("admin_bind", error))?;
        Ok(Some(AdminSettings { bind, or_next: self.or_next, token }))
    }
}

impl AdminSettings {
    /// Binds, and answers from then on.
    pub(crate) fn start(self, overview: &Arc<Overview>) -> Result<Admin, Error> {
        let admin = Admin::start(self.listen()?, self.token, Arc::clone(overview));
        admin.map_err(|error| Error::config(format!("admin_bind: {error}")))
    }

    fn listen(&self) -> Result<TcpListener, StartError> {
        let bind = |addr| server::bind(Listen::At(addr), "admin_bind");
        let mut tried = bind(self.bind);
        if self.or_next && self.bind.port() != 0 {
            for more in 1..PORTS_TRIED {
                match (&tried, self.bind.port().checked_add(more)) {
                    (Err(StartError::Bind { source, .. }), Some(port))
                        if source.kind() == ErrorKind::AddrInUse =>
                    {
                        tried = bind(SocketAddr::new(self.bind.ip(), port));
                    }
                    _ => break,
                }
            }
        }
        tried
    }
}

/// As many programs of one user as there may be at once; beyond that something else is wrong.
const PORTS_TRIED: u16 = 32;

/// What metrics read of a running server. They do not keep it.
pub(crate) fn watched(engine: &ServerEngine, https: Option<&Arc<Https>>) -> Watched {
    let https = https.map(Arc::downgrade);
    let certificates = move || {
        let https = https.as_ref().and_then(|https| https.upgrade());
        let expiries = https.map(|https| https.expiries()).unwrap_or_default();
        expiries
            .into_iter()
            .map(|expiry| Certificate { names: expiry.names, not_after: expiry.not_after })
            .collect()
    };
    Watched {
        engine: engine.reader(),
        control: engine.control(),
        certificates: Box::new(certificates),
    }
}
