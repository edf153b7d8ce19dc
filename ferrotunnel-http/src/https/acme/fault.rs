//! Why there is no certificate.

/// What went wrong with an order.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{}", said(.0))]
    Server(instant_acme::Error),
    #[error("the server could not convince itself that {0} is ours: {1}")]
    NotOurs(String, String),
    #[error(
        "the server offers no way to prove {0} that there is one for here; a star needs acme_dns_hook (--acme-dns-hook)"
    )]
    NoWay(String),
    #[error("{0}")]
    Hook(String),
    #[error("the key of the external account, {0}: {1}")]
    External(String, String),
    #[error("cannot keep it: {0}")]
    Disk(#[from] std::io::Error),
    #[error("what the server issued cannot be used: {0}")]
    Unusable(String),
    #[error("the server took too long")]
    TooSlow,
}

impl Fault {
    /// Whether the server asks us to leave it alone for a while.
    pub(super) fn is_rate_limit(&self) -> bool {
        self.is("urn:ietf:params:acme:error:rateLimited")
    }

    /// Whether the server has forgotten about our account.
    pub(super) fn is_without_account(&self) -> bool {
        self.is("urn:ietf:params:acme:error:accountDoesNotExist")
    }

    fn is(&self, kind: &str) -> bool {
        let Self::Server(instant_acme::Error::Api(problem)) = self else { return false };
        problem.r#type.as_deref() == Some(kind)
    }
}

impl From<instant_acme::Error> for Fault {
    fn from(error: instant_acme::Error) -> Self {
        Self::Server(error)
    }
}

impl From<rcgen::Error> for Fault {
    fn from(error: rcgen::Error) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// What a server says ends up in our log: one line of it, and not a long one.
fn said(error: &instant_acme::Error) -> String {
    let text = error.to_string();
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MOST_SAID).map(clean).collect()
}

const MOST_SAID: usize = 500;
