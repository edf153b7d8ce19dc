//! Which settings of a running server a settings file now says otherwise, though only a restart would change them.

use super::{DEFAULT_BIND, DEFAULT_DRAIN_TIMEOUT, DEFAULT_HTTP_BIND, DEFAULT_PAUSE, limits};
use crate::args::{DrainArg, HttpTimeoutArgs, HttpsArgs, PluginArgs, ServerArgs};

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
        tcp_bind_ip,
        // Taken over with the file.
        trusted_proxies: _,
        accept_proxy,
        visitor_grace,
        // Read again with the file.
        error_pages: _,
        threads,
        control,
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
                access_log: _,
                access_log_format: _,
                circuit_breaker,
                circuit_breaker_pause,
            },
    } = running;
    let (was, is) = (limits(limits_args), limits(&said.limits));
    let https = &said.https;
    let is_on = |switch: Option<bool>| switch.unwrap_or(false);
    let pause = |pause: Option<_>| pause.unwrap_or(DEFAULT_PAUSE);
    let drain = |timeout: Option<_>| timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT);
    [
        ("bind", bind.unwrap_or(DEFAULT_BIND) == said.bind.unwrap_or(DEFAULT_BIND)),
        (
            "http-bind",
            http_bind.unwrap_or(DEFAULT_HTTP_BIND) == said.http_bind.unwrap_or(DEFAULT_HTTP_BIND),
        ),
        ("domain", *domain == said.domain),
        ("reserved-names", *reserved_names == said.reserved_names),
        ("plaintext", plaintext.unwrap_or(false) == said.plaintext.unwrap_or(false)),
        ("tls-cert", *tls_cert == said.tls_cert),
        ("tls-key", *tls_key == said.tls_key),
        ("tls-client-ca", *tls_client_ca == said.tls_client_ca),
        ("tcp-bind-ip", *tcp_bind_ip == said.tcp_bind_ip),
        ("accept-proxy", accept_proxy.unwrap_or(false) == said.accept_proxy.unwrap_or(false)),
        ("visitor-grace", *visitor_grace == said.visitor_grace),
        ("threads", *threads == said.threads),
        ("control", *control == said.control),
        ("drain-timeout", drain(*drain_timeout) == drain(said.drain.drain_timeout)),
        // Of the limits only these: the others hold for what comes, as soon as they are read.
        ("limits.max-handshakes", was.max_handshakes_in_flight == is.max_handshakes_in_flight),
        ("limits.max-receive-memory", was.max_receive_memory == is.max_receive_memory),
        ("timeouts.http-header-timeout", *http_header_timeout == said.timeouts.http_header_timeout),
        (
            "timeouts.http-response-timeout",
            *http_response_timeout == said.timeouts.http_response_timeout,
        ),
        (
            "timeouts.http-pool-idle-timeout",
            *http_pool_idle_timeout == said.timeouts.http_pool_idle_timeout,
        ),
        ("https.https-bind", *https_bind == https.https_bind),
        ("https.https-cert", *https_cert == https.https_cert),
        ("https.https-key", *https_key == https.https_key),
        ("https.https-cert-dir", *https_cert_dir == https.https_cert_dir),
        ("https.https-redirect", is_on(*https_redirect) == is_on(https.https_redirect)),
        ("https.https-tls13-only", is_on(*https_tls13_only) == is_on(https.https_tls13_only)),
        ("https.acme-dir", *acme_dir == https.acme_dir),
        ("https.acme-server", *acme_server == https.acme_server),
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
    .filter_map(|(name, is_same)| (!is_same).then_some(name))
    .collect()
}
