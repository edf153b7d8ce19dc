//! `[server]`: every flag of `ferrotunnel server`, under its name. What `--help` lists under a heading of its own is in
//! a section of its own.

use super::plugins;
use super::section::Section;
use crate::args::{
    DrainArg, HttpTimeoutArgs, HttpsArgs, InspectArgs, LimitsArgs, ServerArgs, TokenArg,
};
use crate::settings::accept_server;
use crate::value::{self, Secret};

pub(super) fn read(section: &mut Section<'_, '_>) -> ServerArgs {
    let before = section.problems();
    let certificates =
        certificates_place(section, &["tls-cert", "tls-key", "tls-client-ca", "tls-client-crl"]);
    let server = ServerArgs {
        token: token(section),
        bind: section.value("bind", value::listen_addr),
        http_bind: section.value("http-bind", value::listen_addr),
        domain: section.text("domain", domain),
        reserved_names: section
            .has("reserved-names")
            .then_some(section.texts("reserved-names", reserved_name)),
        plaintext: section.switch("plaintext"),
        tls_cert: section.path("tls-cert"),
        tls_key: section.path("tls-key"),
        tls_client_ca: section.path("tls-client-ca"),
        tls_client_crl: section.path("tls-client-crl"),
        tcp_bind_ip: section.text("tcp-bind-ip", ip),
        trusted_proxies: section
            .has("trusted-proxies")
            .then_some(section.one_or_more("trusted-proxies", value::network)),
        accept_proxy: section.switch("accept-proxy"),
        visitor_grace: section.value("visitor-grace", value::time_or_none),
        error_pages: section.path("error-pages"),
        threads: section.number("threads", value::threads),
        control: section.new_path("control"),
        admin_bind: section.value("admin-bind", value::listen_addr),
        admin_token_file: section.path("admin-token-file"),
        inspect: section.switch("inspect"),
        inspection: inspection(section),
        drain: drain(section),
        limits: section.table("limits", limits),
        timeouts: section.table("timeouts", timeouts),
        https: section.table("https", https),
        plugins: section.table("plugins", plugins::read),
    };
    if server.plaintext == Some(true) && server.has_certificates() {
        section.complain_about(certificates, NO_CERTIFICATES.to_owned());
    }
    // Whatever else the library refuses has no line of its own.
    if section.problems() == before
        && let Err(why) = accept_server(server.clone())
    {
        section.complain(format!("{}: {why}", section.title()));
    }
    server
}

/// Where the first of these keys stands that is there.
pub(super) fn certificates_place(section: &Section<'_, '_>, keys: &[&str]) -> usize {
    let first = keys.iter().find(|key| section.has(key));
    section.place(first.copied().unwrap_or_default())
}

/// Of a section that wants both.
pub(super) const NO_CERTIFICATES: &str =
    "certificates have no use with \"plaintext\"; drop one or the other";

/// How it ends.
pub(super) fn inspection(section: &mut Section<'_, '_>) -> InspectArgs {
    InspectArgs {
        inspect_body_bytes: section.value("inspect-body-bytes", value::body_bytes),
        inspect_hide: Some(section.one_or_more("inspect-hide", value::header_name))
            .filter(|some| !some.is_empty()),
    }
}

pub(super) fn drain(section: &mut Section<'_, '_>) -> DrainArg {
    DrainArg { drain_timeout: section.value("drain-timeout", value::duration) }
}

/// The secret, in whichever ways it can be given.
pub(super) fn token(section: &mut Section<'_, '_>) -> TokenArg {
    let place = section.place("token-file");
    let arg = TokenArg {
        token: section.secret("token", acceptable_token),
        token_file: section.path("token-file"),
    };
    if arg.token.is_some() && arg.token_file.is_some() {
        let why = "\"token\" and \"token-file\" both give the token; drop one of them";
        section.complain_about(place, why.to_owned());
    }
    arg
}

fn limits(section: &mut Section<'_, '_>) -> LimitsArgs {
    LimitsArgs {
        max_sessions: section.number("max-sessions", value::count),
        max_tunnels: section.number("max-tunnels", value::count),
        max_streams: section.number("max-streams", value::count),
        max_handshakes: section.number("max-handshakes", value::count),
        max_failed_handshakes: section.number("max-failed-handshakes", value::count),
        max_visitors: section.number("max-visitors", value::count),
        max_visitors_per_tunnel: section.number("max-visitors-per-tunnel", value::count),
        max_visitors_per_address: section.number("max-visitors-per-address", value::count),
        max_streams_per_second: section.number("max-streams-per-second", value::count),
        max_bytes_per_second: section.value("max-bytes-per-second", value::size),
        max_session_memory: section.value("max-session-memory", value::size),
        max_receive_memory: section.value("max-receive-memory", value::size),
        handshake_timeout: section.value("handshake-timeout", value::duration),
    }
}

fn timeouts(section: &mut Section<'_, '_>) -> HttpTimeoutArgs {
    HttpTimeoutArgs {
        http_header_timeout: section.value("http-header-timeout", value::duration),
        http_response_timeout: section.value("http-response-timeout", value::duration),
        http_pool_idle_timeout: section.value("http-pool-idle-timeout", value::duration),
    }
}

fn https(section: &mut Section<'_, '_>) -> HttpsArgs {
    HttpsArgs {
        https_bind: section.value("https-bind", value::listen_addr),
        https_cert: section.path("https-cert"),
        https_key: section.path("https-key"),
        https_cert_dir: section.new_path("https-cert-dir"),
        https_redirect: section.switch("https-redirect"),
        https_tls13_only: section.switch("https-tls13-only"),
        acme_dir: section.new_path("acme-dir"),
        acme_server: section.text("acme-server", value::https_url),
        acme_email: section.text("acme-email", value::email),
        acme_eab_key_id: section.text("acme-eab-key-id", value::eab_key_id),
        acme_eab_key_file: section.path("acme-eab-key-file"),
        acme_server_ca: section.path("acme-server-ca"),
        acme_dns_hook: section.new_path("acme-dns-hook"),
    }
}

/// What a token may contain is the library's to judge; it does not repeat the token.
fn acceptable_token(token: Secret) -> Result<Secret, String> {
    let arg = TokenArg { token: Some(token.clone()), token_file: None };
    let server = ServerArgs { token: arg, ..ServerArgs::default() };
    accept_server(server).map_err(|why| why.to_string())?;
    Ok(token)
}

/// What a domain may be too.
fn domain(text: &str) -> Result<String, String> {
    let domain = Some(text.to_owned());
    accept_server(ServerArgs { domain, ..ServerArgs::default() }).map_err(|why| why.to_string())?;
    Ok(text.to_owned())
}

/// What a reserved name may be too.
fn reserved_name(text: &str) -> Result<String, String> {
    let reserved_names = Some(vec![text.to_owned()]);
    let server = ServerArgs { reserved_names, ..ServerArgs::default() };
    accept_server(server).map_err(|why| why.to_string())?;
    Ok(text.to_owned())
}

fn ip(text: &str) -> Result<std::net::IpAddr, String> {
    text.parse().map_err(|_| "give an IP address without a port, like 0.0.0.0 or ::".to_owned())
}
