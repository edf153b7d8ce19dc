#![doc = include_str!("../README.md")]

mod admin;
mod certificates;
mod client;
mod dev_certificate;
mod doors;
mod error;
mod headers;
mod health;
mod inspection;
mod listener;
mod names;
mod place;
mod plugins;
mod server;
mod settings;
mod tunnel;

pub use client::{Client, ClientBuilder, TunnelChanges};
pub use dev_certificate::{DevCertificate, dev_certificate};
pub use error::{Error, ErrorKind};
pub use ferrotunnel_common::{
    DEFAULT_DOMAIN, DEFAULT_HTTP_PORT, DEFAULT_TUNNEL_PORT, LimitsConfig, SessionId, Token,
    TokenError, TunnelKind,
};
pub use ferrotunnel_core::client::{
    AttemptFailure, CarrierReading, CarrierState, ClientControl, ClientReader, ClientReadings,
    ClientTunnelReading, Connections, ControlError, Event as ClientEvent, KindTotals, LocalFailure,
    LocalHealth, Registration as TunnelInfo, Retry, ServerMode, TunnelState,
};
pub use ferrotunnel_core::{
    Balance, Cidr, CidrError, DialTracer, Dialled, DirectCarriers, Drained, FileLook, PathPrefix,
    PathPrefixError, PrincipalConfig, ProxyProtocol, Stream, Streams, TurnedAway, Verifier,
    VerifierError, check_principals, issue_token,
};
pub use ferrotunnel_http::{
    AcmeConfig, BasicUser, BearerToken, ErrorPages, ErrorPagesError, Expiry, ExternalAccount,
    HeaderRule, LETS_ENCRYPT, PasswordError, VisitorRate, hash_password,
};
/// Who sees requests pass, and what that one shows.
pub use ferrotunnel_inspector as inspector;
pub use ferrotunnel_inspector::{Inspector, InspectorSettings};
/// What servers and clients count, and the registry that shows it.
pub use ferrotunnel_observability as observability;
pub use ferrotunnel_observability::{
    AdminWish, AdminWishes, ClientMetrics, Overview, ServerMetrics,
};
/// Plugins, and those that come along.
pub use ferrotunnel_plugin as plugin;
pub use ferrotunnel_plugin::Plugin;
pub use headers::HostHeader;
pub use health::HealthCheck;
pub use listener::TunnelListener;
pub use server::{BindAddr, RunningServer, Server, ServerBuilder};
pub use tunnel::Tunnel;
