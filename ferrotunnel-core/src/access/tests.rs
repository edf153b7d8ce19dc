use ferrotunnel_common::TunnelKind;

use super::*;

fn wanted(kind: TunnelKind, options: &[(&str, &str)]) -> Register {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Register { kind, name: String::new(), hosts: Vec::new(), port: 0, options: options.collect() }
}

fn access(options: &[(&str, &str)]) -> Result<Option<Box<Access>>, Denied> {
    Access::of(&wanted(TunnelKind::Tcp, options), &AccessConfig::default())
}

fn admits(options: &[(&str, &str)], from: &str) -> bool {
    access(options).unwrap().is_none_or(|access| access.admits(from.parse().unwrap()))
}

#[test]
fn without_options_there_are_no_rules() {
    assert!(access(&[("streams", "auto")]).unwrap().is_none());
}

#[test]
fn whom_a_list_allows_comes_in_and_nobody_else() {
    let options = [("access-allow", "192.0.2.0/24 2001:db8::/32")];
    assert!(admits(&options, "192.0.2.7") && admits(&options, "2001:db8::7"));
    assert!(!admits(&options, "192.0.3.7") && !admits(&options, "::1"));
}

#[test]
fn whom_a_list_denies_stays_out_whatever_is_allowed() {
    let denied = [("access-deny", "192.0.2.7")];
    assert!(!admits(&denied, "192.0.2.7") && admits(&denied, "192.0.2.8"));
    let both = [("access-allow", "192.0.2.0/24"), ("access-deny", "192.0.2.7")];
    assert!(!admits(&both, "192.0.2.7") && admits(&both, "192.0.2.8"));
    assert!(!admits(&both, "198.51.100.1"));
}

#[test]
fn only_what_keeps_strangers_out_is_closed() {
    let is_closed = |options: &[(&str, &str)]| access(options).unwrap().unwrap().is_closed();
    assert!(is_closed(&[("access-allow", "::1")]));
    assert!(!is_closed(&[("access-deny", "::1")]));
    for everybody in ["0.0.0.0/0", "::/0", "0.0.0.0/0 ::/0", "192.0.2.7 ::ffff:0:0/96"] {
        assert!(!is_closed(&[("access-allow", everybody)]), "{everybody}");
    }
}

#[test]
fn what_the_server_does_not_understand_is_refused() {
    for options in [
        [("access-allow", "192.0.2.0/33")],
        [("access-deny", "nobody")],
        [("access-allow", "")],
        [("access-deny", " ")],
        [("access-basic", "user:hash")],
        [("access-mood", "good")],
    ] {
        let (code, reason) = access(&options).unwrap_err();
        assert_eq!(code, RefusalCode::NotAllowed);
        assert!(reason.contains(options[0].0), "{reason}");
    }
    let http = wanted(TunnelKind::Http, &[("access-mood", "good")]);
    assert!(Access::of(&http, &AccessConfig::default()).is_err());
}

#[test]
fn a_path_is_for_http_tunnels_and_closes_nothing() {
    let path = [("access-path", "/api")];
    let http = wanted(TunnelKind::Http, &path);
    assert!(Access::of(&http, &AccessConfig::default()).unwrap().is_none());
    for kind in [TunnelKind::Tcp, TunnelKind::Tls] {
        let (code, reason) =
            Access::of(&wanted(kind, &path), &AccessConfig::default()).unwrap_err();
        assert_eq!(code, RefusalCode::NotAllowed);
        assert!(reason.contains("access-path"), "{reason}");
    }
}

#[test]
fn long_lists_travel_in_several_options() {
    let networks: Vec<Cidr> =
        (0..200_u8).map(|last| IpAddr::from([192, 0, 2, last]).into()).collect();
    let rules = AddressRules { allow: networks.clone(), deny: networks };
    let options = rules.to_options();
    assert!(options.len() > 2 && options.iter().all(|(_, value)| value.len() <= 1024));
    assert_eq!(AddressRules::of_options(&options), Ok(rules));
}
