use std::fmt::Debug;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ferrotunnel::{Connections, ServerMode};

use super::*;
use crate::settings::{ServerEncryption, ServerSettings};

/// Says one thing in each combination of layers, and holds the result to the uppermost that said something.
#[track_caller]
fn assert_uppermost_wins<T, V>(values: &[V; 3], set: fn(&mut T, V), of: fn(T) -> Option<V>)
where
    T: Layer + Default + Clone,
    V: Clone + PartialEq + Debug,
{
    let layer = |said: bool, value: &V| {
        let mut layer = T::default();
        if said {
            set(&mut layer, value.clone());
        }
        layer
    };
    let [file, environment, typed] = values;
    for said in 0..8_u8 {
        let says = |bit: u8| said & (1 << bit) != 0;
        let layers = Layers {
            given: Given { typed: layer(says(2), typed), environment: layer(says(1), environment) },
            file: layer(says(0), file),
        };
        let expected = (0..3).rev().find(|bit| says(*bit)).map(|bit| &values[usize::from(bit)]);
        assert_eq!(of(layers.resolve()).as_ref(), expected, "said by {said:03b}");
    }
}

/// One line for each field of a struct: its name, and three values.
macro_rules! uppermost_wins {
    ($($layer:ident . $($field:ident).+ : $values:expr;)*) => {
        $(assert_uppermost_wins::<$layer, _>(
            &$values,
            |layer, value| layer.$($field).+ = Some(value),
            |layer| layer.$($field).+,
        );)*
    };
}

#[test]
fn the_uppermost_layer_wins_for_every_setting() {
    let paths = || ["a", "b", "c"].map(PathBuf::from);
    let texts = ["a", "b", "c"].map(str::to_owned);
    let secrets = || ["a", "b", "c"].map(crate::value::Secret::from);
    let times = [1, 2, 3].map(Duration::from_secs);
    let addrs = ["0.0.0.0:1", "[::]:2", "127.0.0.1:3"].map(|addr| addr.parse().unwrap());
    let ips: [IpAddr; 3] = ["0.0.0.0", "::", "127.0.0.1"].map(|ip| ip.parse().unwrap());
    let servers = ["a", "b", "c"].map(|server| vec![server.parse().unwrap()]);
    uppermost_wins! {
        ServerArgs.token.token: secrets();
        ServerArgs.token.token_file: paths();
        ServerArgs.bind: addrs;
        ServerArgs.http_bind: addrs;
        ServerArgs.domain: texts;
        ServerArgs.reserved_names: texts.clone().map(|name| vec![name]);
        ServerArgs.plaintext: [true, false, true];
        ServerArgs.plaintext: [false, true, false];
        ServerArgs.tls_cert: paths();
        ServerArgs.tls_key: paths();
        ServerArgs.tls_client_ca: paths();
        ServerArgs.tls_client_crl: paths();
        ServerArgs.tcp_bind_ip: ips;
        ServerArgs.trusted_proxies: ips.map(|ip| vec![ip.into()]);
        ServerArgs.accept_proxy: [true, false, true];
        ServerArgs.visitor_grace: times;
        ServerArgs.error_pages: paths();
        ServerArgs.threads: [1, 2, 3];
        ServerArgs.drain.drain_timeout: times;
        ServerArgs.limits.max_sessions: [1, 2, 3];
        ServerArgs.limits.max_tunnels: [1, 2, 3];
        ServerArgs.limits.max_streams: [1, 2, 3];
        ServerArgs.limits.max_handshakes: [1, 2, 3];
        ServerArgs.limits.max_failed_handshakes: [1, 2, 3];
        ServerArgs.limits.max_visitors: [1, 2, 3];
        ServerArgs.limits.max_visitors_per_tunnel: [1, 2, 3];
        ServerArgs.limits.max_visitors_per_address: [1, 2, 3];
        ServerArgs.limits.max_streams_per_second: [1, 2, 3];
        ServerArgs.limits.max_bytes_per_second: [1, 2, 3];
        ServerArgs.limits.max_session_memory: [1, 2, 3];
        ServerArgs.limits.max_receive_memory: [1, 2, 3];
        ServerArgs.limits.handshake_timeout: times;
        ServerArgs.timeouts.http_header_timeout: times;
        ServerArgs.timeouts.http_response_timeout: times;
        ServerArgs.timeouts.http_pool_idle_timeout: times;
        ServerArgs.plugins.visitor_secret_hash: secrets().map(|secret| vec![secret]);
        ServerArgs.plugins.max_requests_per_address: [1, 2, 3];
        ServerArgs.plugins.max_requests_per_tunnel: [1, 2, 3];
        ServerArgs.plugins.max_bytes_per_address: [1, 2, 3];
        ServerArgs.plugins.max_bytes_per_tunnel: [1, 2, 3];
        ServerArgs.plugins.circuit_breaker: [1, 2, 3];
        ServerArgs.plugins.circuit_breaker_pause: times;
        ServerArgs.plugins.access_log: paths();
        ServerArgs.plugins.access_log_format: ferrotunnel::plugin::LogFormat::ALL;
        ServerArgs.https.https_bind: addrs;
        ServerArgs.https.https_cert: paths();
        ServerArgs.https.https_key: paths();
        ServerArgs.https.https_cert_dir: paths();
        ServerArgs.https.https_redirect: [true, false, true];
        ServerArgs.https.https_tls13_only: [false, true, false];
        ServerArgs.https.acme_dir: paths();
        ServerArgs.https.acme_server: texts;
        ServerArgs.https.acme_email: texts;
        ServerArgs.https.acme_eab_key_id: texts;
        ServerArgs.https.acme_eab_key_file: paths();
        ServerArgs.https.acme_server_ca: paths();
        ServerArgs.https.acme_dns_hook: paths();
        ConnectArgs.servers: servers;
        ConnectArgs.server_mode: [ServerMode::All, ServerMode::Failover, ServerMode::All];
        ConnectArgs.connect_timeout: times;
        ConnectArgs.handshake_timeout: times;
        ConnectArgs.token.token: secrets();
        ConnectArgs.token.token_file: paths();
        ConnectArgs.plaintext: [false, true, false];
        ConnectArgs.tls.tls_ca: paths();
        ConnectArgs.tls.tls_verify: [false, true, false];
        ConnectArgs.tls.tls_server_name: texts;
        ConnectArgs.tls.tls_cert: paths();
        ConnectArgs.tls.tls_key: paths();
        ConnectArgs.drain.drain_timeout: times;
        ConnectArgs.exit_on_first_failure: [true, false, true];
        ConnectArgs.connections: [Connections::Auto, Connections::Exactly(2), Connections::Auto];
    }
}

#[test]
fn a_token_in_one_form_rules_out_the_other_in_the_layers_below() {
    let (text, file) = (Some("s".into()), Some(PathBuf::from("f")));
    let as_text = TokenArg { token: text, token_file: None };
    let as_file = TokenArg { token: None, token_file: file };
    let both = |upper: &TokenArg, lower: &TokenArg| upper.clone().over(lower.clone());
    let first = both(&as_text, &as_file);
    assert!(first.token.is_some() && first.token_file.is_none());
    let second = both(&as_file, &as_text);
    assert!(second.token.is_none() && second.token_file.is_some());
}

const SELF_SIGNED: ServerEncryption =
    ServerEncryption::Tls { identity: None, client_ca: None, client_crl: None };

fn identity() -> ServerArgs {
    let file = || Some(PathBuf::from("f"));
    ServerArgs { tls_cert: file(), tls_key: file(), ..with_token() }
}

fn plaintext(on: bool) -> ServerArgs {
    ServerArgs { plaintext: Some(on), ..with_token() }
}

fn with_token() -> ServerArgs {
    ServerArgs::default().with_some_token()
}

fn encryption(typed: ServerArgs, file: ServerArgs) -> ServerEncryption {
    let layers = Given { typed, ..Given::default() }.over_file(file);
    ServerSettings::resolve(layers, Vec::new()).unwrap().encryption
}

#[test]
fn what_rules_something_out_does_so_in_the_layers_below() {
    assert_eq!(encryption(plaintext(true), identity()), ServerEncryption::Plaintext);
    assert!(matches!(
        encryption(identity(), plaintext(true)),
        ServerEncryption::Tls { identity: Some(_), .. }
    ));
    assert!(
        matches!(
            encryption(plaintext(false), identity()),
            ServerEncryption::Tls { identity: Some(_), .. }
        ),
        "not to speak in plaintext says nothing against a certificate"
    );
    assert_eq!(encryption(plaintext(false), plaintext(true)), SELF_SIGNED);
    let client_ca = ServerArgs { tls_client_ca: Some(PathBuf::from("f")), ..with_token() };
    assert_eq!(encryption(plaintext(true), client_ca.clone()), ServerEncryption::Plaintext);
    let asked = encryption(client_ca, plaintext(true));
    assert!(matches!(asked, ServerEncryption::Tls { client_ca: Some(_), .. }));
}

#[test]
fn what_plaintext_further_up_rules_out_is_named() {
    let file = || Some(PathBuf::from("f"));
    let verified = ConnectArgs {
        tls: ClientTlsArgs { tls_ca: file(), tls_verify: Some(true), ..ClientTlsArgs::default() },
        ..ConnectArgs::default()
    };
    let plain = ConnectArgs { plaintext: Some(true), ..ConnectArgs::default() };
    let of = |typed: &ConnectArgs, environment: &ConnectArgs, file: &ConnectArgs| {
        let given = Given { typed: typed.clone(), environment: environment.clone() };
        given.over_file(file.clone()).ruled_out()
    };
    let nothing = ConnectArgs::default();
    assert_eq!(of(&nothing, &plain, &verified), ["--tls-ca", "--tls-verify"]);
    assert_eq!(of(&plain, &nothing, &verified), ["--tls-ca", "--tls-verify"]);
    assert_eq!(of(&plain, &verified, &verified), ["--tls-ca", "--tls-verify"]);
    assert!(of(&plain, &nothing, &nothing).is_empty());
    assert!(of(&nothing, &verified, &plain).is_empty(), "it is the plaintext that is ruled out");
    assert!(of(&verified, &plain, &verified).is_empty(), "what is typed asks for certificates");

    let asked = ServerArgs { tls_client_ca: file(), ..ServerArgs::default() };
    let plain = ServerArgs { plaintext: Some(true), ..ServerArgs::default() };
    let given = Given { environment: plain, ..Given::default() };
    assert_eq!(given.over_file(asked).ruled_out(), ["--tls-client-ca"]);
}

#[test]
fn a_client_s_certificates_and_plaintext_rule_each_other_out_in_the_layers_below() {
    let plain = || ConnectArgs { plaintext: Some(true), ..ConnectArgs::default() };
    let set: [fn(&mut ClientTlsArgs); 5] = [
        |tls| tls.tls_ca = Some(PathBuf::from("f")),
        |tls| tls.tls_verify = Some(true),
        |tls| tls.tls_server_name = Some("a".to_owned()),
        |tls| tls.tls_cert = Some(PathBuf::from("f")),
        |tls| tls.tls_key = Some(PathBuf::from("f")),
    ];
    for set in set {
        let mut certificates = ConnectArgs::default();
        set(&mut certificates.tls);
        let below = plain().over(certificates.clone());
        assert!(below.plaintext == Some(true) && !below.tls.is_given(), "{below:?}");
        let above = certificates.over(plain());
        assert!(above.plaintext.is_none() && above.tls.is_given(), "{above:?}");
    }
    let unverified = ClientTlsArgs { tls_verify: Some(false), ..ClientTlsArgs::default() };
    let unverified = ConnectArgs { tls: unverified, ..ConnectArgs::default() };
    assert_eq!(
        unverified.over(plain()).plaintext,
        Some(true),
        "no verification needs no encryption"
    );
}

#[test]
fn an_identity_may_be_put_together_from_two_layers() {
    let cert = ServerArgs { tls_key: None, ..identity() };
    let key = ServerArgs { tls_cert: None, ..identity() };
    assert!(matches!(encryption(cert, key), ServerEncryption::Tls { identity: Some(_), .. }));
}

#[test]
fn one_layer_that_contradicts_itself_is_refused() {
    let both = ServerArgs { plaintext: Some(true), ..identity() };
    let layers = Given::default().over_file(both);
    assert!(
        ServerSettings::resolve(layers, Vec::new())
            .unwrap_err()
            .to_string()
            .contains("--plaintext")
    );
}

#[test]
fn what_nobody_says_is_the_default() {
    let layers = Layers { file: with_token(), ..Layers::default() };
    let settings = ServerSettings::resolve(layers, Vec::new()).unwrap();
    assert_eq!(settings.bind, "0.0.0.0:7835".parse().unwrap());
    assert_eq!(settings.http_bind, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(settings.encryption, SELF_SIGNED);
    assert_eq!(settings.domain, None);
}
