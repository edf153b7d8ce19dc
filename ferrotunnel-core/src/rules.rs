//! What a client asks for at registration, as the rules of one tunnel. They are made once.
//!
//! What only an ingress understands it makes itself, and has it handed back as it is.

use std::any::Any;
use std::sync::Arc;

use ferrotunnel_common::TunnelKind;
use ferrotunnel_protocol::frame::{RefusalCode, Register, TunnelOptions};

use crate::access::{Access, AccessConfig, GateMaker};
use crate::options;
use crate::principals::Denied;

/// Rules of one tunnel, for the ingress that made them.
pub type IngressRules = Arc<dyn Any + Send + Sync>;

/// Makes rules of options, or says what is wrong with them.
pub(crate) type Maker<T> = fn(&[(String, String)]) -> Result<T, String>;

/// Makes rules of those options of a tunnel that say what becomes of the headers of its messages.
///
/// # Errors
/// What is wrong with them, for people.
pub type HeadersMaker = Maker<IngressRules>;

/// What the HTTP ingress makes of options that are not known here.
#[derive(Clone, Copy, Debug)]
pub struct HttpMakers {
    /// Who may visit a tunnel.
    pub gate: GateMaker,
    /// What becomes of headers.
    pub headers: HeadersMaker,
}

/// The rules of one tunnel.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Who may visit it; `None`: everybody.
    pub(crate) access: Option<Box<Access>>,
    /// What becomes of headers; `None`: nothing.
    pub(crate) headers: Option<IngressRules>,
}

impl Rules {
    /// What a client asks for.
    ///
    /// # Errors
    /// It makes no sense, or is more than this server knows.
    pub(crate) fn of(wanted: &Register, config: &AccessConfig) -> Result<Self, Denied> {
        let access = Access::of(wanted, config)?;
        let options = under(options::HEADERS, &[], wanted);
        let make = config.http.map(|http| http.headers);
        Ok(Self { access, headers: made(wanted.kind, &options, make)? })
    }
}

/// The options that begin with `prefix`, apart from those that are known already.
pub(crate) fn under(prefix: &str, known: &[&str], wanted: &Register) -> TunnelOptions {
    let of_it = |key: &str| key.starts_with(prefix) && !known.contains(&key);
    wanted.options.iter().filter(|(key, _)| of_it(key)).cloned().collect()
}

/// What the HTTP ingress makes of options; `None` if there are none.
pub(crate) fn made<T>(
    kind: TunnelKind,
    options: &[(String, String)],
    make: Option<Maker<T>>,
) -> Result<Option<T>, Denied> {
    let Some((key, _)) = options.first() else { return Ok(None) };
    let made = match make {
        Some(make) if kind == TunnelKind::Http => make(options).map(Some),
        _ => Err(format!("this server knows no option {key:?} for {kind} tunnels; leave it out")),
    };
    made.map_err(|reason| (RefusalCode::NotAllowed, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(kind: TunnelKind, key: &str) -> Register {
        let options = vec![(key.to_owned(), "x".to_owned())];
        Register { kind, name: String::new(), hosts: Vec::new(), port: 0, options }
    }

    fn config() -> AccessConfig {
        let gate: GateMaker = |_| Err("no gate".to_owned());
        let headers: HeadersMaker = |options| Ok(Arc::new(options.to_vec()));
        AccessConfig { http: Some(HttpMakers { gate, headers }), ..AccessConfig::default() }
    }

    #[test]
    fn the_http_ingress_makes_rules_of_what_concerns_headers() {
        let http = wanted(TunnelKind::Http, "header-mood");
        let rules = Rules::of(&http, &config()).unwrap().headers.unwrap();
        assert_eq!(*rules.downcast::<TunnelOptions>().unwrap(), http.options);
        let other = wanted(TunnelKind::Http, "streams");
        assert!(Rules::of(&other, &config()).unwrap().headers.is_none());
    }

    #[test]
    fn headers_of_what_has_none_are_refused() {
        for (wanted, config) in [
            (wanted(TunnelKind::Tcp, "header-mood"), config()),
            (wanted(TunnelKind::Http, "header-mood"), AccessConfig::default()),
        ] {
            let (code, reason) = Rules::of(&wanted, &config).unwrap_err();
            assert_eq!(code, RefusalCode::NotAllowed);
            assert!(reason.contains("header-mood"), "{reason}");
        }
    }
}
