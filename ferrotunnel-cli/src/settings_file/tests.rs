use std::time::Duration;

use ferrotunnel::{Balance, Connections, HeaderRule, HealthCheck, HostHeader, Streams, TunnelKind};
use proptest::prelude::*;

use super::*;
use crate::access::AccessSettings;
use crate::headers::HeaderSettings;
use crate::tunnel::{LocalTlsSettings, Sharing, TunnelSettings};
use crate::value;

fn parse(text: &str) -> Result<SettingsFile, Vec<Problem>> {
    SettingsFile::parse(text.as_bytes(), Path::new("/etc/ferrotunnel"))
}

/// Everything that is wrong with a text.
fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(file) => panic!("nothing is wrong with it: {file:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn assert_problems(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected, "{text}");
}

#[test]
fn a_health_check_makes_sense_or_is_refused() {
    let tunnel = |lines: &str| {
        format!(
            "[client]\nserver = \"a:1\"\ntoken = \"s\"\n[[client.tunnels]]\nkind = \"http\"\nlocal-addr = \"1\"\n{lines}"
        )
    };
    assert!(parse(&tunnel("health-check = \"/healthz?deep=1\"\nhealth-threshold = 1")).is_ok());
    for (lines, expected) in [
        ("health-check = \"http\"", "neither tcp nor a path"),
        ("health-interval = \"2s\"", "of no use without \"health-check\""),
        ("health-check = \"tcp\"\nhealth-threshold = 0", "health-threshold"),
        ("health-check = \"tcp\"\nhealth-timeout = \"soon\"", "health-timeout"),
    ] {
        let problems = problems(&tunnel(lines));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
    }
}

#[test]
fn an_empty_file_says_nothing() {
    for text in ["", "# nothing\n", "\u{feff}"] {
        let file = parse(text).unwrap();
        assert!(file.server.is_none() && file.client.is_none() && file.principals.is_empty());
    }
}

#[test]
fn every_key_of_a_server_is_taken() {
    let server = parse(
        r#"
        [server]
        token = "s"
        bind = "[::]:1"
        http-bind = 8081
        domain = "d.example"
        reserved-names = ["www"]
        plaintext = false
        tls-cert = "cert.pem"
        tls-key = "/keys/key.pem"
        tls-client-ca = "ca.pem"
        tls-client-crl = "crl.pem"
        error-pages = "pages"
        tcp-bind-ip = "127.0.0.1"
        trusted-proxies = ["10.0.0.0/8", "::1"]
        accept-proxy = true
        threads = 3
        control = "run/control"
        admin-bind = "127.0.0.1:4041"
        admin-token-file = "admin-token"
        drain-timeout = "2m"
        [server.limits]
        max-sessions = 1
        max-tunnels = 2
        max-streams = 3
        max-handshakes = 4
        max-failed-handshakes = 3
        max-visitors = 5
        max-visitors-per-tunnel = 3
        max-visitors-per-address = 3
        max-streams-per-second = 3
        max-bytes-per-second = "3MiB"
        max-session-memory = "3MiB"
        max-receive-memory = "64MiB"
        handshake-timeout = "500ms"
        [server.timeouts]
        http-header-timeout = "6s"
        http-response-timeout = 7
        http-pool-idle-timeout = "8m"
        [server.plugins]
        visitor-secret-hash = ["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]
        max-requests-per-address = 1
        max-requests-per-tunnel = 2
        max-bytes-per-address = "3KiB"
        max-bytes-per-tunnel = "4MiB"
        circuit-breaker = 3
        circuit-breaker-pause = "4s"
        access-log = "access.log"
        access-log-format = "json"
        "#,
    );
    let server = server.unwrap().server.unwrap();
    assert_eq!(server.token.token.unwrap().reveal(), "s");
    assert_eq!(server.bind, "[::]:1".parse().ok());
    assert_eq!(server.http_bind, "0.0.0.0:8081".parse().ok());
    assert_eq!(server.domain.as_deref(), Some("d.example"));
    assert_eq!(server.reserved_names, Some(vec!["www".to_owned()]));
    assert_eq!(server.plaintext, Some(false));
    assert_eq!(server.tls_cert, Some("/etc/ferrotunnel/cert.pem".into()));
    assert_eq!(server.tls_key, Some("/keys/key.pem".into()));
    assert_eq!(server.error_pages, Some("/etc/ferrotunnel/pages".into()));
    assert_eq!(server.tls_client_ca, Some("/etc/ferrotunnel/ca.pem".into()));
    assert_eq!(server.tls_client_crl, Some("/etc/ferrotunnel/crl.pem".into()));
    assert_eq!(server.tcp_bind_ip, "127.0.0.1".parse().ok());
    let proxies = ["10.0.0.0/8", "::1"].map(|text| text.parse().unwrap());
    assert_eq!(server.trusted_proxies, Some(proxies.into()));
    assert_eq!(server.accept_proxy, Some(true));
    assert_eq!(server.threads, Some(3));
    assert_eq!(server.control, Some("/etc/ferrotunnel/run/control".into()));
    assert_eq!(server.admin_bind, "127.0.0.1:4041".parse().ok());
    assert_eq!(server.admin_token_file, Some("/etc/ferrotunnel/admin-token".into()));
    assert_eq!(server.drain.drain_timeout, Some(Duration::from_secs(120)));
    assert_eq!(server.limits.max_sessions, Some(1));
    assert_eq!(server.limits.max_tunnels, Some(2));
    assert_eq!(server.limits.max_streams, Some(3));
    assert_eq!(server.limits.max_handshakes, Some(4));
    assert_eq!(server.limits.max_failed_handshakes, Some(3));
    assert_eq!(server.limits.max_visitors, Some(5));
    assert_eq!(server.limits.max_visitors_per_tunnel, Some(3));
    assert_eq!(server.limits.max_visitors_per_address, Some(3));
    assert_eq!(server.limits.max_streams_per_second, Some(3));
    assert_eq!(server.limits.max_bytes_per_second, Some(3 << 20));
    assert_eq!(server.limits.max_session_memory, Some(3 << 20));
    assert_eq!(server.limits.max_receive_memory, Some(64 << 20));
    assert_eq!(server.limits.handshake_timeout, Some(Duration::from_millis(500)));
    assert_eq!(server.timeouts.http_header_timeout, Some(Duration::from_secs(6)));
    assert_eq!(server.timeouts.http_response_timeout, Some(Duration::from_secs(7)));
    assert_eq!(server.timeouts.http_pool_idle_timeout, Some(Duration::from_secs(480)));
    assert_eq!(server.plugins.visitor_secret_hash.unwrap().len(), 1);
    assert_eq!(server.plugins.max_requests_per_address, Some(1));
    assert_eq!(server.plugins.max_requests_per_tunnel, Some(2));
    assert_eq!(server.plugins.max_bytes_per_address, Some(3 << 10));
    assert_eq!(server.plugins.max_bytes_per_tunnel, Some(4 << 20));
    assert_eq!(server.plugins.circuit_breaker, Some(3));
    assert_eq!(server.plugins.circuit_breaker_pause, Some(Duration::from_secs(4)));
    assert_eq!(server.plugins.access_log, Some("/etc/ferrotunnel/access.log".into()));
    assert_eq!(server.plugins.access_log_format, Some(ferrotunnel::plugin::LogFormat::Json));
}

#[test]
fn a_client_has_as_many_tunnels_as_are_written() {
    let client = parse(
        r#"
        [client]
        server = "tunnel.example"
        token = "s"
        plaintext = true
        exit-on-first-failure = true
        connections = 4
        drain-timeout = 7
        [[client.tunnels]]
        kind = "http"
        local-addr = 3000
        name = "app"
        hosts = ["a.example", "*.b.example"]
        path = "/api/"
        strip-path = true
        http2 = true
        [[client.tunnels]]
        kind = "tcp"
        local-addr = "unix:/run/db.sock"
        remote-port = 15_432
        streams = "direct"
        group = "db"
        balance = "round-robin"
        health-check = "tcp"
        health-interval = "2s"
        health-timeout = "500ms"
        health-threshold = 5
        [[client.tunnels]]
        kind = "tls"
        local-addr = "127.0.0.1:8443"
        name = "vault"
        hosts = ["vault.example"]
        streams = "multiplexed"
        group = "vaults"
        allow = "192.0.2.0/24"
        "#,
    );
    let ClientSection { connect, tunnels } = client.unwrap().client.unwrap();
    assert_eq!(connect.servers.unwrap()[0].to_string(), "tunnel.example:7835");
    assert_eq!(connect.token.token.unwrap().reveal(), "s");
    assert_eq!((connect.plaintext, connect.exit_on_first_failure), (Some(true), Some(true)));
    assert_eq!(connect.connections, Some(Connections::Exactly(4)));
    assert_eq!(connect.drain.drain_timeout, Some(Duration::from_secs(7)));
    let expected = [
        TunnelSettings::Http {
            local_addr: "127.0.0.1:3000".parse().unwrap(),
            name: Some("app".to_owned()),
            hosts: vec!["a.example".to_owned(), "*.b.example".to_owned()],
            path: "/api".parse().unwrap(),
            strip_path: true,
            http2: true,
            sharing: Sharing::default(),
            local_tls: LocalTlsSettings::default(),
            access: AccessSettings::default(),
            headers: HeaderSettings::default(),
        },
        TunnelSettings::Tcp {
            local_addr: "unix:/run/db.sock".parse().unwrap(),
            remote_port: Some(15432),
            streams: Streams::Direct,
            sharing: Sharing {
                group: Some("db".to_owned()),
                balance: Some(Balance::RoundRobin),
                health: Some(
                    HealthCheck::connect()
                        .interval(Duration::from_secs(2))
                        .timeout(Duration::from_millis(500))
                        .threshold(5),
                ),
            },
            local_tls: LocalTlsSettings::default(),
            access: AccessSettings::default(),
        },
        TunnelSettings::Tls {
            local_addr: "127.0.0.1:8443".parse().unwrap(),
            name: Some("vault".to_owned()),
            hosts: vec!["vault.example".to_owned()],
            streams: Streams::Multiplexed,
            sharing: Sharing { group: Some("vaults".to_owned()), ..Sharing::default() },
            access: AccessSettings {
                allow: vec!["192.0.2.0/24".parse().unwrap()],
                ..AccessSettings::default()
            },
        },
    ];
    assert_eq!(tunnels, expected);
}

/// Of `open sesame`.
const ALICE: &str = "alice:$argon2id$v=19$m=19456,t=2,p=1$DU5O5D4oJPfPV02Bi3kosg$yyA/Ab88EkowZvofsYB1ynseeDQ9CvMLkLSvxixuKZY";

#[test]
fn every_key_about_visitors_is_taken() {
    let text = format!(
        r#"
        [client]
        [[client.tunnels]]
        kind = "http"
        local-addr = 1
        allow = ["192.0.2.0/24", "::1"]
        deny = "192.0.2.7"
        basic-auth = ["{ALICE}"]
        bearer-token = ["sha256:{}"]
        rate-limit = "10/m"
        [[client.tunnels]]
        kind = "tcp"
        local-addr = 1
        allow = "::1"
        proxy-protocol = "v2"
        [principals.web]
        disabled = true
        access = "required"
        "#,
        "0".repeat(64)
    );
    let file = parse(&text).unwrap();
    assert!(file.principals[0].access_required);
    let tunnels = file.client.unwrap().tunnels;
    let [TunnelSettings::Http { access: http, .. }, TunnelSettings::Tcp { access: tcp, .. }] =
        &*tunnels
    else {
        panic!("{tunnels:?}")
    };
    let networks = ["192.0.2.0/24", "::1"].map(|text| text.parse().unwrap());
    assert_eq!(http.allow, networks);
    assert_eq!(http.deny, ["192.0.2.7".parse().unwrap()]);
    assert_eq!((http.users[0].to_string(), http.tokens.len()), (ALICE.to_owned(), 1));
    assert_eq!(http.rate.unwrap().to_string(), "10/m");
    assert_eq!((&*tcp.allow, http.proxy_protocol), (&networks[1..], None));
    assert_eq!(tcp.proxy_protocol.unwrap().to_string(), "v2");
}

#[test]
fn every_key_about_headers_is_taken() {
    let file = parse(
        r#"
        [[client.tunnels]]
        kind = "http"
        local-addr = 1
        host-header = "rewrite"
        request-header-remove = ["cookie"]
        request-header-set = ["X-A: 1, 2"]
        request-header-add = ["x-b: 3", "x-b: 4"]
        response-header-remove = ["server"]
        response-header-set = ["x-c: 5"]
        response-header-add = ["set-cookie: d=6; Path=/"]
        "#,
    );
    let tunnels = file.unwrap().client.unwrap().tunnels;
    let [TunnelSettings::Http { headers, .. }] = &*tunnels else { panic!("{tunnels:?}") };
    let expected = HeaderSettings {
        host: HostHeader::Rewrite,
        request: vec![
            HeaderRule::remove("cookie"),
            HeaderRule::set("X-A", "1, 2"),
            HeaderRule::add("x-b", "3"),
            HeaderRule::add("x-b", "4"),
        ],
        response: vec![
            HeaderRule::remove("server"),
            HeaderRule::set("x-c", "5"),
            HeaderRule::add("set-cookie", "d=6; Path=/"),
        ],
    };
    assert_eq!(*headers, expected);
}

#[test]
fn a_rule_that_there_cannot_be_has_its_place_in_the_file_and_is_not_repeated() {
    let problems = problems(
        r#"
[[client.tunnels]]
kind = "http"
local-addr = 1
host-header = "http://app"
request-header-remove = ["x-a", "connection"]
request-header-set = ["sesame"]
request-header-add = ["x-a: 1", "x-forwarded-for: sesame"]
response-header-set = ["content-length: sesame"]
[[client.tunnels]]
kind = "tcp"
local-addr = 1
host-header = "rewrite"
response-header-add = []
[[client.tunnels]]
kind = "http"
local-addr = 1
request-header-set = ["x-a: sesame", "X-A: sesame"]
"#,
    );
    let said = problems.join("\n");
    for (place, words) in [
        ("5:15", "no host"),
        ("6:33", "connection"),
        ("7:23", "NAME: VALUE"),
        ("8:33", "x-forwarded-for"),
        ("9:24", "content-length"),
        ("13:1", "is for tunnels of kind \"http\""),
        ("14:1", "is for tunnels of kind \"http\""),
    ] {
        let is_told = |problem: &String| problem.starts_with(place) && problem.contains(words);
        assert!(problems.iter().any(is_told), "{place} {words}: {said}");
    }
    assert!(!said.contains("sesame"), "{said}");
}

#[test]
fn a_password_in_a_file_is_refused_and_not_repeated() {
    let problems = problems(
        r#"
[[client.tunnels]]
kind = "http"
local-addr = 1
basic-auth = ["alice:open-sesame"]
bearer-token = ["open-sesame"]
allow = ["anywhere"]
rate-limit = "often"
[[client.tunnels]]
kind = "tcp"
local-addr = 1
basic-auth = []
[principals.web]
disabled = true
access = "never"
"#,
    );
    let said = problems.join("\n");
    for (line, words) in [
        ("5:", "basic-auth"),
        ("6:", "ferrotunnel password --bearer"),
        ("7:", "anywhere"),
        ("8:", "10/s"),
        ("12:", "is for tunnels of kind \"http\""),
        ("15:", "optional or required"),
    ] {
        let is_told = |problem: &String| problem.starts_with(line) && problem.contains(words);
        assert!(problems.iter().any(is_told), "{line} {words}: {said}");
    }
    assert!(!said.contains("sesame"), "{said}");
}

#[test]
fn where_a_client_is_asked_is_taken() {
    let client = |place: &str| {
        let text = format!(
            "[client]\nadmin-bind = {place}\nadmin-token-file = 'secret'\ncontrol = 'run/c'"
        );
        parse(&text).unwrap().client.unwrap().connect
    };
    let at = |addr: &str| Some(value::AdminPlace::At(addr.parse().unwrap()));
    assert_eq!(client("'off'").admin_bind, Some(value::AdminPlace::Off));
    assert_eq!(client("'[::1]:9'").admin_bind, at("[::1]:9"));
    // What it shows is not for others, so a bare port is not one of all addresses.
    assert_eq!(client("4040").admin_bind, at("127.0.0.1:4040"));
    assert_eq!(client("'off'").control, Some("/etc/ferrotunnel/run/c".into()));
    assert_eq!(client("'off'").admin_token_file, Some("/etc/ferrotunnel/secret".into()));
    assert_problems(
        "[client]\nadmin-bind = 'on'",
        &[
            r#"2:14: bad value "on" for "admin-bind" in [client]: give IP:PORT, like 127.0.0.1:4040, or off"#,
        ],
    );
}

#[test]
fn every_key_of_a_client_about_certificates_is_taken() {
    let client = parse(
        r#"
        [client]
        tls-ca = "ca.pem"
        tls-verify = true
        tls-server-name = "tunnel.example"
        tls-cert = "client.pem"
        tls-key = "client.key"
        "#,
    );
    let tls = client.unwrap().client.unwrap().connect.tls;
    let path = |name: &str| Some(Path::new("/etc/ferrotunnel").join(name));
    assert_eq!((tls.tls_ca, tls.tls_verify), (path("ca.pem"), Some(true)));
    assert_eq!(tls.tls_server_name.as_deref(), Some("tunnel.example"));
    assert_eq!((tls.tls_cert, tls.tls_key), (path("client.pem"), path("client.key")));
}

#[test]
fn what_verifies_a_name_may_come_from_another_layer_but_it_has_to_be_a_name() {
    parse("[client]\ntls-server-name = 'a.example'\ntls-cert = 'c'\n").unwrap();
    let problems = problems("[client]\ntls-server-name = 'no name'\n");
    assert!(problems.len() == 1 && problems[0].contains("no name"), "{problems:?}");
}

/// What a server keeps of a fresh token.
fn verifier() -> String {
    ferrotunnel::issue_token().unwrap().1.to_string()
}

#[test]
fn principals_keep_their_order() {
    let [one, two, three] = [verifier(), verifier(), verifier()];
    let text = format!(
        r#"
        [principals.zoe]
        tokens = ["{one}", "{two}"]
        disabled = true
        hosts = ["app", "app.example", "*.zoe.example"]
        ports = [5432, "5000-6000"]
        kinds = ["tcp"]
        [principals.zoe.limits]
        sessions = 1
        tunnels = 2
        streams = 3
        streams-per-second = 4
        bytes-per-second = "5KiB"
        [principals.al]
        tokens = ["{three}"]
        hosts = []
        "#
    );
    let principals = parse(&text).unwrap().principals;
    let [zoe, al] = <[PrincipalConfig; 2]>::try_from(principals).unwrap();
    assert_eq!((zoe.name.as_str(), al.name.as_str()), ("zoe", "al"));
    let tokens: Vec<_> = zoe.verifiers.iter().map(ToString::to_string).collect();
    assert_eq!(tokens, [one, two]);
    assert!(zoe.disabled && !al.disabled);
    let hosts = ["app", "app.example", "*.zoe.example"].map(str::to_owned);
    assert_eq!(zoe.hosts.as_deref(), Some(&hosts[..]));
    assert_eq!(zoe.ports, Some(vec![5432..=5432, 5000..=6000]));
    assert_eq!(zoe.kinds, Some(vec![TunnelKind::Tcp]));
    assert_eq!((zoe.max_sessions, zoe.max_tunnels, zoe.max_streams), (Some(1), Some(2), Some(3)));
    assert_eq!((zoe.max_streams_per_second, zoe.max_bytes_per_second), (Some(4), Some(5 << 10)));
    // An empty list is a rule, and none is none.
    assert_eq!((al.hosts, al.ports, al.kinds), (Some(Vec::new()), None, None));
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_one() {
    assert_problems(
        "[server]\nbind = 1\n  bnid = \"0.0.0.0:1\"\nhttp_bind = 2\n",
        &[
            r#"3:3: unknown key "bnid" in [server]; did you mean "bind"?"#,
            r#"4:1: unknown key "http_bind" in [server]; did you mean "http-bind"?"#,
        ],
    );
    assert_problems(
        "[servr]\n[server.limit]\n[[client.tunnel]]\n[principals.a]\ndisabled=true\nkind=['tcp']\n",
        &[
            "1:2: unknown section [servr]; did you mean [server]?",
            "2:9: unknown section [server.limit]; did you mean [server.limits]?",
            r#"3:10: unknown key "tunnel" in [client]; did you mean "tunnels"?"#,
            r#"6:1: unknown key "kind" in [principals.a]; it belongs in [[client.tunnels]]"#,
        ],
    );
    assert_problems(
        "[client]\nqqq = 1\n",
        &[
            "2:1: unknown key \"qqq\" in [client]; there are server, server-mode, token, token-file, plaintext, exit-on-first-failure, connect-timeout, handshake-timeout, connections, \
           admin-bind, admin-token-file, control, no-inspect, inspect-body-bytes, inspect-hide, tls-ca, \
           tls-verify, tls-server-name, tls-cert, tls-key, drain-timeout, \
           tunnels",
        ],
    );
}

#[test]
fn a_key_in_the_wrong_section_is_sent_home() {
    assert_problems(
        "token = 's'\n[server]\nmax-sessions = 1\nserver = 'h'\n",
        &[
            r#"1:1: unknown key "token" outside of the sections; it belongs in [server] or [client]"#,
            r#"3:1: unknown key "max-sessions" in [server]; it belongs in [server.limits]"#,
            r#"4:1: unknown key "server" in [server]; it belongs in [client]"#,
        ],
    );
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_the_right_one() {
    assert_problems(
        "[server]\nbind = true\nplaintext = \"yes\"\nthreads = \"2\"\ndomain = 5\ntoken = 5\nlimits = 3\n\
         [client]\nserver = 5\n[principals.p]\ntokens = \"t\"\nports = [1.5]\nhosts = [1979-05-27]\n",
        &[
            r#"2:8: "bind" in [server] must be text in quotes or a whole number, not true or false"#,
            r#"3:13: "plaintext" in [server] must be true or false, not a text"#,
            r#"4:11: "threads" in [server] must be a whole number, not a text"#,
            r#"5:10: "domain" in [server] must be text in quotes, not a whole number"#,
            r#"6:9: "token" in [server] must be text in quotes, not a whole number"#,
            "7:10: [server.limits] is a section, not a whole number; write it in brackets",
            r#"9:10: "server" in [client] must be text in quotes, not a whole number"#,
            r#"11:10: "tokens" in [principals.p] must be a list in brackets, not a text"#,
            r#"12:10: "ports" in [principals.p] must be a list of texts in quotes or whole numbers, not a number with a fraction"#,
            r#"13:10: "hosts" in [principals.p] must be a list of texts in quotes, not a date or time"#,
        ],
    );
    assert_problems(
        "server = 1\n",
        &["1:10: [server] is a section, not a whole number; write it in brackets"],
    );
    assert_problems(
        "[client.tunnels]\nkind = 'tcp'\n",
        &["1:1: write [[client.tunnels]] in two pairs of brackets, once for each of them"],
    );
    assert_problems(
        "[principals]\nal = 'token'\n",
        &[r#"2:1: "al" in [principals] is a text; write a section, [principals.al]"#],
    );
}

#[test]
fn a_bad_value_is_told_in_the_words_of_its_flag() {
    assert_problems(
        r#"[server]
bind = "here"
domain = "no domain"
tcp-bind-ip = "localhost"
threads = 0
tls-cert = ""
[server.limits]
max-tunnels = 4294967296
max-visitors = -1
max-receive-memory = "1MB"
handshake-timeout = "10h"
[server.timeouts]
http-header-timeout = 100000
[client]
server = "http://h"
connections = 17
[[client.tunnels]]
kind = "udp"
local-addr = "localhost"
remote-port = 0
streams = "some"
"#,
        &[
            r#"2:8: bad value "here" for "bind" in [server]: give IP:PORT, like 0.0.0.0:7835 or [::]:7835"#,
            r#"3:10: bad value "no domain" for "domain" in [server]: domain "no domain" is no host name: give one like example.com, at most 189 bytes long"#,
            r#"4:15: bad value "localhost" for "tcp-bind-ip" in [server]: give an IP address without a port, like 0.0.0.0 or ::"#,
            r#"5:11: bad value "0" for "threads" in [server]: "0" is not from 1 to 1024"#,
            r#"6:12: bad value "" for "tls-cert" in [server]: give the path of a file"#,
            r#"8:15: bad value "4294967296" for "max-tunnels" in [server.limits]: is more than any machine has"#,
            r#"9:16: bad value "-1" for "max-visitors" in [server.limits]: give a whole number of at least 1"#,
            r#"10:22: bad value "1MB" for "max-receive-memory" in [server.limits]: give a number and a unit, like 512KiB, 256MiB or 1GiB"#,
            r#"11:21: bad value "10h" for "handshake-timeout" in [server.limits]: give a number and a unit, like 500ms, 10s or 2m"#,
            r#"13:23: bad value "100000" for "http-header-timeout" in [server.timeouts]: is longer than a day; is the unit right?"#,
            r#"15:10: bad value "http://h" for "server" in [client]: give HOST:PORT without a scheme, like example.com:7835"#,
            r#"16:15: bad value "17" for "connections" in [client]: "17" is neither auto nor a number from 1 to 16"#,
            r#"18:8: bad value "udp" for "kind" in [[client.tunnels]]: give http, tcp or tls"#,
            r#"19:14: bad value "localhost" for "local-addr" in [[client.tunnels]]: the port is missing; give a port or host:port, like 3000 or 127.0.0.1:3000"#,
            r#"20:15: bad value "0" for "remote-port" in [[client.tunnels]]: '0' is not a port; ports go from 1 to 65535"#,
            r#"21:11: bad value "some" for "streams" in [[client.tunnels]]: "some" is not multiplexed, direct or auto"#,
        ],
    );
}

#[test]
fn numbers_of_any_notation_mean_the_same() {
    let file = parse("[server]\nbind = 0x1F90\n[server.limits]\nmax-streams = 1_000\n").unwrap();
    let server = file.server.unwrap();
    assert_eq!(server.bind, "0.0.0.0:8080".parse().ok());
    assert_eq!(server.limits.max_streams, Some(1_000));
}

#[test]
fn settings_that_rule_each_other_out_are_told_where_they_stand() {
    assert_problems(
        "[server]\nplaintext = true\ntls-key = 'k'\ntls-cert = 'c'\n",
        &[r#"4:1: certificates have no use with "plaintext"; drop one or the other"#],
    );
    assert_problems(
        "[server]\nplaintext = true\ntls-client-ca = 'c'\n[client]\nplaintext = true\n\ntls-verify = true\n",
        &[
            r#"3:1: certificates have no use with "plaintext"; drop one or the other"#,
            r#"7:1: certificates have no use with "plaintext"; drop one or the other"#,
        ],
    );
}

#[test]
fn what_only_the_library_refuses_is_told_at_the_section() {
    assert_problems(
        "\n[server]\n[server.limits]\nmax-handshakes = 1000001\n",
        &["2:1: [server]: max_handshakes_in_flight is above 1,000,000"],
    );
}

#[test]
fn a_tunnel_needs_its_kind_and_its_local_service_and_nothing_of_another_kind() {
    assert_problems(
        "[[client.tunnels]]\nname = 'a'\n[[client.tunnels]]\nkind = 'tcp'\nlocal-addr = 1\nname = 'b'\nhosts = []\nhttp2 = false\n\
         [[client.tunnels]]\nkind = 'http'\nlocal-addr = 1\nremote-port = 1\nstreams = 'auto'\n\
         [[client.tunnels]]\nkind = 'tls'\nlocal-addr = 1\npath = '/a'\nlocal-insecure = true\nremote-port = 1\n",
        &[
            r#"1:1: [[client.tunnels]] needs "kind""#,
            r#"1:1: [[client.tunnels]] needs "local-addr""#,
            r#"6:1: "name" is for tunnels of kind "http" or "tls", not "tcp""#,
            r#"7:1: "hosts" is for tunnels of kind "http" or "tls", not "tcp""#,
            r#"8:1: "http2" is for tunnels of kind "http", not "tcp""#,
            r#"12:1: "remote-port" is for tunnels of kind "tcp", not "http""#,
            r#"13:1: "streams" is for tunnels of kind "tcp" or "tls", not "http""#,
            r#"17:1: "path" is for tunnels of kind "http", not "tls""#,
            r#"18:1: "local-insecure" is for tunnels of kind "http" or "tcp", not "tls""#,
            r#"19:1: "remote-port" is for tunnels of kind "tcp", not "tls""#,
        ],
    );
}

#[test]
fn two_tunnels_cannot_have_one_name_or_one_port() {
    let tunnel = |more: &str| format!("[[client.tunnels]]\nlocal-addr = 1\n{more}\n");
    let http = |name: &str| tunnel(&format!("kind = 'http'\nname = '{name}'"));
    let tcp = || tunnel("kind = 'tcp'\nremote-port = 7");
    let tls = || tunnel("kind = 'tls'\nname = 'a'");
    assert_problems(
        &[http("a"), http("A"), tcp(), tcp(), tls()].concat(),
        &[
            r#"5:1: another tunnel has the name "a" already"#,
            "13:1: another tunnel has port 7 already",
            r#"17:1: another tunnel has the name "a" already"#,
        ],
    );
}

#[test]
fn tunnels_of_one_name_have_each_its_path() {
    let http = |more: &str| {
        format!("[[client.tunnels]]\nkind = 'http'\nlocal-addr = 1\nname = 'a'\n{more}\n")
    };
    let file = ["", "path = '/api'", "path = '/x'"].map(http).concat();
    let client = SettingsFile::parse(file.as_bytes(), Path::new("")).unwrap().client.unwrap();
    assert_eq!(client.tunnels.len(), 3);
    assert_problems(
        &["path = '/api'", "path = '/api/'"].map(http).concat(),
        &[r#"6:1: another tunnel has the name "a" with the path /api already"#],
    );
    assert_problems(
        &http("hosts = ['bücher.example', '*.*.example']"),
        &[
            r#"5:28: bad value "*.*.example" for "hosts" in [[client.tunnels]]: "*.*.example" is no host name like shop.example, and no wildcard like *.shop.example"#,
        ],
    );
    assert_problems(
        &http("strip-path = true"),
        &[r#"5:1: "strip-path" is of no use without "path""#],
    );
}

#[test]
fn what_is_wrong_with_a_principal_is_told_at_the_value_or_at_its_section() {
    let token = ferrotunnel::issue_token().unwrap().0.reveal();
    assert_problems(
        &format!(
            "[principals.a]\n[principals.\"b c\"]\ndisabled = true\n[principals.default]\ndisabled = true\n[principals.d]\n\
             tokens = ['x', '{token}']\nports = ['9-8']\nhosts = ['https://h', '*', '*.ok.example']\nkinds = ['udp']\n\
             [principals.d.limits]\nsessions = 0\nsession = 1\n"
        ),
        &[
            r#"1:13: principal "a": it has no tokens: make one with `ferrotunnel token new`, or disable it"#,
            r#"2:13: principal "b c": a name has letters, digits, - and _, at most 64"#,
            r#"4:13: principal "default": that is the name of those who have the shared token; choose another"#,
            r#"7:11: bad value for "tokens" in [principals.d]: a verifier begins with ftv1:"#,
            r#"7:16: bad value for "tokens" in [principals.d]: this is a token and not its verifier, which begins with ftv1: and is printed beside it; the server needs no token"#,
            r#"8:10: bad value "9-8" for "ports" in [principals.d]: the range ends before it begins; write 8-9"#,
            r#"9:10: bad value "https://h" for "hosts" in [principals.d]: "https://h" is no name like app, host like shop.example, or all below one like *.example"#,
            r#"10:10: bad value "udp" for "kinds" in [principals.d]: give http, tcp or tls"#,
            r#"12:12: bad value "0" for "sessions" in [principals.d.limits]: give a whole number of at least 1"#,
            r#"13:1: unknown key "session" in [principals.d.limits]; did you mean "sessions"?"#,
        ],
    );
}

#[test]
fn two_principals_cannot_have_one_token() {
    let (one, other) = (verifier(), verifier());
    let id = one.split(':').nth(1).unwrap();
    assert_problems(
        &format!(
            "[principals.a]\ntokens = ['{one}']\n[principals.b]\ntokens = ['{other}']\n\
             [principals.c]\ntokens = ['{one}']\n[principals.d]\ntokens = ['{other}']\n"
        ),
        &[&format!(r#"5:13: principal "c": token {id} is also one of "a"; take it from one"#)],
    );
}

#[test]
fn what_is_no_toml_is_told_line_by_line() {
    let problems = problems("[server]\nbind = \"1\ndomain = d\n[client\n");
    let lines: Vec<_> = problems.iter().map(|problem| &problem[..2]).collect();
    assert_eq!(lines, ["2:", "3:", "4:"], "{problems:?}");
    let twice = "[server]\nbind = 1\nbind = 2\n";
    assert_problems(twice, &["3:1: duplicate key"]);
}

#[test]
fn nesting_has_an_end_before_the_stack_has() {
    for open in ["[", "{ a = ", "a."] {
        let text = format!("[server]\nbind = {}", open.repeat(100_000));
        assert!(!problems(&text).is_empty());
        let text = format!("{}b = 1", "a.".repeat(100_000));
        assert!(!problems(&text).is_empty());
    }
}

#[test]
fn what_is_no_text_is_told_where_it_begins() {
    let problems = SettingsFile::parse(b"[server]\ndomain = \"\xff\"", Path::new("")).unwrap_err();
    assert_eq!(problems[0].to_string(), "2:11: this is not UTF-8; save the file as UTF-8");
}

#[test]
fn no_secret_is_in_a_problem_or_in_debug() {
    let secret = "hunter2";
    for text in [
        format!("[server]\ntoken = {secret}\n"),
        format!("[server]\ntoken = \"{secret}\n"),
        format!("[server]\ntoken = \"{secret}\" \"\n"),
        format!("[server]\ntoken = '{secret} and more'\n"),
        format!("[client]\ntoken = ['{secret}']\n"),
        format!("[client]\ntoken = {{ is = '{secret}' }}\n"),
        format!("[client]\ntokne = '{secret}'\n"),
        format!("[principals.p]\ntokens = '{secret}'\n"),
        format!("[principals.p]\ntokens = ['{secret} ', 7]\n"),
        format!("[principals.p]\ntokens = ['ftv1:{secret}:{secret}:{secret}']\n"),
    ] {
        let problems = format!("{:?}", parse(&text).unwrap_err());
        assert!(!problems.contains(secret), "{problems}");
    }
    let kept = verifier();
    let text = format!(
        "[server]\ntoken='{secret}'\n[client]\ntoken='{secret}'\n[principals.p]\ntokens=['{kept}']"
    );
    let file = parse(&text).unwrap();
    assert!(file.holds_a_secret());
    let keys: Vec<_> = kept.split(':').skip(2).collect();
    assert!(keys.len() == 2 && keys.iter().all(|key| !format!("{file:?}").contains(key)));
    assert!(parse(&format!("[principals.p]\ntokens=['{kept}']")).unwrap().holds_a_secret());
    assert!(!format!("{file:?}").contains(secret), "{file:?}");
}

#[test]
fn a_token_is_said_in_one_form() {
    assert_problems(
        "[server]\ntoken = 's'\n\ntoken-file = 'f'\n",
        &[r#"4:1: "token" and "token-file" both give the token; drop one of them"#],
    );
}

#[cfg(unix)]
#[test]
fn a_file_with_a_token_that_others_may_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    let warning = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        SettingsFile::load(&path).unwrap().warning()
    };
    let token = "[client]\ntoken = 's'\n";
    assert_eq!(warning(token, 0o600), None);
    assert_eq!(warning("[client]\nserver = 's'\n", 0o644), None);
    for mode in [0o640, 0o604, 0o620] {
        let warning = warning(token, mode).unwrap();
        assert!(warning.contains(&format!("mode {mode:03o}")), "{warning}");
        assert!(warning.contains(&format!("chmod 600 {}", path.display())), "{warning}");
    }
}

#[test]
fn a_file_without_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    std::fs::write(&path, "#".repeat(1 << 20)).unwrap();
    SettingsFile::load(&path).unwrap();
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    let FileError::Unreadable(why) = SettingsFile::load(&path).unwrap_err() else {
        panic!("the text itself is fine")
    };
    assert!(why.contains("longer than 1 MiB"), "{why}");
}

/// Words that mean something here, so that texts made of them get further than noise does.
const WORDS: &[&str] = &[
    "[server]",
    "[server.limits]",
    "[client]",
    "[[client.tunnels]]",
    "[principals.a]",
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    " ",
    "\"",
    "'",
    "'''",
    "#",
    "bind",
    "token",
    "tunnels",
    "limits",
    "tokens",
    "ports",
    "kind",
    "local-addr",
    "remote-port",
    "\"5000-6000\"",
    "'http'",
    "'tcp'",
    "true",
    "0",
    "7835",
    "-1",
    "1e9",
    "0xff",
    "1979-05-27",
    "\u{feff}",
    "\r\n",
    "\0",
    "é",
];

/// Every problem of a text has a place in it.
fn assert_sound(bytes: &[u8]) {
    if let Err(problems) = SettingsFile::parse(bytes, Path::new("")) {
        assert!(!problems.is_empty());
        let text = String::from_utf8_lossy(bytes);
        for problem in problems {
            let line = text.split('\n').nth(problem.line - 1).unwrap();
            assert!(problem.column <= line.chars().count() + 1, "{problem} in {text:?}");
            assert!(!problem.message.is_empty());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        assert_sound(&bytes);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        assert_sound(text.as_bytes());
    }

    #[test]
    fn any_words_of_the_format_are_read_or_refused(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..40),
    ) {
        assert_sound(words.concat().as_bytes());
    }

    #[test]
    fn a_good_file_with_one_byte_wrong_is_read_or_refused(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = example_in_force().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        assert_sound(&bytes);
    }
}

mod example;
use example::example_in_force;

#[test]
fn the_plugins_of_a_server_are_looked_at() {
    let access_log = parse("[server.plugins]\naccess-log = \"-\"").unwrap().server.unwrap();
    assert_eq!(access_log.plugins.access_log, Some("-".into()), "it is no file");
    for (line, says) in [
        ("visitor-secret-hash = [\"a secret\"]", "sha256:"),
        ("visitor-secret-hash = []", "nobody could come in"),
        ("access-log-format = \"html\"", "none of common, combined and json"),
        ("max-requests-per-tunnel = 0", "at least 1"),
    ] {
        let problems = parse(&format!("[server.plugins]\n{line}")).unwrap_err();
        let said = problems.iter().map(ToString::to_string).collect::<String>();
        assert!(problems.len() == 1 && said.contains(says), "{said}");
        assert!(!said.contains("a secret"), "{said}");
    }
    // The rest of it may still come.
    assert!(parse("[server.plugins]\naccess-log-format = \"json\"").is_ok());
}
