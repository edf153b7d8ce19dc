//! The doors of a server for visitors, and what was said about the one with TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use ferrotunnel_core::server;
use ferrotunnel_http::{AcmeConfig, HttpIngress, Https, HttpsConfig, OldestTls};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::error::Error;
use crate::place::{Lent, Place};
use crate::server::Wanted;

/// The HTTPS ingress.
#[derive(Clone, Debug)]
pub(crate) struct HttpsSettings {
    pub(crate) bind: Place,
    pub(crate) config: HttpsConfig,
    /// Clients dial their carriers there too, and nowhere else.
    pub(crate) is_shared: bool,
    /// Who comes without TLS is sent there.
    pub(crate) redirects: bool,
}

/// A listener of visitors.
pub(crate) struct Opened {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
}

/// The names are those of the settings: of a socket that was handed over, and of an address.
pub(crate) fn open(
    place: Option<Place>,
    [handed_over, bound]: [&'static str; 2],
) -> Result<(Option<Opened>, Option<Lent>), Error> {
    let Some(place) = place else { return Ok((None, None)) };
    let (listen, lent) = place.lend(handed_over)?;
    let listener = server::bind(listen, bound)?;
    let addr = listener.local_addr()?;
    Ok((Some(Opened { listener, addr }), lent))
}

/// Both doors of the visitors of HTTP tunnels, until they have been told to stop and have drained.
pub(crate) fn serve(
    ingress: Arc<HttpIngress>,
    http: Option<Opened>,
    https: Option<(Arc<Https>, Opened)>,
    stop: &watch::Sender<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let (stop, stop_secure) = (stop.subscribe(), stop.subscribe());
    let secure = Arc::clone(&ingress);
    let plain = async move {
        if let Some(http) = http {
            ingress.serve(http.listener, stop).await;
        }
    };
    let secure = async move {
        let Some((https, Opened { listener, .. })) = https else { return };
        let looking = async {
            Arc::clone(&https).watch().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = secure.serve_https(Arc::clone(&https), listener, stop_secure) => {}
            () = looking => {}
        }
    };
    async move {
        tokio::join!(plain, secure);
    }
}

/// What can be told without asking the server.
pub(crate) fn check_acme(acme: &AcmeConfig) -> Result<(), Error> {
    if !acme.server.starts_with("https://") {
        let server = &acme.server;
        return Err(Error::config(format!("acme: {server:?} is no URL that begins with https://")));
    }
    if acme.external.as_ref().is_some_and(|external| external.key_id.is_empty()) {
        return Err(Error::config("acme: the external account has no key id"));
    }
    if acme.dns_hook.is_some() && acme.domain.is_none() {
        return Err(Error::config(
            "acme: a program that writes to the DNS (dns_hook, --acme-dns-hook) is for all names under a domain, and \
             there is none; set domain (--domain)",
        ));
    }
    Ok(())
}

/// What else was said that has to do with HTTPS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) clients_on_https_port: bool,
    pub(crate) redirect_to_https: bool,
    pub(crate) plaintext: bool,
}

pub(crate) fn https_settings(
    bind: Option<Wanted>,
    config: HttpsConfig,
    tunnel: &Place,
    wishes: Wishes,
) -> Result<Option<HttpsSettings>, Error> {
    let is_without =
        config.identity.is_none() && config.directory.is_none() && config.acme.is_none();
    let Some(bind) = bind else {
        let unused = match config {
            _ if wishes.clients_on_https_port => "clients_on_https_port",
            _ if wishes.redirect_to_https => "redirect_to_https",
            HttpsConfig { identity: Some(_), .. } => "https_identity_files",
            HttpsConfig { directory: Some(_), .. } => "https_certificate_directory",
            HttpsConfig { acme: Some(_), .. } => "acme",
            HttpsConfig { oldest_tls: OldestTls::V1_3, .. } => "https_tls13_only",
            _ => return Ok(None),
        };
        return Err(Error::config(format!(
            "{unused} is of no use without https_bind; set that too"
        )));
    };
    let bind = bind.resolve("https_bind", "https_listener")?;
    let same = matches!((&bind, tunnel), (Place::At(one), Place::At(other)) if one == other && one.port() != 0);
    let is_shared = wishes.clients_on_https_port || same;
    if is_shared && wishes.plaintext {
        return Err(Error::config(
            "plaintext: carriers on the port of HTTPS are encrypted; drop it, or give clients a port of their own",
        ));
    }
    if is_without {
        return Err(Error::config(
            "https_bind needs certificates: give https_identity_files, https_certificate_directory or acme",
        ));
    }
    let redirects = wishes.redirect_to_https;
    Ok(Some(HttpsSettings { bind, config, is_shared, redirects }))
}
