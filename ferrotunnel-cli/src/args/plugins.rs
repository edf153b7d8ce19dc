//! The plugins that a server has switched on.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use ferrotunnel::plugin::LogFormat;

use crate::value::{self, Secret};

/// One layer of the plugins of a server; what is unset is off.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Plugins")]
pub(crate) struct PluginArgs {
    /// Let in only visitors of HTTP tunnels who know a secret; `ferrotunnel token visitor` makes one and its hash. Several
    /// while one replaces another [default: everybody comes in]
    #[arg(
        long,
        env = "FERROTUNNEL_VISITOR_SECRET_HASH",
        hide_env_values = true,
        value_name = "HASH",
        value_delimiter = ','
    )]
    pub(crate) visitor_secret_hash: Option<Vec<Secret>>,
    /// Requests a second from one visitor's address, or from one /64 of IPv6; more are answered with a 429
    /// [default: no limit]
    #[arg(long, env = "FERROTUNNEL_MAX_REQUESTS_PER_ADDRESS", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) max_requests_per_address: Option<u32>,
    /// Requests a second for one tunnel, over all its visitors; more are answered with a 429 [default: no limit]
    #[arg(long, env = "FERROTUNNEL_MAX_REQUESTS_PER_TUNNEL", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) max_requests_per_tunnel: Option<u32>,
    /// Bytes a second that the bodies of one visitor's requests may have, and as many those of its answers; what is beyond
    /// waits. An address is one, or a /64 of IPv6 [default: no limit]
    #[arg(long, env = "FERROTUNNEL_MAX_BYTES_PER_ADDRESS", value_name = "BYTES", value_parser = value::size)]
    pub(crate) max_bytes_per_address: Option<u64>,
    /// The same for one tunnel, over all its visitors [default: no limit]
    #[arg(long, env = "FERROTUNNEL_MAX_BYTES_PER_TUNNEL", value_name = "BYTES", value_parser = value::size)]
    pub(crate) max_bytes_per_tunnel: Option<u64>,
    /// Spare a local service that has failed so many times in a row: its visitors get a 503 for a while [default: off]
    #[arg(long, env = "FERROTUNNEL_CIRCUIT_BREAKER", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) circuit_breaker: Option<u32>,
    /// For how long, before one request is let through to see whether it is back [default: 10s]
    #[arg(long, env = "FERROTUNNEL_CIRCUIT_BREAKER_PAUSE", value_name = "TIME", value_parser = value::duration)]
    pub(crate) circuit_breaker_pause: Option<Duration>,
    /// Write a line for each request to this file, or to stdout with - [default: no log]
    #[arg(long, env = "FERROTUNNEL_ACCESS_LOG", value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// What a line looks like: common, combined or json [default: combined]
    #[arg(long, env = "FERROTUNNEL_ACCESS_LOG_FORMAT", value_name = "FORMAT", value_parser = value::log_format)]
    pub(crate) access_log_format: Option<LogFormat>,
}
