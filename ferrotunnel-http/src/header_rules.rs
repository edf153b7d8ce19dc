//! What a tunnel has done to the headers of its requests and responses, apart from what is done for every tunnel.
//!
//! The rules are made once, of the options that the client gives at registration. Where a tunnel has none, a request
//! pays one look for them. Answers of ours are not touched: they are not the local service's.

mod rule;

use std::sync::Arc;

use ferrotunnel_core::{IngressRules, Tunnel, option_values, pack_option, pack_option_lines};
use ferrotunnel_plugin::Dir;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::rule::HeaderRule;
use self::rule::What;
use crate::{
    headers::{join_cookies, look_alike},
    host::Asked,
};

/// What a client asks for: the host that its local service sees, and what becomes of headers on either way.
#[derive(Clone, Default)]
pub struct HeaderRules {
    host: Option<Asked>,
    request: Edits,
    response: Edits,
}

/// Done in this order, so that a rule does not undo one that was made beside it.
#[derive(Clone, Default)]
struct Edits {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderRules {
    /// The local service sees that host, with a port or without, whatever the visitor asked for.
    ///
    /// # Errors
    /// It is none.
    pub fn set_host(&mut self, host: &str) -> Result<(), String> {
        let asked = Asked::instead(host).ok_or_else(|| {
            format!("{host:?} is no host; give one like app.example.com or localhost:3000")
        })?;
        self.host = Some(asked);
        Ok(())
    }

    /// One more rule, for requests or for responses.
    ///
    /// # Errors
    /// There can be no such rule, or not beside the others.
    pub fn push(&mut self, dir: Dir, rule: &HeaderRule) -> Result<(), String> {
        let edits = match dir {
            Dir::Request => &mut self.request,
            Dir::Response => &mut self.response,
        };
        let (name, value) = rule.read(dir)?;
        if edits.len() >= MOST_RULES {
            return Err(format!("there are more than {MOST_RULES} rules"));
        }
        match rule.what() {
            What::Remove if edits.remove.contains(&name) => {
                return Err(format!("{name:?} is removed twice", name = name.as_str()));
            }
            What::Remove => edits.remove.push(name),
            What::Set if edits.set.iter().any(|(other, _)| *other == name) => {
                let name = name.as_str();
                return Err(format!("{name:?} is set twice; add the second value"));
            }
            What::Set => edits.set.push((name, value)),
            What::Add => edits.add.push((name, value)),
        }
        Ok(())
    }

    /// The options that say so at registration.
    pub fn to_options(&self) -> Vec<(String, String)> {
        let mut options = pack_option(HOST, self.host.as_ref().map(Asked::text));
        for (edits, [remove, set, add]) in [(&self.request, REQUEST), (&self.response, RESPONSE)] {
            options.extend(pack_option(remove, &edits.remove));
            options.extend(pack_option_lines(set, edits.set.iter().map(line)));
            options.extend(pack_option_lines(add, edits.add.iter().map(line)));
        }
        options
    }

    fn of_options(options: &[(String, String)]) -> Result<Self, String> {
        let known = |key: &str| key == HOST || [REQUEST, RESPONSE].concat().contains(&key);
        if let Some((key, _)) = options.iter().find(|(key, _)| !known(key)) {
            return Err(format!("this server knows no option {key:?}; leave it out"));
        }
        let mut rules = Self::default();
        let mut hosts = options.iter().filter(|(key, _)| key == HOST);
        if let Some((_, host)) = hosts.next() {
            rules.set_host(host).map_err(|why| format!("the option {HOST:?}: {why}"))?;
        }
        if hosts.next().is_some() {
            return Err(format!("the option {HOST:?} is there twice"));
        }
        for (dir, [remove, set, add]) in [(Dir::Request, REQUEST), (Dir::Response, RESPONSE)] {
            let mut take = |key: &str, rule: Result<HeaderRule, String>| {
                let taken = rule.and_then(|rule| rules.push(dir, &rule));
                taken.map_err(|why| format!("the option {key:?}: {why}"))
            };
            let mut removes = options.iter().filter(|(key, _)| key == remove);
            if removes.any(|(_, names)| names.trim().is_empty()) {
                return Err(format!("the option {remove:?} has nothing in it"));
            }
            for name in option_values(options, remove) {
                take(remove, Ok(HeaderRule::remove(name)))?;
            }
            for line in lines(options, set) {
                take(set, HeaderRule::set_line(line))?;
            }
            for line in lines(options, add) {
                take(add, HeaderRule::add_line(line))?;
            }
        }
        Ok(rules)
    }

    /// Those of a tunnel, if it has any.
    pub(crate) fn of(tunnel: &Tunnel) -> Option<Arc<Self>> {
        let rules = tunnel.headers()?;
        Arc::clone(rules).downcast().ok()
    }

    /// What the local service sees in place of the host that the visitor asked for.
    pub(crate) fn host(&self) -> Option<&Asked> {
        self.host.as_ref()
    }

    /// On the way to the local service, when everything else has been done to them.
    pub(crate) fn change_request(&self, headers: &mut HeaderMap) {
        self.request.apply(headers);
        // HTTP/1.1 knows one `Cookie` header, and one may have been added.
        join_cookies(headers);
    }

    /// On the way to the visitor, when what concerns the last hop only is out.
    pub(crate) fn change_response(&self, headers: &mut HeaderMap) {
        self.response.apply(headers);
    }
}

impl Edits {
    fn len(&self) -> usize {
        self.remove.len() + self.set.len() + self.add.len()
    }

    fn apply(&self, headers: &mut HeaderMap) {
        self.drop_lookalikes(headers);
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

impl Edits {
    /// CGI and what came after it show `-` and `_` alike to the application: whoever takes a header out, or says
    /// what it is, means that one too.
    fn drop_lookalikes(&self, headers: &mut HeaderMap) {
        let is_meant = |name: &HeaderName| {
            let mut ours = self.remove.iter().chain(self.set.iter().map(|(name, _)| name));
            ours.any(|ours| {
                name != ours && look_alike(name.as_str().as_bytes(), ours.as_str().as_bytes())
            })
        };
        let lookalikes: Vec<HeaderName> =
            headers.keys().filter(|name| is_meant(name)).cloned().collect();
        for name in lookalikes {
            headers.remove(name);
        }
    }
}

/// The rules that a client asks for with these options.
///
/// # Errors
/// What is wrong with them.
pub fn make_header_rules(options: &[(String, String)]) -> Result<IngressRules, String> {
    HeaderRules::of_options(options).map(|rules| Arc::new(rules) as IngressRules)
}

fn line((name, value): &(HeaderName, HeaderValue)) -> String {
    // Made of text.
    format!("{name}: {}", value.to_str().unwrap_or_default())
}

fn lines<'a>(options: &'a [(String, String)], key: &'a str) -> impl Iterator<Item = &'a str> {
    options.iter().filter(move |(name, _)| name == key).flat_map(|(_, value)| value.split('\n'))
}

/// For requests and for responses each. With the headers of a browser that is still less than the hundred that usual
/// servers take.
const MOST_RULES: usize = 50;

const HOST: &str = "header-host";
const REQUEST: [&str; 3] = ["header-request-remove", "header-request-set", "header-request-add"];
const RESPONSE: [&str; 3] =
    ["header-response-remove", "header-response-set", "header-response-add"];

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(requests: &[HeaderRule], responses: &[HeaderRule]) -> HeaderRules {
        let mut rules = HeaderRules::default();
        requests.iter().for_each(|rule| rules.push(Dir::Request, rule).unwrap());
        responses.iter().for_each(|rule| rules.push(Dir::Response, rule).unwrap());
        rules
    }

    fn shown(headers: &HeaderMap) -> Vec<(&str, &str)> {
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn what_an_application_would_take_for_the_same_header_goes_too() {
        let (remove, set) = (HeaderRule::remove("x-remote-user"), HeaderRule::set("x-auth", "1"));
        let rules = rules(&[remove, set, HeaderRule::add("x-more", "1")], &[]);
        let mut headers = HeaderMap::new();
        for name in ["x_remote_user", "x-remote_user", "x_auth", "x_more", "x_other"] {
            headers.insert(name, HeaderValue::from_static("forged"));
        }
        rules.change_request(&mut headers);
        let mut left = shown(&headers);
        left.sort_unstable();
        let expected =
            [("x-auth", "1"), ("x-more", "1"), ("x_more", "forged"), ("x_other", "forged")];
        assert_eq!(left, expected);
    }

    #[test]
    fn first_is_removed_then_set_then_added_whatever_was_said_first() {
        let rules = rules(
            &[
                HeaderRule::add("x-a", "3"),
                HeaderRule::set("X-A", "2"),
                HeaderRule::remove("x-a"),
                HeaderRule::set("x-b", "new"),
                HeaderRule::remove("X-C"),
                HeaderRule::add("x-d", "2"),
                HeaderRule::add("x-d", "3"),
            ],
            &[],
        );
        let before = [("x-a", "1"), ("x-b", "1"), ("x-b", "2"), ("x-c", "1"), ("x-d", "1")];
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mut response = headers.clone();
        rules.change_request(&mut headers);
        let mut after = shown(&headers);
        after.sort_unstable();
        let expected =
            [("x-a", "2"), ("x-a", "3"), ("x-b", "new"), ("x-d", "1"), ("x-d", "2"), ("x-d", "3")];
        assert_eq!(after, expected);
        rules.change_response(&mut response);
        assert_eq!(shown(&response).len(), before.len());
    }

    #[test]
    fn cookies_are_set_beside_each_other_and_sent_in_one() {
        let rules = rules(
            &[HeaderRule::add("cookie", "b=2")],
            &[HeaderRule::add("set-cookie", "c=3"), HeaderRule::add("Set-Cookie", "d=4")],
        );
        let mut request =
            HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::from_static("a=1"))]);
        rules.change_request(&mut request);
        assert_eq!(shown(&request), [("cookie", "a=1; b=2")]);
        let mut response =
            HeaderMap::from_iter([(http::header::SET_COOKIE, HeaderValue::from_static("a=1"))]);
        rules.change_response(&mut response);
        let set: Vec<_> = shown(&response).into_iter().map(|(_, value)| value).collect();
        assert_eq!(set, ["a=1", "c=3", "d=4"]);
    }

    #[test]
    fn rules_travel_as_options() {
        let long = "v".repeat(600);
        let mut rules = rules(
            &[
                HeaderRule::remove("x-a"),
                HeaderRule::remove("x-b"),
                HeaderRule::set("x-c", "one two"),
                HeaderRule::set("x-d", ""),
            ],
            &[HeaderRule::add("x-e", &*long), HeaderRule::add("x-e", format!("{long}, a: b"))],
        );
        rules.set_host("app.lan:3000").unwrap();
        let options = rules.to_options();
        let key_value = |at: usize| (options[at].0.as_str(), options[at].1.as_str());
        assert_eq!(key_value(0), ("header-host", "app.lan:3000"));
        assert_eq!(key_value(1), ("header-request-remove", "x-a x-b"));
        assert_eq!(key_value(2), ("header-request-set", "x-c: one two\nx-d: "));
        assert_eq!(options.len(), 5, "long values have an option each");
        let again = HeaderRules::of_options(&options).unwrap();
        assert_eq!(again.to_options(), options);
        assert!(HeaderRules::default().to_options().is_empty());
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (key, value) in [
            (HOST, ""),
            (HOST, "a b"),
            (HOST, "http://a"),
            (HOST, "user@a"),
            ("header-mood", "good"),
            ("header-request-remove", " "),
            ("header-request-remove", "host"),
            ("header-request-remove", "x-a X-A"),
            ("header-request-set", "x-a"),
            ("header-request-set", "x-a: 1\nx-a: 2"),
            ("header-request-add", ""),
            ("header-request-add", "x-a: 1\r\nx-b: 2"),
            ("header-request-add", "x-forwarded-for: ::1"),
            ("header-response-add", "content-length: 0"),
            ("header-response-set", "x-a: \u{e9}"),
        ] {
            let error = make_header_rules(&[(key.to_owned(), value.to_owned())]).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
        let twice = [(HOST.to_owned(), "a".to_owned()), (HOST.to_owned(), "b".to_owned())];
        assert!(make_header_rules(&twice).is_err());
        let many = (0..51).map(|n| format!("x-{n}: 1")).collect::<Vec<_>>().join("\n");
        let error = make_header_rules(&[("header-request-add".to_owned(), many)]).unwrap_err();
        assert!(error.contains("more than 50"), "{error}");
    }
}
