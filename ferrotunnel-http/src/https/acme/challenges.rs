//! What the ACME server asks us to show, for as long as it may ask.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustls::ServerConfig;

/// Answers to challenges of the moment. A cheap handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Challenges(Arc<Mutex<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    /// HTTP-01 (RFC 8555, section 8.3): tokens, with the host and what is said for it.
    http: HashMap<String, (String, Bytes)>,
    /// TLS-ALPN-01 (RFC 8737): hosts.
    tls: HashMap<String, Arc<ServerConfig>>,
}

/// Takes an answer back when it is dropped.
#[derive(Debug)]
pub(super) struct Posed {
    challenges: Challenges,
    by: By,
}

#[derive(Debug)]
enum By {
    Token(String),
    Host(String),
}

impl Challenges {
    pub(super) fn over_http(&self, host: &str, token: &str, answer: &str) -> Posed {
        let answer = Bytes::copy_from_slice(answer.as_bytes());
        self.0.lock().http.insert(token.to_owned(), (host.to_owned(), answer));
        Posed { challenges: self.clone(), by: By::Token(token.to_owned()) }
    }

    pub(super) fn over_tls(&self, host: &str, answer: Arc<ServerConfig>) -> Posed {
        self.0.lock().tls.insert(host.to_owned(), answer);
        Posed { challenges: self.clone(), by: By::Host(host.to_owned()) }
    }

    /// For a request of that path to that host. Every other path is its local service's.
    pub(crate) fn at(&self, host: &str, path: &str) -> Option<Bytes> {
        let token = path.strip_prefix("/.well-known/acme-challenge/")?;
        let pending = self.0.lock();
        let (of, answer) = pending.http.get(token)?;
        of.eq_ignore_ascii_case(host).then(|| answer.clone())
    }

    /// For a handshake with nothing behind it.
    pub(in super::super) fn config(&self, host: &str) -> Option<Arc<ServerConfig>> {
        self.0.lock().tls.get(&host.to_ascii_lowercase()).cloned()
    }
}

impl Drop for Posed {
    fn drop(&mut self) {
        let mut pending = self.challenges.0.lock();
        match &self.by {
            By::Token(token) => drop(pending.http.remove(token)),
            By::Host(host) => drop(pending.tls.remove(host)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_takes_no_path_but_its_own_and_that_for_a_while() {
        let challenges = Challenges::default();
        let posed = challenges.over_http("a.example", "token", "answer");
        let at = |host, path: &str| {
            challenges.at(host, &format!("/.well-known/acme-challenge/{path}")).is_some()
        };
        assert!(at("a.example", "token") && at("A.example", "token"));
        assert!(!at("b.example", "token") && !at("a.example", "other") && !at("a.example", ""));
        assert_eq!(challenges.at("a.example", "/token"), None);
        drop(posed);
        assert!(!at("a.example", "token"));
    }
}
