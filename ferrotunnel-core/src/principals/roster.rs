//! The principals of a server, and what follows when they are replaced.

use std::sync::Arc;

use ferrotunnel_common::Token;
use hashbrown::{HashMap, HashSet};

use super::{Policy, Principal, PrincipalConfig, SHARED};
use crate::auth::{Credential, Known, Verifier};
use crate::error::BuildError;
use crate::server::PrincipalReading;

/// All who may come at present.
#[derive(Debug)]
pub(crate) struct Roster {
    /// For those who have the shared token.
    shared: Option<Arc<Credential>>,
    principals: HashMap<String, Arc<Principal>>,
    /// What the operator wrote last.
    configs: Vec<PrincipalConfig>,
    /// Tokens, by id, that are not accepted any more whatever the settings say, until this process ends.
    revoked: HashSet<String>,
}

/// What a replacement comes to.
pub(crate) struct Change {
    /// All tokens that may be used.
    pub(crate) known: Known,
    /// For principals that have been there before.
    pub(crate) policies: Vec<(Arc<Principal>, Policy)>,
    /// Those of before none of whose tokens may be used any more.
    pub(crate) gone: Vec<Arc<Principal>>,
}

impl Roster {
    /// Nobody but those with the shared token, if there is one. It may be a named one.
    ///
    /// # Errors
    /// The cipher library makes no keys.
    pub(crate) fn new(shared: Option<&Token>) -> Result<Self, BuildError> {
        let shared = shared
            .map(|token| {
                let verifier = Verifier::of(token)?;
                Ok(Arc::new(Credential { verifier, principal: Arc::new(Principal::shared()) }))
            })
            .transpose()
            .map_err(|error: crate::auth::NoKeys| BuildError::System(error.to_string()))?;
        Ok(Self {
            shared,
            principals: HashMap::new(),
            configs: Vec::new(),
            revoked: HashSet::new(),
        })
    }

    /// From now on these are all. One of the same name stays the same.
    ///
    /// # Errors
    /// One of them cannot be used; nothing has changed then.
    pub(crate) fn replace(&mut self, configs: &[PrincipalConfig]) -> Result<Change, BuildError> {
        let mut principals = HashMap::with_capacity(configs.len());
        let (mut known, mut policies) = (Known::new(), Vec::new());
        if let Some(shared) = &self.shared {
            known.insert(shared.token_id().to_owned(), Arc::clone(shared));
        }
        for config in configs {
            let wrong =
                |reason: String| BuildError::Principal { name: config.name.clone(), reason };
            check_name(&config.name).map_err(wrong)?;
            let policy = Policy::of(config).map_err(wrong)?;
            if config.verifiers.is_empty() && !config.disabled {
                let reason =
                    "it has no tokens: make one with `ferrotunnel token new`, or disable it";
                return Err(wrong(reason.to_owned()));
            }
            let principal = match self.principals.get(&config.name) {
                Some(old) => {
                    policies.push((Arc::clone(old), policy));
                    Arc::clone(old)
                }
                None => Arc::new(Principal::new(config.name.clone(), policy)),
            };
            for verifier in &config.verifiers {
                let id = verifier.token_id();
                let credential =
                    Credential { verifier: verifier.clone(), principal: Arc::clone(&principal) };
                if let Some(other) = known.insert(id.to_owned(), Arc::new(credential)) {
                    let other = other.principal.name();
                    return Err(wrong(format!(
                        "token {id} is also one of {other:?}; take it from one"
                    )));
                }
            }
            if principals.insert(config.name.clone(), principal).is_some() {
                return Err(wrong("there are two of that name".to_owned()));
            }
        }
        for config in configs.iter().filter(|config| config.disabled) {
            for verifier in &config.verifiers {
                known.remove(verifier.token_id());
            }
        }
        known.retain(|id, _| !self.revoked.contains(id));
        let gone = {
            let with_token: HashSet<&str> =
                known.values().map(|one| one.principal.name()).collect();
            let shared = self.shared.iter().map(|shared| &shared.principal);
            let before = self.principals.values().chain(shared);
            before.filter(|one| !with_token.contains(one.name())).cloned().collect()
        };
        self.principals = principals;
        self.configs = configs.to_vec();
        Ok(Change { known, policies, gone })
    }

    /// The tokens that a principal has now are not accepted any more, not even when the settings are read again; another
    /// one in the settings will do. `None`: there is no such principal.
    ///
    /// # Errors
    /// None that the settings did not have before.
    pub(crate) fn revoke(&mut self, name: &str) -> Result<Option<Change>, BuildError> {
        let tokens: Vec<String> = match (&self.shared, name) {
            (Some(shared), SHARED) => vec![shared.token_id().to_owned()],
            _ => match self.configs.iter().find(|config| config.name == name) {
                Some(config) => {
                    config.verifiers.iter().map(|one| one.token_id().to_owned()).collect()
                }
                None => return Ok(None),
            },
        };
        self.revoked.extend(tokens);
        let configs = self.configs.clone();
        self.replace(&configs).map(Some)
    }

    /// Everybody, for whoever looks at it from outside.
    pub(crate) fn read(&self) -> Vec<PrincipalReading> {
        let is_revoked = |id: &str| self.revoked.contains(id);
        let shared =
            self.shared.iter().map(|shared| shared.principal.read(is_revoked(shared.token_id())));
        let named = self.configs.iter().filter_map(|config| {
            let disabled =
                config.disabled || config.verifiers.iter().all(|one| is_revoked(one.token_id()));
            Some(self.principals.get(&config.name)?.read(disabled))
        });
        shared.chain(named).collect()
    }
}

/// Whether a server could be started with these, and with that token for those who share it.
///
/// # Errors
/// One of them cannot be used.
pub fn check_principals(
    shared: Option<&Token>,
    configs: &[PrincipalConfig],
) -> Result<(), BuildError> {
    Roster::new(shared)?.replace(configs).map(drop)
}

fn check_name(name: &str) -> Result<(), String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_legal) {
        return Err("a name has letters, digits, - and _, at most 64".to_owned());
    }
    if name == SHARED {
        return Err(
            "that is the name of those who have the shared token; choose another".to_owned()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Authenticator, issue_token};

    fn one(name: &str) -> PrincipalConfig {
        PrincipalConfig::new(name).verifier(issue_token().unwrap().1)
    }

    fn error(configs: &[PrincipalConfig]) -> String {
        let token = Token::new("shared").unwrap();
        check_principals(Some(&token), configs).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_name() {
        check_principals(None, &[one("web"), one("Web_2")]).unwrap();
        for name in ["", "a b", "a.b", "\u{e4}", &"x".repeat(65), "default"] {
            assert!(error(&[one(name)]).starts_with(&format!("principal {name:?}: ")), "{name:?}");
        }
        assert!(error(&[one("web"), one("web")]).contains("two of that name"));
        let web = one("web");
        let twin = PrincipalConfig { name: "twin".to_owned(), ..web.clone() };
        let text = error(&[web, twin]);
        assert!(text.contains("\"twin\"") && text.contains("\"web\""), "{text}");
        assert!(error(&[PrincipalConfig::new("web")]).contains("token new"));
        let disabled = PrincipalConfig { disabled: true, ..PrincipalConfig::new("web") };
        check_principals(None, &[disabled]).unwrap();
    }

    /// A session that was in its handshake meanwhile has the rights of the one that is gone.
    #[test]
    fn a_principal_that_was_removed_and_made_anew_is_another() {
        let web = one("web");
        let mut roster = Roster::new(None).unwrap();
        let known = roster.replace(std::slice::from_ref(&web)).unwrap().known;
        let before = known.values().next().map(Arc::clone).unwrap();
        let authenticator = Authenticator::new(known).unwrap();
        assert!(authenticator.still_knows(&before));
        authenticator.replace(roster.replace(std::slice::from_ref(&web)).unwrap().known);
        assert!(authenticator.still_knows(&before), "nothing has changed");
        authenticator.replace(roster.replace(&[]).unwrap().known);
        assert!(!authenticator.still_knows(&before));
        authenticator.replace(roster.replace(&[web]).unwrap().known);
        assert!(!authenticator.still_knows(&before));
    }

    #[test]
    fn a_named_token_that_is_shared_is_nobody_s_own() {
        let (token, verifier) = issue_token().unwrap();
        let web = PrincipalConfig::new("web").verifier(verifier);
        let error = check_principals(Some(&token), &[web]).unwrap_err().to_string();
        assert!(error.contains("\"default\""), "{error}");
    }

    #[test]
    fn those_who_are_disabled_are_not_known() {
        let mut roster = Roster::new(None).unwrap();
        let (web, mut shop) = (one("web"), one("shop"));
        assert_eq!(roster.replace(&[web.clone(), shop.clone()]).unwrap().known.len(), 2);
        shop.disabled = true;
        let change = roster.replace(&[web.clone(), shop]).unwrap();
        let ids: Vec<&str> = change.known.keys().map(String::as_str).collect();
        assert_eq!((ids, change.policies.len()), (vec![web.verifiers[0].token_id()], 2));
        let names = |change: Change| -> Vec<_> {
            change.gone.iter().map(|one| one.name().to_owned()).collect()
        };
        assert_eq!(names(change), ["shop"]);
        assert_eq!(names(roster.revoke("web").unwrap().unwrap()).len(), 2);
        assert_eq!(names(roster.replace(&[]).unwrap()).len(), 2);
        assert_eq!(names(roster.replace(&[]).unwrap()).len(), 0);
    }

    #[test]
    fn a_token_that_was_revoked_stays_so_and_a_new_one_is_taken() {
        let token = Token::new("shared").unwrap();
        let mut roster = Roster::new(Some(&token)).unwrap();
        let web = one("web");
        roster.replace(std::slice::from_ref(&web)).unwrap();
        assert!(roster.revoke("nobody").unwrap().is_none());
        let disabled = |roster: &Roster| -> Vec<_> {
            roster.read().iter().map(|one| (one.name.clone(), one.disabled)).collect()
        };
        let both = |shared, web| vec![("default".to_owned(), shared), ("web".to_owned(), web)];
        assert_eq!(disabled(&roster), both(false, false));
        assert_eq!(roster.revoke("web").unwrap().unwrap().known.len(), 1);
        assert_eq!(disabled(&roster), both(false, true));
        let known = roster.replace(std::slice::from_ref(&web)).unwrap().known;
        assert!(!known.contains_key(web.verifiers[0].token_id()));
        let fresh = web.clone().verifier(issue_token().unwrap().1);
        let known = roster.replace(std::slice::from_ref(&fresh)).unwrap().known;
        assert!(known.contains_key(fresh.verifiers[1].token_id()) && known.len() == 2);
        assert_eq!(disabled(&roster), both(false, false));
        assert_eq!(roster.revoke("default").unwrap().unwrap().known.len(), 1);
        assert_eq!(disabled(&roster), both(true, false));
    }

    #[test]
    fn an_error_changes_nothing() {
        let mut roster = Roster::new(None).unwrap();
        let web = one("web");
        roster.replace(std::slice::from_ref(&web)).unwrap();
        let before = Arc::clone(&roster.principals["web"]);
        assert!(roster.replace(&[web.clone(), one("a b")]).is_err());
        assert!(Arc::ptr_eq(&before, &roster.principals["web"]));
        let change = roster.replace(std::slice::from_ref(&web)).unwrap();
        assert!(Arc::ptr_eq(&before, &change.policies[0].0));
    }
}
