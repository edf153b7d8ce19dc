//! What a client may be told about certificates.

use std::path::PathBuf;

use clap::Args;

use crate::value;

/// Without any of these a client takes every certificate: the token, which is proven over the TLS connection itself,
/// tells whether it is the server.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Certificates")]
pub(crate) struct ClientTlsArgs {
    /// Verify the server's certificate: one of the CAs in this PEM file must have issued it
    #[arg(long, env = "FERROTUNNEL_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Verify the server's certificate against the CAs that the system trusts; with --tls-ca either will do
    #[arg(long, env = "FERROTUNNEL_TLS_VERIFY", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) tls_verify: Option<bool>,
    /// The name or address that the server's certificate must be for [default: the host of --server]
    #[arg(long, env = "FERROTUNNEL_TLS_SERVER_NAME", value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// The client's certificate chain, PEM, for a server with --tls-client-ca
    #[arg(long, env = "FERROTUNNEL_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert, PEM
    #[arg(long, env = "FERROTUNNEL_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl ClientTlsArgs {
    /// Whether any of it needs encryption.
    pub(crate) fn is_given(&self) -> bool {
        let Self { tls_ca, tls_verify, tls_server_name, tls_cert, tls_key } = self;
        [tls_ca, tls_cert, tls_key].into_iter().any(Option::is_some)
            || tls_server_name.is_some()
            || *tls_verify == Some(true)
    }
}
