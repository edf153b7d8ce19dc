//! What a client asks the server for.

use std::path::PathBuf;
use std::time::Duration;

use ferrotunnel_common::TunnelKind;
use ferrotunnel_core::client::{LocalTrust, Target, TunnelSpec};
use ferrotunnel_core::{
    AddressRules, Balance, Cidr, PATH, PathPrefix, ProxyProtocol, Roots, STRIP_PATH, Streams,
};
use ferrotunnel_http::{BasicUser, BearerToken, HeaderRule, HttpAccess, Speaks, VisitorRate};

use crate::error::Error;
use crate::headers::{HeaderSettings, HostHeader};
use crate::health::HealthCheck;
use crate::names::{public_host, public_name};

/// A tunnel that a client wants.
///
/// ```
/// use ferrotunnel::Tunnel;
///
/// let web = Tunnel::http("app").local_addr("127.0.0.1:3000");
/// let database = Tunnel::tcp().remote_port(15432).local_addr("unix:/run/postgresql/.s.PGSQL.5432");
/// let mail = Tunnel::tls("").host("mail.example").local_addr("127.0.0.1:993");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Tunnel {
    kind: TunnelKind,
    name: String,
    hosts: Vec<String>,
    path: Option<String>,
    strip_path: bool,
    port: u16,
    http2: bool,
    streams: Option<Streams>,
    group: Option<String>,
    balance: Option<Balance>,
    health: Option<HealthCheck>,
    allow: Vec<String>,
    deny: Vec<String>,
    users: Vec<Result<BasicUser, String>>,
    tokens: Vec<Result<BearerToken, String>>,
    rate: Option<Result<VisitorRate, String>>,
    proxy_protocol: Option<ProxyProtocol>,
    headers: HeaderSettings,
    local_addr: Option<String>,
    local_trust: Option<LocalTrust>,
}

impl Tunnel {
    /// A tunnel that visitors reach by host name: `NAME.` and the server's domain. With an empty
    /// name the server picks a readable one, which stays across reconnects unless another client
    /// asked for it meanwhile.
    pub fn http(name: impl Into<String>) -> Self {
        Self::new(TunnelKind::Http, name.into())
    }

    /// A tunnel that visitors reach by a port of the server's.
    pub fn tcp() -> Self {
        Self::new(TunnelKind::Tcp, String::new())
    }

    /// A tunnel that visitors reach by host name as they do one of [`http`](Self::http), over TLS that ends at the
    /// local service and nowhere before: it shows a certificate of its own, and may want one of the visitor. The
    /// server reads which host the visitor asks for, and passes everything on as it is. It has to have
    /// [`https_bind`](crate::ServerBuilder::https_bind), whose port these visitors share.
    ///
    /// ```
    /// # fn main() -> Result<(), ferrotunnel::Error> {
    /// use ferrotunnel::{Client, Tunnel};
    ///
    /// let vault = Tunnel::tls("vault").host("vault.example").local_addr("127.0.0.1:8200");
    /// # Client::builder().server_addr("localhost:1").token("secret").tunnel(vault).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(name: impl Into<String>) -> Self {
        Self::new(TunnelKind::Tls, name.into())
    }

    fn new(kind: TunnelKind, name: String) -> Self {
        Self {
            kind,
            name,
            hosts: Vec::new(),
            path: None,
            strip_path: false,
            port: 0,
            http2: false,
            streams: None,
            group: None,
            balance: None,
            health: None,
            allow: Vec::new(),
            deny: Vec::new(),
            users: Vec::new(),
            tokens: Vec::new(),
            rate: None,
            proxy_protocol: None,
            headers: HeaderSettings::default(),
            local_addr: None,
            local_trust: None,
        }
    }

    /// The wanted port of a TCP tunnel; without it, or with 0, the server picks one, which stays
    /// across reconnects unless another client asked for it meanwhile.
    #[must_use]
    pub fn remote_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// A further host name under which an HTTP or TLS tunnel is reached, or `*.shop.example` for all that have one label in
    /// place of the asterisk and are no other tunnel's; may be called up to 32 times. Its DNS must point to the
    /// server. It may be written in Unicode.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// The part of its hosts that an HTTP tunnel is for: with `/api` visitors of `/api` and of all below it, but not of
    /// `/apix`. The rest of the hosts may be other tunnels' of the same token; the longest path that fits wins.
    ///
    /// ```
    /// use ferrotunnel::Tunnel;
    ///
    /// let site = Tunnel::http("shop").local_addr("3000");
    /// let api = Tunnel::http("shop").path("/api").strip_path().local_addr("4000");
    /// ```
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The local service does not know of the [path](Self::path): of `/api/x` it sees `/x`, and of the rest in a
    /// header, `X-Forwarded-Prefix: /api`. What it answers is not changed: links and redirects are its own to make.
    #[must_use]
    pub fn strip_path(mut self) -> Self {
        self.strip_path = true;
        self
    }

    /// The local service speaks HTTP/2 without TLS (h2c), as gRPC servers do.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// How visitors of a TCP or TLS tunnel travel between server and client: all over one carrier, each
    /// over one of its own, or those who turn out to need it; by default [`Streams::Auto`]. Tunnels of other kinds, and those that this
    /// process serves itself, know the first only.
    #[must_use]
    pub fn streams(mut self, streams: Streams) -> Self {
        self.streams = Some(streams);
        self
    }

    /// Clients with the same token that register this name or port under the same group share its
    /// visitors, instead of taking it over from each other. They have to agree on hosts and settings.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// How visitors are spread over the members of a [group](Self::group), or over the connections of
    /// a client; by default [`Balance::LeastStreams`].
    #[must_use]
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = Some(balance);
        self
    }

    /// Looks after the local service. While it is down the server sends visitors to the other members of the
    /// [group](Self::group) first, before one of them has found out; by itself it finds out from visitors who came
    /// to nothing. Not for tunnels that this process serves itself.
    #[must_use]
    pub fn health_check(mut self, check: HealthCheck) -> Self {
        self.health = Some(check);
        self
    }

    /// Lets visitors in from this network, like `192.0.2.0/24`, or from this address; may be called several
    /// times. Without it they may come from anywhere, with it from nowhere else. The server turns others
    /// away: over HTTP with a 403, otherwise by closing the connection.
    #[must_use]
    pub fn allow(mut self, network: impl Into<String>) -> Self {
        self.allow.push(network.into());
        self
    }

    /// Keeps visitors out from this network or address, also where [`allow`](Self::allow) would let them
    /// in; may be called several times.
    #[must_use]
    pub fn deny(mut self, network: impl Into<String>) -> Self {
        self.deny.push(network.into());
        self
    }

    /// Lets those visitors of an HTTP tunnel in who give this user name and the password of which this is the
    /// hash, made by [`hash_password`](crate::hash_password); may be called several times. The server keeps the
    /// hash only and asks visitors with a 401. What they show is not passed on to the local service.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use ferrotunnel::{Client, Tunnel, hash_password};
    ///
    /// let hash = hash_password("open sesame")?;
    /// let tunnel = Tunnel::http("app").local_addr("3000").basic_auth("aladdin", hash);
    /// # Client::builder().server_addr("localhost:1").token("secret").tunnel(tunnel).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn basic_auth(mut self, user: impl AsRef<str>, password_hash: impl AsRef<str>) -> Self {
        self.users.push(BasicUser::new(user.as_ref(), password_hash.as_ref()));
        self
    }

    /// Lets those visitors of an HTTP tunnel in who show this token (`Authorization: Bearer`); may be called
    /// several times, and beside [`basic_auth`](Self::basic_auth), of which either will do then. The token itself
    /// goes no further: the server gets its SHA-256.
    #[must_use]
    pub fn bearer_token(mut self, secret: impl AsRef<str>) -> Self {
        self.tokens.push(BearerToken::of_secret(secret.as_ref()));
        self
    }

    /// The same for a token of which only the hash is known here, as `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn bearer_token_hash(mut self, hash: impl AsRef<str>) -> Self {
        self.tokens.push(hash.as_ref().parse());
        self
    }

    /// Takes at most so many requests in so much time from one address (IPv6: from one /64) of visitors of an HTTP
    /// tunnel; more are answered with a 429 that says when to come again. All of them may come at once.
    #[must_use]
    pub fn rate_limit(mut self, requests: u32, per: Duration) -> Self {
        let rate = VisitorRate::new(requests, per).ok_or_else(|| {
            "give 1 to 1,000,000 requests, in whole seconds of which a day has the most".to_owned()
        });
        self.rate = Some(rate);
        self
    }

    /// The local service gets a header of the PROXY protocol at the beginning of each connection, which says who
    /// the visitor is. It has to expect one. Requests of an HTTP tunnel get a connection each then, since one
    /// that is kept for others would have said it already.
    #[must_use]
    pub fn proxy_protocol(mut self, version: ProxyProtocol) -> Self {
        self.proxy_protocol = Some(version);
        self
    }

    /// Which host the local service of an HTTP tunnel is asked for (`Host`, or `:authority` over HTTP/2); by default the
    /// one that the visitor asked for, which `X-Forwarded-Host` tells in any case. Services that take their own name only
    /// want [`HostHeader::Rewrite`].
    #[must_use]
    pub fn host_header(mut self, host: HostHeader) -> Self {
        self.headers.host = host;
        self
    }

    /// Changes a header of the requests of an HTTP tunnel, on their way to the local service; may be called several
    /// times. First headers are removed, then they are set, then they are added, in whatever order it is said. What
    /// frames a message, is about one connection or says who the visitor is cannot be changed.
    ///
    /// ```
    /// # fn main() -> Result<(), ferrotunnel::Error> {
    /// use ferrotunnel::{Client, HeaderRule, HostHeader, Tunnel};
    ///
    /// let tunnel = Tunnel::http("app")
    ///     .local_addr("3000")
    ///     .host_header(HostHeader::Rewrite)
    ///     .request_header(HeaderRule::set("X-Environment", "preview"))
    ///     .response_header(HeaderRule::remove("Server"))
    ///     .response_header(HeaderRule::add("Set-Cookie", "preview=1"));
    /// # Client::builder().server_addr("localhost:1").token("secret").tunnel(tunnel).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn request_header(mut self, rule: HeaderRule) -> Self {
        self.headers.request.push(rule);
        self
    }

    /// The same for the responses of the local service. Answers that the server gives itself, because the local service
    /// is away, say, are not changed.
    #[must_use]
    pub fn response_header(mut self, rule: HeaderRule) -> Self {
        self.headers.response.push(rule);
        self
    }

    /// The local service: `host:port`, a bare port, `unix:/path`, or `https://host:port` for one that speaks
    /// TLS. The certificate of such a one is verified: one of the CAs that the system trusts must have issued
    /// it for that host, unless [`local_ca_file`](Self::local_ca_file) names others.
    #[must_use]
    pub fn local_addr(mut self, addr: impl Into<String>) -> Self {
        self.local_addr = Some(addr.into());
        self
    }

    /// A PEM file of CAs: one of them must have issued the certificate of an `https://` local service, in place
    /// of those that the system trusts. It is read at the start of the client.
    #[must_use]
    pub fn local_ca_file(mut self, ca: impl Into<PathBuf>) -> Self {
        self.local_trust = Some(LocalTrust::IssuedBy(Roots::File(ca.into())));
        self
    }

    /// Takes whatever certificate an `https://` local service shows. Whoever can be at its address, or on the
    /// way there, then reads and changes what visitors and service say: for a service on this very machine, say.
    #[must_use]
    pub fn dangerous_accept_any_local_certificate(mut self) -> Self {
        self.local_trust = Some(LocalTrust::Anybody);
        self
    }

    /// Whether it is the same one to visitors, whatever else is said of it.
    pub(crate) fn has_the_place_of(&self, other: &Self) -> bool {
        let place =
            |tunnel: &Self| (tunnel.kind, tunnel.name.clone(), tunnel.port, tunnel.path.clone());
        place(self) == place(other)
    }

    /// Gives the tunnel a local service if it has none of its own.
    pub(crate) fn or_local_addr(mut self, addr: Option<&str>) -> Self {
        self.local_addr = self.local_addr.or_else(|| addr.map(str::to_owned));
        self
    }

    /// The tunnel to its own local service.
    pub(crate) fn into_local(self) -> Result<TunnelSpec, Error> {
        let target = match &self.local_addr {
            Some(addr) => match (addr.parse()?, self.local_trust.clone()) {
                (Target::Https(https), Some(trust)) => Target::Https(https.trusting(trust)),
                (_, Some(_)) => {
                    return Err(Error::config(
                        "local_ca_file, dangerous_accept_any_local_certificate: the local service has no \
                         certificate; give local_addr as https://host:port, or drop it",
                    ));
                }
                (target, None) => target,
            },
            None => {
                let text = "local_addr is not set: where should the tunnel's visitors go?";
                return Err(Error::config(text));
            }
        };
        self.into_target(target)
    }

    /// The tunnel to any target.
    pub(crate) fn into_target(self, target: Target) -> Result<TunnelSpec, Error> {
        let is_tls = self.kind == TunnelKind::Tls;
        if is_tls && matches!(target, Target::Https(_)) {
            let text = "local_addr: a tls tunnel passes the visitor's TLS on to the local service, which gets no other \
                        besides; give it as host:port";
            return Err(Error::config(text));
        }
        if is_tls && self.health.as_ref().is_some_and(HealthCheck::asks_over_http) {
            let text = "health_check: what the local service of a tls tunnel speaks is not known; check whether it takes a \
                        connection (tcp)";
            return Err(Error::config(text));
        }
        let is_able = matches!(self.kind, TunnelKind::Tcp | TunnelKind::Tls)
            && !matches!(target, Target::InProcess(_));
        let streams = match self.streams {
            None if is_able => Streams::Auto,
            None => Streams::Multiplexed,
            Some(streams) if is_able || streams == Streams::Multiplexed => streams,
            Some(_) => {
                let text =
                    "streams: only tcp and tls tunnels to a local address can have direct streams";
                return Err(Error::config(text));
            }
        };
        let speaks = if self.http2 { Speaks::Http2 } else { Speaks::Http1 };
        let health = match self.health {
            Some(_) if matches!(target, Target::InProcess(_)) => {
                let text = "health_check: a tunnel that this process serves itself has no local address to check";
                return Err(Error::config(text));
            }
            check => {
                // Services that tell sites apart are asked as by somebody on the same machine.
                let addr = self.local_addr.as_deref();
                let addr = addr.map(|addr| addr.strip_prefix("https://").unwrap_or(addr));
                let host = addr.filter(|addr| addr.contains(':'));
                let host = host.filter(|addr| !addr.starts_with("unix:")).unwrap_or("localhost");
                check.map(|check| check.build(host, speaks)).transpose()?
            }
        };
        let hosts: Vec<String> =
            self.hosts.iter().map(|host| public_host(host)).collect::<Result<_, _>>()?;
        if hosts.len() > MOST_HOSTS {
            let text = format!(
                "host: a tunnel has at most {MOST_HOSTS}; use a wildcard or another tunnel"
            );
            return Err(Error::config(text));
        }
        let path = route(self.kind, self.path.as_deref(), self.strip_path)?;
        let h2c = self.http2.then(|| ("h2c".to_owned(), "true".to_owned()));
        let group = self.group.map(|group| ("group".to_owned(), group));
        if group.as_ref().is_some_and(|(_, group)| group.is_empty()) {
            return Err(Error::config("group: give it a name, which its members have in common"));
        }
        let balance = self.balance.map(|balance| ("balance".to_owned(), balance.to_string()));
        let mut addresses = AddressRules::default();
        addresses.allow = networks("allow", &self.allow)?;
        addresses.deny = networks("deny", &self.deny)?;
        let mut access = HttpAccess::default();
        let named = |setting: &'static str| move |why| Error::config(format!("{setting}: {why}"));
        access.users =
            self.users.into_iter().collect::<Result<_, _>>().map_err(named("basic_auth"))?;
        access.tokens =
            self.tokens.into_iter().collect::<Result<_, _>>().map_err(named("bearer_token"))?;
        access.rate = self.rate.transpose().map_err(named("rate_limit"))?;
        let access = access.to_options();
        if !access.is_empty() && self.kind != TunnelKind::Http {
            let text = "basic_auth, bearer_token and rate_limit are for HTTP tunnels; others can allow and deny addresses";
            return Err(Error::config(text));
        }
        if self.proxy_protocol.is_some() && matches!(target, Target::InProcess(_)) {
            let text = "proxy_protocol: a program that serves the tunnel itself knows its visitors without it";
            return Err(Error::config(text));
        }
        let proxy_protocol =
            self.proxy_protocol.map(|version| ("proxy-protocol".to_owned(), version.to_string()));
        let headers = self.headers.into_options(self.kind, &target, self.local_addr.as_deref())?;
        let options = h2c
            .into_iter()
            .chain(path)
            .chain(streams.to_option())
            .chain(group)
            .chain(balance)
            .chain(addresses.to_options())
            .chain(access)
            .chain(headers)
            .chain(proxy_protocol)
            .collect();
        Ok(TunnelSpec {
            kind: self.kind,
            name: public_name(self.name)?,
            hosts,
            port: self.port,
            options,
            proxy_protocol: self.proxy_protocol,
            target,
            health,
        })
    }
}

/// What the server is told of a path.
fn route(
    kind: TunnelKind,
    path: Option<&str>,
    strips: bool,
) -> Result<Vec<(String, String)>, Error> {
    let Some(text) = path else {
        return match strips {
            true => Err(Error::config("strip_path: there is no path to strip; give one by path")),
            false => Ok(Vec::new()),
        };
    };
    if kind != TunnelKind::Http {
        return Err(Error::config("path: only HTTP tunnels have paths"));
    }
    let text = text.strip_suffix('/').filter(|text| !text.is_empty()).unwrap_or(text);
    let path: PathPrefix = text.parse().map_err(|error| Error::config(format!("path: {error}")))?;
    if path.is_whole() {
        return route(kind, None, strips);
    }
    let strip = strips.then(|| (STRIP_PATH.to_owned(), "true".to_owned()));
    Ok([(PATH.to_owned(), path.to_string())].into_iter().chain(strip).collect())
}

/// By the protocol.
const MOST_HOSTS: usize = 32;

fn networks(setting: &str, texts: &[String]) -> Result<Vec<Cidr>, Error> {
    let read =
        |text: &String| text.parse().map_err(|error| Error::config(format!("{setting}: {error}")));
    texts.iter().map(read).collect()
}
