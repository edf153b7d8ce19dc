//! `[client]`: how the server is reached, and the tunnels to ask it for.

use std::collections::HashSet;

use ferrotunnel::plugin::Dir;
use ferrotunnel::{HealthCheck, Streams, TunnelKind};

use super::section::Section;
use super::server::{NO_CERTIFICATES, certificates_place, drain, inspection, token};
use crate::access::AccessSettings;
use crate::args::{ClientTlsArgs, ConnectArgs};
use crate::headers::{self, HeaderSettings};
use crate::settings::accept_client;
use crate::tunnel::{LocalTlsSettings, Rhythm, Sharing, TunnelSettings};
use crate::value;

/// What a file says of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientSection {
    pub(crate) connect: ConnectArgs,
    /// In the order of the file.
    pub(crate) tunnels: Vec<TunnelSettings>,
}

pub(super) fn read(section: &mut Section<'_, '_>) -> ClientSection {
    let before = section.problems();
    let certificates = certificates_place(
        section,
        &["tls-ca", "tls-verify", "tls-server-name", "tls-cert", "tls-key"],
    );
    let connect = ConnectArgs {
        servers: Some(section.one_or_more("server", str::parse)).filter(|some| !some.is_empty()),
        server_mode: section.text("server-mode", value::server_mode),
        token: token(section),
        plaintext: section.switch("plaintext"),
        exit_on_first_failure: section.switch("exit-on-first-failure"),
        connect_timeout: section.value("connect-timeout", value::duration),
        handshake_timeout: section.value("handshake-timeout", value::duration),
        connections: section.value("connections", value::connections),
        admin_bind: section.value("admin-bind", value::admin_place),
        admin_token_file: section.path("admin-token-file"),
        control: section.new_path("control"),
        no_inspect: section.switch("no-inspect"),
        inspection: inspection(section),
        tls: ClientTlsArgs {
            tls_ca: section.path("tls-ca"),
            tls_verify: section.switch("tls-verify"),
            tls_server_name: section.text("tls-server-name", value::not_empty),
            tls_cert: section.path("tls-cert"),
            tls_key: section.path("tls-key"),
        },
        drain: drain(section),
    };
    if connect.plaintext == Some(true) && connect.tls.is_given() {
        section.complain_about(certificates, NO_CERTIFICATES.to_owned());
    }
    let mut names = HashSet::new();
    let tunnels = section.tables("tunnels", |section| {
        let tunnel = tunnel(section)?;
        if let Some(name) = public_name(&tunnel)
            && !names.insert(name.clone())
        {
            section.complain(format!("another tunnel has {name} already"));
        }
        Some(tunnel)
    });
    let tunnels: Vec<_> = tunnels.into_iter().flatten().collect();
    // Whatever else the library refuses has no line of its own.
    if section.problems() == before
        && let Err(why) = accept_client(connect.clone(), tunnels.clone())
    {
        section.complain(format!("{}: {why}", section.title()));
    }
    ClientSection { connect, tunnels }
}

/// One `[[client.tunnels]]`.
fn tunnel(section: &mut Section<'_, '_>) -> Option<TunnelSettings> {
    let unfit = [
        ("name", HOSTS),
        ("hosts", HOSTS),
        ("path", HTTP),
        ("strip-path", HTTP),
        ("http2", HTTP),
        ("remote-port", &[TunnelKind::Tcp]),
        ("streams", &[TunnelKind::Tcp, TunnelKind::Tls]),
        ("local-ca", &[TunnelKind::Http, TunnelKind::Tcp]),
        ("local-insecure", &[TunnelKind::Http, TunnelKind::Tcp]),
        ("basic-auth", HTTP),
        ("bearer-token", HTTP),
        ("rate-limit", HTTP),
        ("host-header", HTTP),
        ("request-header-remove", HTTP),
        ("request-header-set", HTTP),
        ("request-header-add", HTTP),
        ("response-header-remove", HTTP),
        ("response-header-set", HTTP),
        ("response-header-add", HTTP),
    ]
    .map(|(key, kinds)| (key, kinds, section.has(key).then(|| section.place(key))));

    let kind = section.required("kind", |section, key| section.text(key, kind));
    let local_addr = section.required("local-addr", |section, key| section.value(key, str::parse));
    let name = section.text("name", value::not_empty);
    let hosts = section.texts("hosts", value::public_host);
    let stripped = section.has("strip-path").then(|| section.place("strip-path"));
    let path = section.text("path", value::url_path).unwrap_or_default();
    let strip_path = section.switch("strip-path").unwrap_or(false);
    let http2 = section.switch("http2").unwrap_or(false);
    let remote_port = section.number("remote-port", value::port);
    let streams = section.text("streams", value::streams).unwrap_or(Streams::Auto);

    let sharing = Sharing {
        group: section.text("group", value::not_empty),
        balance: section.text("balance", value::balance),
        health: health(section),
    };
    let place = section.place("local-ca");
    let local_tls = LocalTlsSettings {
        ca: section.path("local-ca"),
        insecure: section.switch("local-insecure").unwrap_or(false),
    };
    if local_tls.ca.is_some() && local_tls.insecure {
        let why = "\"local-ca\" has no use with \"local-insecure\"; drop one of them";
        section.complain_about(place, why.to_owned());
    }

    let access = AccessSettings {
        allow: section.one_or_more("allow", value::network),
        deny: section.one_or_more("deny", value::network),
        users: section.secrets("basic-auth", value::basic_user),
        tokens: section.secrets("bearer-token", value::bearer),
        rate: section.text("rate-limit", value::visitor_rate),
        proxy_protocol: section.text("proxy-protocol", value::proxy_protocol),
    };

    let headers = header_settings(section);

    let kind = kind?;
    for (key, of, place) in unfit {
        if let Some(place) = place
            && !of.contains(&kind)
        {
            let of: Vec<_> = of.iter().map(|kind| format!("\"{kind}\"")).collect();
            let of = of.join(" or ");
            let message = format!("\"{key}\" is for tunnels of kind {of}, not \"{kind}\"");
            section.complain_about(place, message);
        }
    }
    if let Some(place) = stripped.filter(|_| strip_path && path.is_whole()) {
        let message = "\"strip-path\" is of no use without \"path\"".to_owned();
        section.complain_about(place, message);
    }
    let local_addr = local_addr?;
    Some(match kind {
        TunnelKind::Tcp => {
            TunnelSettings::Tcp { local_addr, remote_port, streams, sharing, local_tls, access }
        }
        TunnelKind::Tls => {
            TunnelSettings::Tls { local_addr, name, hosts, streams, sharing, access }
        }
        _ => TunnelSettings::Http {
            local_addr,
            name,
            hosts,
            path,
            strip_path,
            http2,
            sharing,
            local_tls,
            access,
            headers,
        },
    })
}

/// Kinds whose visitors are told apart by the host that they ask for.
const HOSTS: &[TunnelKind] = &[TunnelKind::Http, TunnelKind::Tls];
const HTTP: &[TunnelKind] = &[TunnelKind::Http];

/// What becomes of the headers of a tunnel. Values may be secrets.
fn header_settings(section: &mut Section<'_, '_>) -> HeaderSettings {
    use Dir::{Request, Response};
    let host = section.text("host-header", value::host_header).unwrap_or_default();
    let mut request = section.texts("request-header-remove", headers::remove(Request));
    request.extend(section.secrets("request-header-set", headers::set(Request)));
    request.extend(section.secrets("request-header-add", headers::add(Request)));
    let mut response = section.texts("response-header-remove", headers::remove(Response));
    response.extend(section.secrets("response-header-set", headers::set(Response)));
    response.extend(section.secrets("response-header-add", headers::add(Response)));
    HeaderSettings { host, request, response }
}

/// How the local service of a tunnel is looked after.
fn health(section: &mut Section<'_, '_>) -> Option<HealthCheck> {
    let keys = ["health-interval", "health-timeout", "health-threshold"];
    let idle = keys.map(|key| (key, section.has(key).then(|| section.place(key))));
    let is_checked = section.has("health-check");
    let check = section.text("health-check", value::health_check);
    let rhythm = Rhythm {
        interval: section.text("health-interval", value::duration),
        timeout: section.text("health-timeout", value::duration),
        threshold: section.number("health-threshold", value::count),
    };
    for (key, place) in idle {
        if let Some(place) = place.filter(|_| !is_checked) {
            let message = format!("\"{key}\" is of no use without \"health-check\"");
            section.complain_about(place, message);
        }
    }
    check.map(|check| rhythm.set(check))
}

/// What no two tunnels can share.
fn public_name(tunnel: &TunnelSettings) -> Option<String> {
    match tunnel {
        TunnelSettings::Http { name, path, .. } => name.as_ref().map(|name| {
            let name = name.to_ascii_lowercase();
            match path.is_whole() {
                true => format!("the name {name:?}"),
                false => format!("the name {name:?} with the path {path}"),
            }
        }),
        TunnelSettings::Tls { name, .. } => {
            name.as_ref().map(|name| format!("the name {:?}", name.to_ascii_lowercase()))
        }
        TunnelSettings::Tcp { remote_port, .. } => remote_port.map(|port| format!("port {port}")),
    }
}

/// The kinds of tunnels that visitors can use.
pub(super) fn kind(text: &str) -> Result<TunnelKind, String> {
    match text {
        "http" => Ok(TunnelKind::Http),
        "tcp" => Ok(TunnelKind::Tcp),
        "tls" => Ok(TunnelKind::Tls),
        _ => Err("give http, tcp or tls".to_owned()),
    }
}
