//! Who may visit a tunnel, as it is typed.

use clap::Args;
use ferrotunnel::{Cidr, ProxyProtocol, VisitorRate};

use crate::access::AccessSettings;
use crate::failure::Failure;
use crate::value::{self, Secret};

/// What tunnels of every kind can have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Visitors")]
pub(crate) struct AccessArgs {
    /// Let visitors in from this network or address only, like 192.0.2.0/24; may be repeated
    #[arg(long, env = "FERROTUNNEL_ALLOW", value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) allow: Vec<Cidr>,
    /// Keep visitors out from this network or address, whatever is allowed; may be repeated
    #[arg(long, env = "FERROTUNNEL_DENY", value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) deny: Vec<Cidr>,
    /// Tell the local service by a header of the PROXY protocol who a visitor is; it has to expect one
    #[arg(long, env = "FERROTUNNEL_PROXY_PROTOCOL", value_name = "v1|v2", value_parser = value::proxy_protocol)]
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

/// What HTTP tunnels can have besides.
#[derive(Debug, Args)]
#[command(next_help_heading = "Visitors")]
pub(crate) struct HttpAccessArgs {
    /// Let this user in, by the password of which this is the hash; may be repeated. `ferrotunnel password USER` makes it
    #[arg(
        long,
        env = "FERROTUNNEL_BASIC_AUTH",
        hide_env_values = true,
        value_name = "USER:HASH",
        value_delimiter = ' '
    )]
    pub(crate) basic_auth: Vec<Secret>,
    /// Let those in who show the bearer token of which this is the hash; may be repeated. `ferrotunnel password --bearer`
    /// makes it
    #[arg(
        long,
        env = "FERROTUNNEL_BEARER_TOKEN",
        hide_env_values = true,
        value_name = "sha256:HASH",
        value_delimiter = ' '
    )]
    pub(crate) bearer_token: Vec<Secret>,
    /// Take so many requests from one address, and answer more with a 429: 10/s, 100/m, 1000/h
    #[arg(long, env = "FERROTUNNEL_RATE_LIMIT", value_name = "N/TIME", value_parser = value::visitor_rate)]
    pub(crate) rate_limit: Option<VisitorRate>,
}

impl From<AccessArgs> for AccessSettings {
    fn from(args: AccessArgs) -> Self {
        let AccessArgs { allow, deny, proxy_protocol } = args;
        Self { allow, deny, proxy_protocol, ..Self::default() }
    }
}

impl AccessArgs {
    /// With what an HTTP tunnel has besides.
    pub(crate) fn with_http(self, http: HttpAccessArgs) -> Result<AccessSettings, Failure> {
        let wrong = |flag: &str, why: String| Failure::usage(format!("{flag}: {why}"));
        let read = |user: Secret| value::basic_user(user).map_err(|why| wrong("--basic-auth", why));
        let users = http.basic_auth.into_iter().map(read).collect::<Result<_, _>>()?;
        let read = |token: Secret| value::bearer(token).map_err(|why| wrong("--bearer-token", why));
        let tokens = http.bearer_token.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(AccessSettings { users, tokens, rate: http.rate_limit, ..self.into() })
    }
}
