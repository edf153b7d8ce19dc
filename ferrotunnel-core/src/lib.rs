//! FerroTunnel's engine: carriers, authentication, the session driver, the registry, TCP ingress
//! and the client loop.
//!
//! HTTP, metrics and the command line are not here. The paved path for programs is the
//! `ferrotunnel` crate, which builds on this one.

pub mod accept;
mod access;
mod arrivals;
mod auth;
mod balance;
mod buffer;
mod bulk;
mod capped;
mod carrier;
pub mod client;
mod clock;
mod counters;
mod crowd;
mod dial;
mod direct;
mod drained;
mod driver;
#[cfg(test)]
mod engines;
mod error;
mod file_look;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guesses;
mod handshake;
mod hooks;
#[cfg(test)]
mod loopback;
mod moving;
mod open_streams;
mod options;
mod pace;
mod principals;
mod proxies;
mod proxy_protocol;
mod refusals;
mod registry;
mod rules;
mod seat;
pub mod server;
mod session;
mod shards;
mod shared;
#[cfg(test)]
mod simulation;
mod socket;
mod source;
mod spares;
pub mod splice;
mod stream;
mod sweep;
mod tap;
pub mod tasks;
mod tcp_ingress;
mod throttle;
mod tls;
mod turned_away;
mod unheard;
mod visitor_socket;
mod warning;
pub mod yielding;

pub use access::{Access, AccessConfig, AddressRules, Cidr, CidrError, Gate, GateMaker};
pub use auth::{Verifier, VerifierError, issue_token};
pub use balance::Balance;
pub use capped::{Capped, Counts, OTHER};
pub use counters::{Handshake, MOST_TUNNELS_COUNTED, StreamResets, TunnelTotals};
pub use crowd::{Crowd, CrowdSeat};
pub use direct::{DirectCarriers, Streams};
pub use drained::Drained;
pub use error::{BuildError, ConnectError, StartError};
pub use ferrotunnel_common::SessionId;
pub use ferrotunnel_protocol::frame::{
    GoAwayCode, Open, Refusal, RefusalCode, Register, Registered, ResetCode,
};
pub use ferrotunnel_protocol::{OpenError, StreamError};
pub use file_look::FileLook;
pub use hooks::{
    Decision, DialTracer, Dialled, NewSession, OpenedStream, ServerHooks, StreamHooks,
};
pub use open_streams::StreamReading;
pub use options::{
    LONGEST_VALUE as LONGEST_OPTION, PATH, STRIP_PATH, packed as pack_option,
    packed_lines as pack_option_lines, values as option_values,
};
pub use principals::{Principal, PrincipalConfig, check_principals};
pub use proxies::{TrustedProxies, receive_announced};
pub use proxy_protocol::ProxyProtocol;
pub use registry::{
    NoRoute, Passing, PassingDoor, PathPrefix, PathPrefixError, Routes, Servant, SharedPlace,
    Sharing, Tunnel, TunnelUid,
};
pub use rules::{HeadersMaker, HttpMakers, IngressRules};
pub use server::{
    CarrierDoor, EngineControl, EngineReader, PrincipalReading, Readings, SessionReading,
    TunnelReading,
};
pub use session::Session;
pub use shards::{Shards, Threads};
pub use socket::Listen;
pub use source::Source;
pub use spares::Spare;
pub use stream::Stream;
pub use tap::{Tap, TapMaker, TappedStream};
pub use tls::{
    CertificateFault, CertificateProblem, ClientTls, Files, FromFiles, HandshakeTurns, Hello,
    IdentityFiles, RootSettings, Roots, ServerTls, TlsIdentity, Verification,
};
pub use turned_away::TurnedAway;
