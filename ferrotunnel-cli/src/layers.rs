//! Who wins: the command line over the environment over the settings file over the defaults.
//!
//! Each source fills a layer of its own, and all layers of one thing are of one type: a struct of `args.rs` in which
//! everything is optional. clap fills two of them ([`Given`]), the settings file the third, and the defaults come last,
//! where [`crate::settings`] makes of the winner what shall run. No argument has a default in clap, since that would
//! look like something that was said.
//!
//! To add a setting: a field in its struct in `args.rs`, an `Option` with `long` and `env`, with the default named in
//! its help; a line in the [`Layer`] of that struct below; a line in the reader of its section, in
//! `settings_file/server.rs` or `client.rs`; then its use, and its default, in `settings.rs`. The compiler asks for the
//! middle two. `ferrotunnel.example.toml` and the table of `docs/configuration.md` want a line too, and tests ask for
//! those. Where two settings rule each other out, or stand for the same thing, the upper layer also drops what it rules
//! out of the lower one, as [`ServerArgs`] does with `plaintext` and the certificate: within one layer it is an error.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches, Id};

use crate::args::{
    ClientTlsArgs, ConnectArgs, DrainArg, HttpTimeoutArgs, HttpsArgs, InspectArgs, LimitsArgs,
    PluginArgs, ServerArgs, TokenArg,
};

/// What one source says of something, which may be nothing.
pub(crate) trait Layer {
    /// This layer, and from the one below what this one does not say.
    #[must_use]
    fn over(self, below: Self) -> Self;
}

/// What all sources say, besides the defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers<T> {
    pub(crate) given: Given<T>,
    pub(crate) file: T,
}

impl<T: Layer> Layers<T> {
    /// What holds, unless nobody said anything.
    pub(crate) fn resolve(self) -> T {
        self.given.typed.over(self.given.environment).over(self.file)
    }
}

impl<T: Encrypted + Clone> Layers<T> {
    /// The settings about certificates of lower layers that `plaintext` of an upper one rules out. What was to be
    /// verified there is not any more, which nobody should find out by accident.
    pub(crate) fn ruled_out(&self) -> Vec<&'static str> {
        let Given { typed, environment } = &self.given;
        let above_file = typed.clone().over(environment.clone());
        let of_environment = typed.is_plaintext().then(|| environment.certificates());
        let of_file = above_file.is_plaintext().then(|| self.file.certificates());
        let mut all = Vec::new();
        for flag in of_environment.into_iter().chain(of_file).flatten() {
            if !all.contains(&flag) {
                all.push(flag);
            }
        }
        all
    }
}

/// A layer in which encryption can be turned off.
pub(crate) trait Encrypted: Layer {
    fn is_plaintext(&self) -> bool;

    /// What it says of certificates: of no use without encryption.
    fn certificates(&self) -> Vec<&'static str>;
}

impl Encrypted for ServerArgs {
    fn is_plaintext(&self) -> bool {
        self.plaintext == Some(true)
    }

    fn certificates(&self) -> Vec<&'static str> {
        said(&[
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
            ("--tls-client-ca", self.tls_client_ca.is_some()),
            ("--tls-client-crl", self.tls_client_crl.is_some()),
        ])
    }
}

impl Encrypted for ConnectArgs {
    fn is_plaintext(&self) -> bool {
        self.plaintext == Some(true)
    }

    fn certificates(&self) -> Vec<&'static str> {
        said(&[
            ("--tls-ca", self.tls.tls_ca.is_some()),
            ("--tls-verify", self.tls.tls_verify == Some(true)),
            ("--tls-server-name", self.tls.tls_server_name.is_some()),
            ("--tls-cert", self.tls.tls_cert.is_some()),
            ("--tls-key", self.tls.tls_key.is_some()),
        ])
    }
}

fn said(flags: &[(&'static str, bool)]) -> Vec<&'static str> {
    flags.iter().filter(|(_, is_said)| *is_said).map(|(flag, _)| *flag).collect()
}

/// What whoever started the program says: two layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given<T> {
    pub(crate) typed: T,
    pub(crate) environment: T,
}

impl<T> Given<T> {
    /// Puts the settings file below.
    pub(crate) fn over_file(self, file: T) -> Layers<T> {
        Layers { given: self, file }
    }
}

impl<T: FromArgMatches> FromArgMatches for Given<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            typed: T::from_arg_matches_mut(&mut only(matches, ValueSource::CommandLine))?,
            environment: T::from_arg_matches_mut(&mut only(matches, ValueSource::EnvVariable))?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The arguments of `T`, as they are.
impl<T: Args> Args for Given<T> {
    fn augment_args(command: Command) -> Command {
        T::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }

    fn group_id() -> Option<Id> {
        T::group_id()
    }
}

/// Without what comes from elsewhere.
fn only(matches: &ArgMatches, source: ValueSource) -> ArgMatches {
    let mut kept = matches.clone();
    for id in matches.ids() {
        if matches.value_source(id.as_str()) != Some(source) {
            // It is one of the ids, so it can be cleared.
            let _ = kept.try_clear_id(id.as_str());
        }
    }
    kept
}

impl Layer for ServerArgs {
    fn over(self, mut below: Self) -> Self {
        if self.plaintext == Some(true) {
            (below.tls_cert, below.tls_key) = (None, None);
            (below.tls_client_ca, below.tls_client_crl) = (None, None);
        } else if self.has_certificates() {
            below.plaintext = None;
        }
        Self {
            token: self.token.over(below.token),
            bind: self.bind.or(below.bind),
            http_bind: self.http_bind.or(below.http_bind),
            domain: self.domain.or(below.domain),
            reserved_names: self.reserved_names.or(below.reserved_names),
            plaintext: self.plaintext.or(below.plaintext),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
            tls_client_ca: self.tls_client_ca.or(below.tls_client_ca),
            tls_client_crl: self.tls_client_crl.or(below.tls_client_crl),
            tcp_bind_ip: self.tcp_bind_ip.or(below.tcp_bind_ip),
            trusted_proxies: self.trusted_proxies.or(below.trusted_proxies),
            accept_proxy: self.accept_proxy.or(below.accept_proxy),
            visitor_grace: self.visitor_grace.or(below.visitor_grace),
            error_pages: self.error_pages.or(below.error_pages),
            threads: self.threads.or(below.threads),
            control: self.control.or(below.control),
            admin_bind: self.admin_bind.or(below.admin_bind),
            admin_token_file: self.admin_token_file.or(below.admin_token_file),
            inspect: self.inspect.or(below.inspect),
            inspection: self.inspection.over(below.inspection),
            drain: self.drain.over(below.drain),
            limits: self.limits.over(below.limits),
            timeouts: self.timeouts.over(below.timeouts),
            plugins: self.plugins.over(below.plugins),
            https: self.https.over(below.https),
        }
    }
}

impl Layer for HttpsArgs {
    fn over(self, below: Self) -> Self {
        Self {
            https_bind: self.https_bind.or(below.https_bind),
            https_cert: self.https_cert.or(below.https_cert),
            https_key: self.https_key.or(below.https_key),
            https_cert_dir: self.https_cert_dir.or(below.https_cert_dir),
            https_redirect: self.https_redirect.or(below.https_redirect),
            https_tls13_only: self.https_tls13_only.or(below.https_tls13_only),
            acme_dir: self.acme_dir.or(below.acme_dir),
            acme_server: self.acme_server.or(below.acme_server),
            acme_email: self.acme_email.or(below.acme_email),
            acme_eab_key_id: self.acme_eab_key_id.or(below.acme_eab_key_id),
            acme_eab_key_file: self.acme_eab_key_file.or(below.acme_eab_key_file),
            acme_server_ca: self.acme_server_ca.or(below.acme_server_ca),
            acme_dns_hook: self.acme_dns_hook.or(below.acme_dns_hook),
        }
    }
}

impl Layer for TokenArg {
    fn over(self, below: Self) -> Self {
        // Both are the one token: whoever says it in one form does not want that of a layer below in the other.
        if self.is_given() { self } else { below }
    }
}

impl Layer for DrainArg {
    fn over(self, below: Self) -> Self {
        Self { drain_timeout: self.drain_timeout.or(below.drain_timeout) }
    }
}

impl Layer for LimitsArgs {
    fn over(self, below: Self) -> Self {
        Self {
            max_sessions: self.max_sessions.or(below.max_sessions),
            max_tunnels: self.max_tunnels.or(below.max_tunnels),
            max_streams: self.max_streams.or(below.max_streams),
            max_handshakes: self.max_handshakes.or(below.max_handshakes),
            max_failed_handshakes: self.max_failed_handshakes.or(below.max_failed_handshakes),
            max_visitors: self.max_visitors.or(below.max_visitors),
            max_visitors_per_tunnel: self.max_visitors_per_tunnel.or(below.max_visitors_per_tunnel),
            max_visitors_per_address: self
                .max_visitors_per_address
                .or(below.max_visitors_per_address),
            max_streams_per_second: self.max_streams_per_second.or(below.max_streams_per_second),
            max_bytes_per_second: self.max_bytes_per_second.or(below.max_bytes_per_second),
            max_session_memory: self.max_session_memory.or(below.max_session_memory),
            max_receive_memory: self.max_receive_memory.or(below.max_receive_memory),
            handshake_timeout: self.handshake_timeout.or(below.handshake_timeout),
        }
    }
}

impl Layer for HttpTimeoutArgs {
    fn over(self, below: Self) -> Self {
        Self {
            http_header_timeout: self.http_header_timeout.or(below.http_header_timeout),
            http_response_timeout: self.http_response_timeout.or(below.http_response_timeout),
            http_pool_idle_timeout: self.http_pool_idle_timeout.or(below.http_pool_idle_timeout),
        }
    }
}

impl Layer for PluginArgs {
    fn over(self, below: Self) -> Self {
        Self {
            visitor_secret_hash: self.visitor_secret_hash.or(below.visitor_secret_hash),
            max_requests_per_address: self
                .max_requests_per_address
                .or(below.max_requests_per_address),
            max_requests_per_tunnel: self.max_requests_per_tunnel.or(below.max_requests_per_tunnel),
            max_bytes_per_address: self.max_bytes_per_address.or(below.max_bytes_per_address),
            max_bytes_per_tunnel: self.max_bytes_per_tunnel.or(below.max_bytes_per_tunnel),
            circuit_breaker: self.circuit_breaker.or(below.circuit_breaker),
            circuit_breaker_pause: self.circuit_breaker_pause.or(below.circuit_breaker_pause),
            access_log: self.access_log.or(below.access_log),
            access_log_format: self.access_log_format.or(below.access_log_format),
        }
    }
}

impl Layer for InspectArgs {
    fn over(self, below: Self) -> Self {
        Self {
            inspect_body_bytes: self.inspect_body_bytes.or(below.inspect_body_bytes),
            inspect_hide: self.inspect_hide.or(below.inspect_hide),
        }
    }
}

impl Layer for ClientTlsArgs {
    fn over(self, below: Self) -> Self {
        Self {
            tls_ca: self.tls_ca.or(below.tls_ca),
            tls_verify: self.tls_verify.or(below.tls_verify),
            tls_server_name: self.tls_server_name.or(below.tls_server_name),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
        }
    }
}

impl Layer for ConnectArgs {
    fn over(self, mut below: Self) -> Self {
        if self.plaintext == Some(true) {
            below.tls = ClientTlsArgs::default();
        } else if self.tls.is_given() {
            below.plaintext = None;
        }
        Self {
            servers: self.servers.or(below.servers),
            server_mode: self.server_mode.or(below.server_mode),
            token: self.token.over(below.token),
            plaintext: self.plaintext.or(below.plaintext),
            exit_on_first_failure: self.exit_on_first_failure.or(below.exit_on_first_failure),
            connect_timeout: self.connect_timeout.or(below.connect_timeout),
            handshake_timeout: self.handshake_timeout.or(below.handshake_timeout),
            connections: self.connections.or(below.connections),
            admin_bind: self.admin_bind.or(below.admin_bind),
            admin_token_file: self.admin_token_file.or(below.admin_token_file),
            no_inspect: self.no_inspect.or(below.no_inspect),
            inspection: self.inspection.over(below.inspection),
            control: self.control.or(below.control),
            tls: self.tls.over(below.tls),
            drain: self.drain.over(below.drain),
        }
    }
}

#[cfg(test)]
mod tests;
