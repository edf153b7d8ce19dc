//! How a client looks after a local service.

use std::str::FromStr;
use std::time::Duration;

use ferrotunnel_core::client::{self, Probe};
use ferrotunnel_http::Speaks;

use crate::error::Error;

/// Finds out whether the local service of a tunnel is well: [`Tunnel::health_check`](crate::Tunnel::health_check).
///
/// ```
/// use std::time::Duration;
/// use ferrotunnel::{HealthCheck, Tunnel};
///
/// let check = HealthCheck::http("/healthz").interval(Duration::from_secs(2));
/// let web = Tunnel::http("app").local_addr("3000").group("web").health_check(check);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    path: Option<String>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    threshold: Option<u32>,
}

impl HealthCheck {
    /// It is well if it takes a connection.
    pub fn connect() -> Self {
        Self { path: None, interval: None, timeout: None, threshold: None }
    }

    /// It is well if it answers `GET path` with a status from 200 to 399.
    pub fn http(path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..Self::connect() }
    }

    /// From one check to the next; by default 10 s. The first one is made at once.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// How long a check may take; by default 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many have to fail in a row until the service counts as down; by default 3. One that succeeds makes it
    /// well again.
    #[must_use]
    pub fn threshold(mut self, failures: u32) -> Self {
        self.threshold = Some(failures);
        self
    }

    /// Whether it is a request.
    pub(crate) fn asks_over_http(&self) -> bool {
        self.path.is_some()
    }

    pub(crate) fn build(self, host: &str, speaks: Speaks) -> Result<client::HealthCheck, Error> {
        let probe = match &self.path {
            None => Probe::Connect,
            Some(path) if path.starts_with('/') => {
                let examine = ferrotunnel_http::asks_for(path, host, speaks).map_err(|error| {
                    Error::config(format!("health_check: {path:?} is no path: {error}"))
                })?;
                Probe::Examine { examine, is_http2: speaks == Speaks::Http2 }
            }
            Some(path) => {
                let text = format!("health_check: {path:?} is no path; it begins with a /");
                return Err(Error::config(text));
            }
        };
        let mut check = client::HealthCheck::new(probe);
        check.interval = self.interval.unwrap_or(check.interval);
        check.timeout = self.timeout.unwrap_or(check.timeout);
        check.threshold = self.threshold.unwrap_or(check.threshold);
        if check.interval.is_zero() || check.timeout.is_zero() || check.threshold == 0 {
            let text = "health_check: interval, timeout and threshold have to be more than 0";
            return Err(Error::config(text));
        }
        Ok(check)
    }
}

impl FromStr for HealthCheck {
    type Err = String;

    /// `tcp` for a connection, or the path of a request: `/healthz`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tcp" => Ok(Self::connect()),
            path if path.starts_with('/') => Ok(Self::http(path)),
            _ => Err(format!("{text:?} is neither tcp nor a path that begins with a /")),
        }
    }
}
