//! What a client may be told about certificates.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};

/// Without any of these a client takes every certificate: the token, which is proven over the TLS connection itself,
/// tells whether it is the server.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Certificates")]
pub(crate) struct ClientTlsArgs {
    /// Verify the server's certificate: one of the CAs in this PEM file must have issued it
    #[arg(long, env = "FERROTUNNEL_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Verify the server's certificate against the CAs that the system trusts; with --tls-ca either will do
    #[arg(long, env = "FERROTUNNEL_TLS_VERIFY", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) tls_verify: bool,
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
