//! Which settings of a running server a settings file now says otherwise, though only a restart would change them.

use std::time::Duration;

use ferrotunnel::{ClientBuilder, LETS_ENCRYPT, ServerBuilder};

use super::{DEFAULT_BIND, DEFAULT_DRAIN_TIMEOUT, DEFAULT_HTTP_BIND, DEFAULT_PAUSE, limits};
use crate::args::{
    ClientTlsArgs, ConnectArgs, DrainArg, HttpTimeoutArgs, HttpsArgs, InspectArgs, PluginArgs,
    ServerArgs,
};
use crate::runtime::{server_threads, spare_server_threads};

/// The names of all that differ, but for the token: whether that differs is not to be seen in where it comes from.
pub(crate) fn changes(running: &ServerArgs, said: &ServerArgs) -> Vec<&'static str> {
    // Whoever adds a setting has to come by here.
    let ServerArgs {
        token: _,
        bind,
        http_bind,
        domain,
        reserved_names,
        plaintext,
        tls_cert,
        tls_key,
        tls_client_ca,
        tls_client_crl,
        tcp_bind_ip,
        // Taken over with the file.
        trusted_proxies: _,
        accept_proxy,
        visitor_grace,
        // Read again with the file.
        error_pages: _,
        threads,
        control,
        admin_bind,
        // The secret in it is read at the start.
        admin_token_file,
        inspect,
        inspection,
        drain: DrainArg { drain_timeout },
        limits: limits_args,
        timeouts:
            HttpTimeoutArgs { http_header_timeout, http_response_timeout, http_pool_idle_timeout },
        https:
            HttpsArgs {
                https_bind,
                https_cert,
                https_key,
                https_cert_dir,
                https_redirect,
                https_tls13_only,
                acme_dir,
                acme_server,
                acme_email,
                acme_eab_key_id,
                acme_eab_key_file,
                acme_server_ca,
                acme_dns_hook,
            },
        plugins:
            PluginArgs {
                // Taken over with the file.
                visitor_secret_hash: _,
                max_requests_per_address: _,
                max_requests_per_tunnel: _,
                max_bytes_per_address: _,
                max_bytes_per_tunnel: _,
                access_log: _,
                access_log_format: _,
                circuit_breaker,
                circuit_breaker_pause,
            },
    } = running;
    let (was, is) = (limits(limits_args), limits(&said.limits));
    let https = &said.https;
    let or = |said: Option<_>, default| said.unwrap_or(default);
    let count = |threads: Option<u16>| {
        let threads = threads.map(usize::from);
        (server_threads(threads), spare_server_threads(threads))
    };
    // Where nothing is said it goes with the visitors of HTTP.
    let tcp_ip = |args: &ServerArgs| {
        args.tcp_bind_ip.unwrap_or(args.http_bind.unwrap_or(DEFAULT_HTTP_BIND).ip())
    };
    let is_tcp_ip_same = *tcp_bind_ip == said.tcp_bind_ip || tcp_ip(running) == tcp_ip(said);
    let acme = |server: &Option<String>| server.clone().unwrap_or_else(|| LETS_ENCRYPT.to_owned());
    let pause = |pause: Option<_>| pause.unwrap_or(DEFAULT_PAUSE);
    [
        ("bind", bind.unwrap_or(DEFAULT_BIND) == said.bind.unwrap_or(DEFAULT_BIND)),
        (
            "http-bind",
            http_bind.unwrap_or(DEFAULT_HTTP_BIND) == said.http_bind.unwrap_or(DEFAULT_HTTP_BIND),
        ),
        ("domain", *domain == said.domain),
        ("reserved-names", listed(reserved_names.as_ref()) == listed(said.reserved_names.as_ref())),
        ("plaintext", is_on(*plaintext) == is_on(said.plaintext)),
        ("tls-cert", *tls_cert == said.tls_cert),
        ("tls-key", *tls_key == said.tls_key),
        ("tls-client-ca", *tls_client_ca == said.tls_client_ca),
        ("tls-client-crl", *tls_client_crl == said.tls_client_crl),
        ("tcp-bind-ip", is_tcp_ip_same),
        ("accept-proxy", is_on(*accept_proxy) == is_on(said.accept_proxy)),
        (
            "visitor-grace",
            or(*visitor_grace, ServerBuilder::DEFAULT_VISITOR_GRACE)
                == or(said.visitor_grace, ServerBuilder::DEFAULT_VISITOR_GRACE),
        ),
        ("threads", count(*threads) == count(said.threads)),
        ("control", *control == said.control),
        ("admin-bind", *admin_bind == said.admin_bind),
        ("admin-token-file", *admin_token_file == said.admin_token_file),
        ("inspect", is_on(*inspect) == is_on(said.inspect)),
        ("drain-timeout", drain(*drain_timeout) == drain(said.drain.drain_timeout)),
        // Of the limits only these: the others hold for what comes, as soon as they are read.
        ("limits.max-handshakes", was.max_handshakes_in_flight == is.max_handshakes_in_flight),
        ("limits.max-receive-memory", was.max_receive_memory == is.max_receive_memory),
        (
            "timeouts.http-header-timeout",
            or(*http_header_timeout, ServerBuilder::DEFAULT_HTTP_HEADER_TIMEOUT)
                == or(
                    said.timeouts.http_header_timeout,
                    ServerBuilder::DEFAULT_HTTP_HEADER_TIMEOUT,
                ),
        ),
        (
            "timeouts.http-response-timeout",
            *http_response_timeout == said.timeouts.http_response_timeout,
        ),
        (
            "timeouts.http-pool-idle-timeout",
            or(*http_pool_idle_timeout, ServerBuilder::DEFAULT_HTTP_POOL_IDLE_TIMEOUT)
                == or(
                    said.timeouts.http_pool_idle_timeout,
                    ServerBuilder::DEFAULT_HTTP_POOL_IDLE_TIMEOUT,
                ),
        ),
        ("https.https-bind", *https_bind == https.https_bind),
        ("https.https-cert", *https_cert == https.https_cert),
        ("https.https-key", *https_key == https.https_key),
        ("https.https-cert-dir", *https_cert_dir == https.https_cert_dir),
        ("https.https-redirect", is_on(*https_redirect) == is_on(https.https_redirect)),
        ("https.https-tls13-only", is_on(*https_tls13_only) == is_on(https.https_tls13_only)),
        ("https.acme-dir", *acme_dir == https.acme_dir),
        ("https.acme-server", acme(acme_server) == acme(&https.acme_server)),
        ("https.acme-email", *acme_email == https.acme_email),
        ("https.acme-eab-key-id", *acme_eab_key_id == https.acme_eab_key_id),
        ("https.acme-eab-key-file", *acme_eab_key_file == https.acme_eab_key_file),
        ("https.acme-server-ca", *acme_server_ca == https.acme_server_ca),
        ("https.acme-dns-hook", *acme_dns_hook == https.acme_dns_hook),
        ("plugins.circuit-breaker", *circuit_breaker == said.plugins.circuit_breaker),
        (
            "plugins.circuit-breaker-pause",
            pause(*circuit_breaker_pause) == pause(said.plugins.circuit_breaker_pause),
        ),
    ]
    .into_iter()
    .chain(inspected(inspection, &said.inspection))
    .filter_map(|(name, is_same)| (!is_same).then_some(name))
    .collect()
}

/// The same for a client, tunnels aside.
pub(crate) fn client_changes(running: &ConnectArgs, said: &ConnectArgs) -> Vec<&'static str> {
    let ConnectArgs {
        servers,
        server_mode,
        token,
        plaintext,
        exit_on_first_failure,
        connect_timeout,
        handshake_timeout,
        connections,
        admin_bind,
        // The secret in it is read at the start.
        admin_token_file,
        no_inspect,
        inspection,
        control,
        tls: ClientTlsArgs { tls_ca, tls_verify, tls_server_name, tls_cert, tls_key },
        drain: DrainArg { drain_timeout },
    } = running;
    let (connect, handshake) =
        (ClientBuilder::DEFAULT_CONNECT_TIMEOUT, ClientBuilder::DEFAULT_HANDSHAKE_TIMEOUT);
    let is_token_same =
        token.token == said.token.token && token.token_file == said.token.token_file;
    [
        ("server", *servers == said.servers),
        ("server-mode", server_mode.unwrap_or_default() == said.server_mode.unwrap_or_default()),
        ("token", is_token_same),
        ("plaintext", is_on(*plaintext) == is_on(said.plaintext)),
        (
            "exit-on-first-failure",
            is_on(*exit_on_first_failure) == is_on(said.exit_on_first_failure),
        ),
        (
            "connect-timeout",
            connect_timeout.unwrap_or(connect) == said.connect_timeout.unwrap_or(connect),
        ),
        (
            "handshake-timeout",
            handshake_timeout.unwrap_or(handshake) == said.handshake_timeout.unwrap_or(handshake),
        ),
        ("connections", connections.unwrap_or_default() == said.connections.unwrap_or_default()),
        ("admin-bind", *admin_bind == said.admin_bind),
        ("admin-token-file", *admin_token_file == said.admin_token_file),
        ("no-inspect", is_on(*no_inspect) == is_on(said.no_inspect)),
        ("control", *control == said.control),
        ("tls-ca", *tls_ca == said.tls.tls_ca),
        ("tls-verify", is_on(*tls_verify) == is_on(said.tls.tls_verify)),
        ("tls-server-name", *tls_server_name == said.tls.tls_server_name),
        ("tls-cert", *tls_cert == said.tls.tls_cert),
        ("tls-key", *tls_key == said.tls.tls_key),
        ("drain-timeout", drain(*drain_timeout) == drain(said.drain.drain_timeout)),
    ]
    .into_iter()
    .chain(inspected(inspection, &said.inspection))
    .filter_map(|(name, is_same)| (!is_same).then_some(name))
    .collect()
}

/// What an inspector is told, at either side.
fn inspected(was: &InspectArgs, is: &InspectArgs) -> [(&'static str, bool); 2] {
    let InspectArgs { inspect_body_bytes, inspect_hide } = was;
    [
        ("inspect-body-bytes", *inspect_body_bytes == is.inspect_body_bytes),
        ("inspect-hide", *inspect_hide == is.inspect_hide),
    ]
}

/// Nothing is as good as an empty list.
fn listed<T>(list: Option<&Vec<T>>) -> &[T] {
    list.map_or(&[], Vec::as_slice)
}

/// What is not said is off.
fn is_on(switch: Option<bool>) -> bool {
    switch.unwrap_or(false)
}

fn drain(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT)
}
