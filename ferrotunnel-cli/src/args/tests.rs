use clap::CommandFactory as _;
use clap::error::ErrorKind;

use ferrotunnel::{HeaderRule, HostHeader};

use super::*;
use crate::headers::HeaderSettings;

/// Parses a command line as typed after the program's name. Blanks split it.
fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("ferrotunnel").chain(line.split_whitespace()))
}

fn command(line: &str) -> Command {
    parse(line).unwrap().command
}

/// The first line of the complaint.
fn complaint(line: &str) -> String {
    let error = parse(line).unwrap_err();
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

/// What was typed for a server.
fn server(line: &str) -> ServerArgs {
    let Command::Server(server) = command(line) else { panic!("another command") };
    server.given.typed
}

#[test]
fn what_was_not_typed_was_not_said() {
    let server = server("server --token s");
    assert_eq!(server.token.token.unwrap().reveal(), "s");
    assert_eq!((server.bind, server.http_bind, server.plaintext), (None, None, None));
    let Command::Tcp(tcp) = command("tcp 1 --server h") else { panic!("another command") };
    assert_eq!(tcp.connect.typed.servers.unwrap()[0].to_string(), "h:7835");
    assert_eq!(tcp.connect.typed.connections, None);
    assert_eq!(tcp.connect.typed.exit_on_first_failure, None);
    assert_eq!(tcp.connect.environment.servers, None, "it was typed");
}

#[test]
fn the_help_names_the_defaults_that_hold() {
    use crate::settings::{DEFAULT_BIND, DEFAULT_HTTP_BIND};
    let limits = ferrotunnel::LimitsConfig::default();
    let mut cli = Cli::command();
    let help = cli.find_subcommand_mut("server").unwrap().render_help().to_string();
    let memory = format!("{}MiB", limits.max_receive_memory >> 20);
    let time = format!("{}s", limits.handshake_deadline.as_secs());
    for (flag, default) in [
        ("bind", DEFAULT_BIND.to_string()),
        ("http-bind", DEFAULT_HTTP_BIND.to_string()),
        ("domain", ferrotunnel::DEFAULT_DOMAIN.to_owned()),
        ("max-sessions", limits.max_sessions.to_string()),
        ("max-tunnels", limits.max_tunnels_per_session.to_string()),
        ("max-streams", limits.max_streams_per_session.to_string()),
        ("max-handshakes", limits.max_handshakes_in_flight.to_string()),
        ("max-failed-handshakes", limits.max_failed_handshakes_per_address.to_string()),
        ("max-visitors", limits.max_visitors.to_string()),
        ("max-receive-memory", memory),
        ("handshake-timeout", time),
    ] {
        let line = help.lines().find(|line| line.contains(&format!("--{flag} "))).unwrap();
        assert!(line.contains(&format!("[default: {default}]")), "{line}");
    }
}

#[test]
fn a_switch_can_be_typed_off() {
    assert_eq!(server("server --plaintext").plaintext, Some(true));
    assert_eq!(server("server --plaintext=false").plaintext, Some(false));
    assert_eq!(server("server --plaintext=yes --domain d").plaintext, Some(true));
    assert!(complaint("server --plaintext=maybe").contains("--plaintext"));
    assert!(parse("server --plaintext false").is_err(), "a word behind it is no value");
}

#[test]
fn every_server_flag_is_understood() {
    let line = "server --token s --bind [::]:1 --http-bind 127.0.0.1:0 --domain d.example --reserved-names www,admin --tls-cert c --tls-key k \
                --tcp-bind-ip 127.0.0.1 --max-sessions 1 --max-tunnels 2 --max-streams 3 --max-handshakes 4 \
                --handshake-timeout 5s --max-failed-handshakes 3 \
                --max-visitors 5 --max-visitors-per-tunnel 3 \
                --max-visitors-per-address 3 \
                --max-streams-per-second 3 \
                --max-bytes-per-second 3MiB \
                --max-session-memory 3MiB \
                --max-receive-memory 64MiB --http-header-timeout 6s \
                --http-response-timeout 7s --http-pool-idle-timeout 8s --tls-client-ca a --tls-client-crl r \
                --visitor-secret-hash a,b --max-requests-per-address 1 --max-requests-per-tunnel 2 \
                --max-bytes-per-address 3KiB --max-bytes-per-tunnel 4MiB \
                --circuit-breaker 3 --circuit-breaker-pause 4s --access-log - --access-log-format common \
                --https-bind 443 --https-cert c --https-key k --https-cert-dir d --https-redirect --https-tls13-only \
                --acme-dir d --acme-server https://a.example/dir --acme-email o@a.example --acme-eab-key-id i --acme-eab-key-file f --acme-server-ca a \
                --acme-dns-hook h \
                 --error-pages e --drain-timeout 2m";
    let server = server(line);
    assert_eq!(server.error_pages, Some("e".into()));
    assert_eq!(server.bind, "[::]:1".parse().ok());
    assert_eq!(server.http_bind, "127.0.0.1:0".parse().ok());
    assert_eq!(server.domain.as_deref(), Some("d.example"));
    let reserved = vec!["www".to_owned(), "admin".to_owned()];
    assert_eq!(server.reserved_names, Some(reserved));
    assert_eq!(server.tls_cert, Some("c".into()));
    assert_eq!(server.tls_key, Some("k".into()));
    assert_eq!(server.tls_client_ca, Some("a".into()));
    assert_eq!(server.tls_client_crl, Some("r".into()));
    assert_eq!(server.tcp_bind_ip, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(server.limits.max_sessions, Some(1));
    assert_eq!(server.limits.max_tunnels, Some(2));
    assert_eq!(server.limits.max_streams, Some(3));
    assert_eq!(server.limits.max_handshakes, Some(4));
    assert_eq!(server.limits.handshake_timeout, Some(Duration::from_secs(5)));
    assert_eq!(server.limits.max_failed_handshakes, Some(3));
    assert_eq!(server.limits.max_visitors, Some(5));
    assert_eq!(server.limits.max_visitors_per_tunnel, Some(3));
    assert_eq!(server.limits.max_visitors_per_address, Some(3));
    assert_eq!(server.limits.max_streams_per_second, Some(3));
    assert_eq!(server.limits.max_bytes_per_second, Some(3 << 20));
    assert_eq!(server.limits.max_session_memory, Some(3 << 20));
    assert_eq!(server.limits.max_receive_memory, Some(64 << 20));
    assert_eq!(server.timeouts.http_header_timeout, Some(Duration::from_secs(6)));
    assert_eq!(server.timeouts.http_response_timeout, Some(Duration::from_secs(7)));
    assert_eq!(server.timeouts.http_pool_idle_timeout, Some(Duration::from_secs(8)));
    assert_eq!(server.plugins.visitor_secret_hash.map(|hashes| hashes.len()), Some(2));
    assert_eq!(server.plugins.max_requests_per_address, Some(1));
    assert_eq!(server.plugins.max_requests_per_tunnel, Some(2));
    assert_eq!(server.plugins.max_bytes_per_address, Some(3 << 10));
    assert_eq!(server.plugins.max_bytes_per_tunnel, Some(4 << 20));
    assert_eq!(server.plugins.circuit_breaker, Some(3));
    assert_eq!(server.plugins.circuit_breaker_pause, Some(Duration::from_secs(4)));
    assert_eq!(server.plugins.access_log, Some("-".into()));
    assert_eq!(server.plugins.access_log_format, Some(ferrotunnel::plugin::LogFormat::Common));
    assert_eq!(server.drain.drain_timeout, Some(Duration::from_secs(120)));
    let https = HttpsArgs {
        https_bind: "0.0.0.0:443".parse().ok(),
        https_cert: Some("c".into()),
        https_key: Some("k".into()),
        https_cert_dir: Some("d".into()),
        https_redirect: Some(true),
        https_tls13_only: Some(true),
        acme_dir: Some("d".into()),
        acme_server: Some("https://a.example/dir".to_owned()),
        acme_email: Some("o@a.example".to_owned()),
        acme_eab_key_id: Some("i".to_owned()),
        acme_eab_key_file: Some("f".into()),
        acme_server_ca: Some("a".into()),
        acme_dns_hook: Some("h".into()),
    };
    assert_eq!(server.https, https);
    assert!(complaint("server --acme-server http://a.example").contains("https://"));
    assert!(complaint("server --acme-email nobody").contains("operator@example.com"));
}

#[test]
fn a_drain_of_a_client_has_a_limit_too() {
    let Command::Tcp(tcp) = command("tcp 1 --server h --drain-timeout 500ms") else {
        panic!("another command")
    };
    assert_eq!(tcp.connect.typed.drain.drain_timeout, Some(Duration::from_millis(500)));
    assert!(complaint("server --drain-timeout soon").contains("--drain-timeout"));
}

#[test]
fn an_http_tunnel_takes_several_hosts() {
    let line = "http 3000 --server h --token s --name app --host a.example --host *.b.example --path /api/ --strip-path --http2";
    let Command::Http(http) = command(line) else { panic!("another command") };
    assert_eq!(http.target.to_string(), "127.0.0.1:3000");
    assert_eq!(http.connect.typed.servers.unwrap()[0].to_string(), "h:7835");
    assert_eq!(http.name.as_deref(), Some("app"));
    assert_eq!(http.hosts, ["a.example", "*.b.example"]);
    assert_eq!(http.path, Some("/api".parse().unwrap()));
    assert!(http.strip_path);
    let wrong = complaint("http 3000 --server h --host a_b.example");
    assert!(wrong.contains("\"a_b.example\" is no host name"), "{wrong}");
    assert!(complaint("http 3000 --server h --path api").contains("is no path like /api"));
    assert!(http.http2);
}

#[test]
fn a_tcp_tunnel_takes_a_public_port() {
    let Command::Tcp(tcp) =
        command("tcp unix:/run/db.sock --server h:1 --token s --remote-port 15432")
    else {
        panic!("another command")
    };
    assert_eq!(tcp.target.to_string(), "unix:/run/db.sock");
    assert_eq!(tcp.remote_port, Some(15432));
    assert!(complaint("tcp 1 --server h --remote-port 0").contains("--remote-port"));
}

#[test]
fn every_flag_about_visitors_is_understood() {
    let line = "http 1 --server h --allow 192.0.2.0/24,::1 --allow 192.0.2.7 --deny 127.0.0.1 --basic-auth a:b \
                --bearer-token c --rate-limit 10/s --proxy-protocol v1";
    let Command::Http(http) = command(line) else { panic!("another command") };
    assert_eq!((http.access.allow.len(), http.access.deny.len()), (3, 1));
    assert_eq!(http.access.proxy_protocol.unwrap().to_string(), "v1");
    assert_eq!(http.http_access.rate_limit.unwrap().to_string(), "10/s");
    let failure = http.access.with_http(http.http_access).unwrap_err().to_string();
    assert!(failure.starts_with("--basic-auth: "), "{failure}");
    let Command::Tcp(tcp) = command("tcp 1 --server h --deny ::1 --proxy-protocol v2") else {
        panic!("another command")
    };
    assert_eq!(tcp.access.deny[0].to_string(), "::1");
    assert!(parse("tcp 1 --server h --rate-limit 10/s").is_err());
    for (line, flag) in [
        ("http 1 --server h --allow 1.2.3.4/33", "--allow"),
        ("http 1 --server h --proxy-protocol v3", "--proxy-protocol"),
        ("tcp 1 --server h --deny nobody", "--deny"),
    ] {
        assert!(complaint(line).contains(flag), "{line}");
    }
    let server = server("server --trusted-proxies 10.0.0.0/8,::1 --accept-proxy");
    assert_eq!(server.trusted_proxies.unwrap().len(), 2);
    assert_eq!(server.accept_proxy, Some(true));
}

#[test]
fn every_flag_about_headers_is_understood() {
    let read = |flags: &[&str]| {
        let line = ["ferrotunnel", "http", "1", "--server", "h"].iter().chain(flags);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Http(http) => http.headers.read(),
            _ => panic!("another command"),
        }
    };
    let settings = read(&[
        "--host-header=rewrite",
        "--request-header-add=x-b: 3, 4",
        "--request-header-set=X-A: 1",
        "--request-header-remove=cookie,x-c",
        "--response-header-remove=server",
        "--response-header-set=x-d: 5",
        "--response-header-add=x-e: 6",
        "--response-header-add=x-e: 7\nx-f: 8",
    ]);
    let expected = HeaderSettings {
        host: HostHeader::Rewrite,
        request: vec![
            HeaderRule::remove("cookie"),
            HeaderRule::remove("x-c"),
            HeaderRule::set("X-A", "1"),
            HeaderRule::add("x-b", "3, 4"),
        ],
        response: vec![
            HeaderRule::remove("server"),
            HeaderRule::set("x-d", "5"),
            HeaderRule::add("x-e", "6"),
            HeaderRule::add("x-e", "7"),
            HeaderRule::add("x-f", "8"),
        ],
    };
    assert_eq!(settings.unwrap(), expected);
    assert_eq!(read(&[]).unwrap(), HeaderSettings::default());
    for (flag, value) in [
        ("--request-header-remove", "host"),
        ("--request-header-set", "sesame"),
        ("--request-header-add", "connection: sesame"),
        ("--response-header-remove", "te"),
        ("--response-header-set", "x a: sesame"),
        ("--response-header-add", "ferrotunnel-error: sesame"),
    ] {
        let failure = read(&[flag, value]).unwrap_err().to_string();
        assert!(failure.starts_with(flag) && !failure.contains("sesame"), "{failure}");
    }
    assert!(complaint("http 1 --server h --host-header a/b").contains("--host-header"));
    assert!(parse("tcp 1 --server h --host-header keep").is_err());
}

#[test]
fn every_flag_about_certificates_of_a_client_is_understood() {
    let line =
        "tcp 1 --server h --tls-ca a --tls-verify --tls-server-name n --tls-cert c --tls-key k";
    let Command::Tcp(tcp) = command(line) else { panic!("another command") };
    let tls = tcp.connect.typed.tls;
    assert_eq!((tls.tls_ca, tls.tls_verify), (Some("a".into()), Some(true)));
    assert_eq!(tls.tls_server_name.as_deref(), Some("n"));
    assert_eq!((tls.tls_cert, tls.tls_key), (Some("c".into()), Some("k".into())));
}

#[test]
fn common_flags_stand_before_or_after_the_command() {
    for line in ["--json --log-level debug version", "version --json --log-level debug"] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.common.format(), Format::Json);
        assert_eq!(cli.common.log_level, Some("debug".parse().unwrap()));
    }
    assert_eq!(parse("version").unwrap().common.format(), Format::Plain);
}

#[test]
fn a_client_may_leave_everything_to_a_file() {
    let Command::Client(client) = command("client --config f.toml") else {
        panic!("another command")
    };
    assert_eq!(client.config.config, Some("f.toml".into()));
    assert!(client.connect.typed.servers.is_none() && client.local_addr.is_none());
    assert_eq!(parse("http").unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
    let Command::Client(client) =
        command("client --token s --server h --local-addr 127.0.0.1:3000 --exit-on-first-failure")
    else {
        panic!("another command")
    };
    assert_eq!(client.connect.typed.exit_on_first_failure, Some(true));
}

#[test]
fn complaints_name_the_argument_and_the_value() {
    let wrong = complaint("http 70000 --server h");
    assert!(
        wrong.contains("'70000'") && wrong.contains("<TARGET>") && wrong.contains("1 to 65535"),
        "{wrong}"
    );
    let wrong = complaint("server --bind here");
    assert!(wrong.contains("'here'") && wrong.contains("--bind"), "{wrong}");
    let wrong = complaint("client --server http://h --local-addr 1");
    assert!(wrong.contains("--server") && wrong.contains("scheme"), "{wrong}");
}

#[test]
fn the_default_log_level_depends_on_the_command() {
    assert_eq!(command("server").default_log_level(), "info");
    assert_eq!(command("version").default_log_level(), "warn");
}

#[test]
fn the_help_tells_of_wildcard_hosts() {
    let mut cli = Cli::command();
    let http = cli.find_subcommand_mut("http").unwrap();
    let help = http.render_long_help().to_string();
    assert!(help.contains("*.shop.example"), "{help}");
}

#[test]
fn connections_are_a_number_or_auto() {
    let of = |line: &str| match command(line) {
        Command::Tcp(tcp) => tcp.connect.typed.connections,
        _ => panic!("another command"),
    };
    assert_eq!(of("tcp 1 --server s --connections auto"), Some(Connections::Auto));
    assert_eq!(of("tcp 1 --server s --connections 16"), Some(Connections::Exactly(16)));
    for wrong in ["0", "17", "some"] {
        let complaint = complaint(&format!("tcp 1 --server s --connections {wrong}"));
        assert!(complaint.contains("from 1 to 16"), "{complaint}");
    }
}

#[test]
fn several_servers_are_named_one_by_one() {
    let of = |line: &str| match command(line) {
        Command::Tcp(tcp) => tcp.connect.typed,
        _ => panic!("another command"),
    };
    let connect = of("tcp 1 --server a --server [::1]:2 --server-mode all");
    let servers: Vec<String> = connect.servers.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(servers, ["a:7835", "[::1]:2"]);
    assert_eq!(connect.server_mode, Some(ServerMode::All));
    assert_eq!(
        of("tcp 1 --server a,b").servers.map(|all| all.len()),
        Some(2),
        "as the environment has it"
    );
    assert_eq!(of("tcp 1 --server a").server_mode, None);
    let complaint = complaint("tcp 1 --server a --server-mode some");
    assert!(complaint.contains("neither failover nor all"), "{complaint}");
}

#[test]
fn a_client_waits_as_long_as_it_is_told() {
    let line = "tcp 1 --server a --connect-timeout 2s --handshake-timeout 300ms";
    let Command::Tcp(tcp) = command(line) else { panic!("another command") };
    assert_eq!(tcp.connect.typed.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(tcp.connect.typed.handshake_timeout, Some(Duration::from_millis(300)));
}

#[test]
fn a_tunnel_for_tls_has_names_and_nothing_that_is_about_http() {
    let line = "tls 8443 --server a --name vault --host vault.example,*.vault.example --streams direct --group g";
    let Command::Tls(tls) = command(line) else { panic!("another command") };
    assert_eq!(tls.target.to_string(), "127.0.0.1:8443");
    assert_eq!(tls.name.as_deref(), Some("vault"));
    assert_eq!(tls.hosts, ["vault.example", "*.vault.example"]);
    assert_eq!((tls.streams, tls.sharing.group.as_deref()), (Streams::Direct, Some("g")));
    for flag in ["--path=/a", "--http2", "--basic-auth=a:b", "--local-insecure", "--remote-port=1"]
    {
        let line = format!("ferrotunnel tls 8443 --server a {flag}");
        Cli::try_parse_from(line.split(' ')).unwrap_err();
    }
}

#[test]
fn the_help_of_clients_tells_the_exit_codes() {
    let mut cli = Cli::command();
    for name in ["client", "http", "tcp", "tls"] {
        let help = cli.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        assert!(help.contains("3 wrong token") && help.contains("4 a newer client"), "{help}");
    }
}

#[test]
fn what_is_said_of_a_tunnel_stands_below_its_own_heading() {
    let cli = Cli::command();
    let heading = |command: &str, id: &str| {
        let command = cli.find_subcommand(command).unwrap();
        let arg = command.get_arguments().find(|arg| arg.get_id() == id).unwrap();
        arg.get_help_heading().map(str::to_owned)
    };
    let tunnel = Some("Tunnel".to_owned());
    for id in ["name", "hosts", "path", "strip_path", "http2", "group", "health_check", "local_ca"]
    {
        assert_eq!(heading("http", id), tunnel, "{id}");
    }
    for id in ["remote_port", "streams", "balance", "local_insecure"] {
        assert_eq!(heading("tcp", id), tunnel, "{id}");
    }
    for id in ["name", "hosts", "streams", "group"] {
        assert_eq!(heading("tls", id), tunnel, "{id}");
    }
    for id in ["local_addr", "name", "local_insecure"] {
        assert_eq!(heading("client", id), tunnel, "{id}");
    }
    for command in ["client", "http", "tcp", "tls"] {
        assert_eq!(heading(command, "drain_timeout"), None, "{command}");
        assert_eq!(heading(command, "tls_ca").as_deref(), Some("Certificates"), "{command}");
    }
}
