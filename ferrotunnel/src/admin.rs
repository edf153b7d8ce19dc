//! The admin interface of a server, and what its metrics read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ferrotunnel_core::Listen;
use ferrotunnel_core::server::{self, ServerEngine};
use ferrotunnel_http::Https;
use ferrotunnel_observability::{
    Admin, AdminAbout, AdminToken, Certificate, ServerMetrics, Watched, check_bind,
};

use crate::error::Error;
use crate::server::BindAddr;

/// As the builder was told.
#[derive(Clone, Default)]
pub(crate) struct AdminTold {
    pub(crate) bind: Option<BindAddr>,
    pub(crate) token: Option<String>,
    pub(crate) config_file: Option<PathBuf>,
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
    token: Option<AdminToken>,
    config_file: Option<PathBuf>,
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
        Ok(Some(AdminSettings { bind, token, config_file: self.config_file }))
    }
}

impl AdminSettings {
    /// Binds, and answers from then on.
    pub(crate) fn start(self, metrics: Option<&ServerMetrics>) -> Result<Admin, Error> {
        let listener = server::bind(Listen::At(self.bind), "admin_bind")?;
        let metrics = metrics.cloned().unwrap_or_default();
        let mut about = AdminAbout::default();
        (about.token, about.config_file) = (self.token, self.config_file);
        let admin = Admin::of_server(listener, about, metrics);
        admin.map_err(|error| Error::config(format!("admin_bind: {error}")))
    }
}

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
