//! What answers look like. Each type is both the JSON and its description in OpenAPI.
//!
//! Times are seconds, or milliseconds since 1970 where a name ends in `at`; ids are text; what is not known is `null`, and
//! never left out.

use std::time::{SystemTime, UNIX_EPOCH};

use ferrotunnel_common::TunnelKind;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::requests::ByStatus;

/// Which end of a tunnel answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    Server,
    Client,
}

/// How the process is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Status {
    pub(crate) side: Side,
    pub(crate) version: &'static str,
    /// `starting`, `ready` or `draining`.
    pub(crate) phase: &'static str,
    pub(crate) uptime_seconds: f64,
    /// Milliseconds since 1970.
    pub(crate) started_at: u64,
    pub(crate) sessions: usize,
    pub(crate) tunnels: usize,
    /// Streams of visitors at present.
    pub(crate) streams: u64,
    /// Whether requests are kept to be looked at.
    pub(crate) inspecting: bool,
    pub(crate) build: Build,
    #[schema(required)]
    pub(crate) config_file: Option<String>,
}

/// What the program was built by and for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Build {
    pub(crate) version: &'static str,
    pub(crate) target: &'static str,
    pub(crate) profile: &'static str,
    #[schema(required)]
    pub(crate) rustc: Option<&'static str>,
}

/// Every session that there is; the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Sessions {
    pub(crate) sessions: Vec<Session>,
}

/// One session. At a client the address and the software are the server's.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) client: String,
    #[schema(required)]
    pub(crate) principal: Option<String>,
    pub(crate) address: String,
    #[schema(required)]
    pub(crate) software: Option<String>,
    pub(crate) state: SessionState,
    pub(crate) age_seconds: f64,
    #[schema(required)]
    pub(crate) round_trip_seconds: Option<f64>,
    pub(crate) tunnels: usize,
    pub(crate) streams: usize,
    pub(crate) streams_opened: u64,
    pub(crate) bytes_from_client: u64,
    pub(crate) bytes_to_client: u64,
    #[schema(required)]
    pub(crate) last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SessionState {
    Up,
    /// There is none at present; a client dials again.
    Down,
    /// It takes nothing new and finishes what is open.
    Draining,
}

/// Every tunnel, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Tunnels {
    pub(crate) tunnels: Vec<Tunnel>,
}

/// One tunnel. What has passed is that of all tunnels of its kind and name since the start.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Tunnel {
    pub(crate) id: String,
    /// `http`, `tcp`, `udp` or `tls`.
    pub(crate) kind: &'static str,
    /// With the path if it has one; for `tcp` the port.
    pub(crate) name: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) public_urls: Vec<String>,
    #[schema(required)]
    pub(crate) principal: Option<String>,
    /// The local service, which only its client knows.
    #[schema(required)]
    pub(crate) local: Option<String>,
    #[schema(required)]
    pub(crate) group: Option<String>,
    /// The sessions that it is registered over.
    pub(crate) sessions: Vec<String>,
    pub(crate) state: TunnelState,
    /// What the client's own checks say, where it has any.
    #[schema(required)]
    pub(crate) health: Option<Health>,
    /// Streams of visitors at present.
    pub(crate) visitors: usize,
    pub(crate) streams_opened: u64,
    /// From visitors.
    pub(crate) bytes_in: u64,
    /// To visitors.
    pub(crate) bytes_out: u64,
    /// HTTP requests that were answered, or will not be; `null` where they are not known: of other kinds, and at a client
    /// that inspects nothing.
    #[schema(required)]
    pub(crate) requests: Option<RequestCounts>,
    #[schema(required)]
    pub(crate) round_trip_seconds: Option<f64>,
    #[schema(required)]
    pub(crate) last_error: Option<String>,
}

/// How many requests there were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RequestCounts {
    pub(crate) total: u64,
    /// Where there are any of that status.
    pub(crate) by_status: Vec<StatusCount>,
}

/// Those that were answered alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct StatusCount {
    /// `1xx` to `5xx`, `other`, or `none`: there was no answer.
    pub(crate) status: &'static str,
    pub(crate) count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TunnelState {
    Up,
    /// Its client is not there, and may come back.
    Away,
    /// Visitors are turned away, because somebody here said so.
    Paused,
    /// The server does not want it.
    Refused,
    /// It is asked for.
    Connecting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    Up,
    Down,
}

/// Who may use the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Principals {
    pub(crate) principals: Vec<Principal>,
}

/// One of them, by name.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Principal {
    pub(crate) name: String,
    /// None of its tokens is accepted: the settings say so, or it was revoked here.
    pub(crate) disabled: bool,
    pub(crate) sessions: usize,
    pub(crate) tunnels: usize,
    pub(crate) streams: usize,
    pub(crate) limits: PrincipalLimits,
}

/// What it may have beyond which it is refused; `null`: as much as everybody.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct PrincipalLimits {
    #[schema(required)]
    pub(crate) max_sessions: Option<usize>,
    #[schema(required)]
    pub(crate) max_tunnels: Option<usize>,
    #[schema(required)]
    pub(crate) max_streams: Option<usize>,
    #[schema(required)]
    pub(crate) max_streams_per_second: Option<u32>,
    #[schema(required)]
    pub(crate) max_bytes_per_second: Option<u64>,
}

/// Streams of visitors, the youngest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Streams {
    /// At most a thousand.
    pub(crate) streams: Vec<Stream>,
    /// How many there are.
    pub(crate) total: usize,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Stream {
    pub(crate) id: String,
    #[schema(required)]
    pub(crate) session: Option<String>,
    /// The id of the tunnel.
    pub(crate) tunnel: String,
    #[schema(required)]
    pub(crate) visitor: Option<String>,
    pub(crate) age_seconds: f64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What the server refuses to go beyond.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Limits {
    pub(crate) limits: Vec<Limit>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    /// `null`: there is none.
    #[schema(required)]
    pub(crate) value: Option<f64>,
    pub(crate) unit: &'static str,
    /// How often it was met since the start, where that is counted.
    #[schema(required)]
    pub(crate) hit: Option<u64>,
}

/// The last ten minutes, second by second, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Traffic {
    pub(crate) step_seconds: u32,
    pub(crate) samples: Vec<Sample>,
}

/// What happened within one second.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Sample {
    /// Its end, in milliseconds since 1970.
    pub(crate) at: u64,
    /// HTTP requests that were over; `null` at a client that inspects nothing, since it does not know of any.
    #[schema(required)]
    pub(crate) requests: Option<u64>,
    /// Requests, where they are known, that were answered with a status of 500 and more; at a client also visitors of any
    /// tunnel whose local service could not be reached.
    pub(crate) errors: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Open at its end.
    pub(crate) streams: u64,
    /// Streams that were opened for visitors.
    pub(crate) streams_opened: u64,
    /// How long half of the requests took at most; `null` where there were none, or none are known.
    #[schema(required)]
    pub(crate) p50_seconds: Option<f64>,
    #[schema(required)]
    pub(crate) p90_seconds: Option<f64>,
    #[schema(required)]
    pub(crate) p99_seconds: Option<f64>,
}

/// What shows that no form of another page sent the request: such a header needs leave that nobody gets.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is there to be described")]
pub(crate) struct Mark {
    /// Needed unless the request has a body in JSON.
    #[param(rename = "x-ferrotunnel-action", inline)]
    mark: One,
}

#[derive(Serialize, ToSchema)]
pub(crate) enum One {
    #[serde(rename = "1")]
    #[expect(dead_code, reason = "it is there to be described")]
    One,
}

/// An action was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Done {
    /// Always true.
    pub(crate) done: bool,
    /// What came of it, for people.
    pub(crate) detail: String,
}

/// Why there is no answer, as RFC 9457 has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says it all.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) title: &'static str,
    pub(crate) status: u16,
    pub(crate) detail: String,
}

impl Build {
    /// Of this very program.
    pub(crate) fn here() -> Self {
        let rustc = env!("FERROTUNNEL_RUSTC");
        Self {
            version: env!("CARGO_PKG_VERSION"),
            target: env!("FERROTUNNEL_TARGET"),
            profile: env!("FERROTUNNEL_PROFILE"),
            rustc: (!rustc.is_empty()).then_some(rustc),
        }
    }
}

impl Status {
    /// Without what changes while nothing happens.
    pub(crate) fn at_rest(mut self) -> Self {
        self.uptime_seconds = 0.0;
        self
    }
}

impl Tunnel {
    /// With those of its requests, if it can have any.
    pub(crate) fn count_requests(&mut self, all: &ByStatus) {
        if self.kind == TunnelKind::Http.as_str() {
            self.requests = all.of(&self.name);
        }
    }
}

impl Sessions {
    /// Without what changes while nothing happens.
    pub(crate) fn at_rest(mut self) -> Self {
        for session in &mut self.sessions {
            session.age_seconds = 0.0;
        }
        self
    }
}

/// In milliseconds since 1970.
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
