//! What a server may be told about visitors over TLS.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::value;

/// Without `--https-bind` there is no HTTPS, and none of the others is of use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "HTTPS")]
pub(crate) struct HttpsArgs {
    /// Where visitors of HTTP tunnels come in over TLS, and those of TLS tunnels; with the address of --bind, clients share
    /// the port
    #[arg(long, env = "FERROTUNNEL_HTTPS_BIND", value_name = "IP:PORT", value_parser = value::listen_addr)]
    pub(crate) https_bind: Option<SocketAddr>,
    /// Certificate chain for visitors, PEM; also shown to those who ask for a host without a certificate
    #[arg(long, env = "FERROTUNNEL_HTTPS_CERT", value_name = "FILE")]
    pub(crate) https_cert: Option<PathBuf>,
    /// Private key of --https-cert, PEM
    #[arg(long, env = "FERROTUNNEL_HTTPS_KEY", value_name = "FILE")]
    pub(crate) https_key: Option<PathBuf>,
    /// A directory of certificates for visitors, each NAME.pem or NAME.crt with NAME.key beside it; it is watched
    #[arg(long, env = "FERROTUNNEL_HTTPS_CERT_DIR", value_name = "DIR")]
    pub(crate) https_cert_dir: Option<PathBuf>,
    /// Send visitors who come without TLS to HTTPS
    #[arg(long, env = "FERROTUNNEL_HTTPS_REDIRECT", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) https_redirect: Option<bool>,
    /// Speak TLS 1.3 only with visitors
    #[arg(long, env = "FERROTUNNEL_HTTPS_TLS13_ONLY", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) https_tls13_only: Option<bool>,
    /// Get certificates for the hosts of clients from an ACME server, to whose terms you agree by this, and keep them in
    /// this directory, which is made if need be
    #[arg(long, env = "FERROTUNNEL_ACME_DIR", value_name = "DIR")]
    pub(crate) acme_dir: Option<PathBuf>,
    /// The directory of the ACME server [default: that of Let's Encrypt]
    #[arg(long, env = "FERROTUNNEL_ACME_SERVER", value_name = "URL", value_parser = value::https_url)]
    pub(crate) acme_server: Option<String>,
    /// Whom the ACME server may write to
    #[arg(long, env = "FERROTUNNEL_ACME_EMAIL", value_name = "ADDRESS", value_parser = value::email)]
    pub(crate) acme_email: Option<String>,
    /// What the CA calls the key of your account with it, where it wants one (external account binding)
    #[arg(long, env = "FERROTUNNEL_ACME_EAB_KEY_ID", value_name = "ID", value_parser = value::eab_key_id)]
    pub(crate) acme_eab_key_id: Option<String>,
    /// A file with that key, in base64url as the CA gives it
    #[arg(long, env = "FERROTUNNEL_ACME_EAB_KEY_FILE", value_name = "FILE")]
    pub(crate) acme_eab_key_file: Option<PathBuf>,
    /// CAs, PEM: one of them must have issued the certificate of the ACME server itself [default: those of the system]
    #[arg(long, env = "FERROTUNNEL_ACME_SERVER_CA", value_name = "FILE")]
    pub(crate) acme_server_ca: Option<PathBuf>,
    /// A program that publishes records in the DNS; with it one certificate for all names under --domain is ordered
    #[arg(long, env = "FERROTUNNEL_ACME_DNS_HOOK", value_name = "PROGRAM")]
    pub(crate) acme_dns_hook: Option<PathBuf>,
}
