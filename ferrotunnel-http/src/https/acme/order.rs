//! One order, from its beginning to a certificate.

use std::path::Path;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, KeyAuthorization, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls_pki_types::PrivateKeyDer;

use super::challenges::{Challenges, Posed};
use super::fault::Fault;
use super::hook::{self, Deed};
use crate::https::shown::Manner;

/// What it takes to convince a server.
pub(super) struct Means<'a> {
    pub(super) challenges: &'a Challenges,
    pub(super) manner: &'a Manner,
    pub(super) dns_hook: Option<&'a Path>,
}

/// A certificate with whoever issued it, and its key; PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
}

/// A way to show that a host is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// On the port of HTTPS.
    Tls,
    /// On the port of HTTP.
    Http,
    /// In the DNS; the only one for a star.
    Dns,
}

/// Orders a certificate for one name, by one way.
pub(super) async fn order(
    account: &Account,
    name: &str,
    way: Way,
    means: &Means<'_>,
) -> Result<Issued, Fault> {
    let identifiers = [Identifier::Dns(name.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let mut shown = Vec::new();
    let issued = async {
        show(&mut order, name, way, means, &mut shown).await?;
        finish(&mut order, name).await
    }
    .await;
    for shown in shown {
        shown.take_back(means).await;
    }
    issued
}

/// Shows what the server asks for.
async fn show(
    order: &mut Order,
    name: &str,
    way: Way,
    means: &Means<'_>,
    shown: &mut Vec<Shown>,
) -> Result<(), Fault> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let kind = match way {
            Way::Tls => ChallengeType::TlsAlpn01,
            Way::Http => ChallengeType::Http01,
            Way::Dns => ChallengeType::Dns01,
        };
        let Some(mut challenge) = authorization.challenge(kind) else {
            return Err(Fault::NoWay(name.to_owned()));
        };
        let answer = challenge.key_authorization();
        match way {
            Way::Tls => {
                let config = tls_answer(name, &answer, means)?;
                shown.push(Shown::Here(means.challenges.over_tls(name, config)));
            }
            Way::Http => {
                let token = challenge.token.clone();
                let posed = means.challenges.over_http(name, &token, answer.as_str());
                shown.push(Shown::Here(posed));
            }
            Way::Dns => {
                let program = means.dns_hook.ok_or_else(|| Fault::NoWay(name.to_owned()))?;
                let bare = name.strip_prefix("*.").unwrap_or(name);
                let (record, value) = (format!("_acme-challenge.{bare}"), answer.dns_value());
                // Noted first: what was half done is taken back too.
                shown.push(Shown::Record(record.clone(), value.clone()));
                hook::run(program, Deed::Add, &record, &value).await?;
            }
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Waits until the server is convinced, and gets the certificate.
async fn finish(order: &mut Order, name: &str) -> Result<Issued, Fault> {
    let retries = RetryPolicy::new().timeout(CONVINCED_WITHIN);
    let status = match order.poll_ready(&retries).await {
        Ok(status) => status,
        Err(instant_acme::Error::Timeout(_)) => return Err(Fault::TooSlow),
        Err(error) => return Err(why_not(order, name).await.unwrap_or(error.into())),
    };
    if status != OrderStatus::Ready {
        let unknown = || Fault::NotOurs(name.to_owned(), "it does not say why".to_owned());
        return Err(why_not(order, name).await.unwrap_or_else(unknown));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&RetryPolicy::new().timeout(CONVINCED_WITHIN)).await?;
    Ok(Issued { chain, key: key.serialize_pem() })
}

/// What the server did not like about what it was shown.
async fn why_not(order: &mut Order, name: &str) -> Option<Fault> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            let why = problem.detail.clone().unwrap_or_else(|| problem.to_string());
            let why = why.chars().filter(|c| !c.is_control()).take(300).collect();
            return Some(Fault::NotOurs(name.to_owned(), why));
        }
    }
    None
}

/// What has to be taken back when the order is over.
enum Shown {
    Here(Posed),
    Record(String, String),
}

impl Shown {
    async fn take_back(self, means: &Means<'_>) {
        match (self, means.dns_hook) {
            (Self::Record(record, value), Some(program)) => {
                if let Err(error) = hook::run(program, Deed::Remove, &record, &value).await {
                    tracing::warn!(%error, "a record stays in the DNS");
                }
            }
            (Self::Record(..), None) => {}
            (Self::Here(posed), _) => drop(posed),
        }
    }
}

/// A certificate with the answer in it (RFC 8737, section 3).
fn tls_answer(
    name: &str,
    answer: &KeyAuthorization,
    means: &Means<'_>,
) -> Result<std::sync::Arc<rustls::ServerConfig>, Fault> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(answer.digest().as_ref())];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = means.manner.challenge(vec![certificate.der().clone()], key);
    config.map_err(|error| Fault::Unusable(error.to_string()))
}

/// Servers look from several places, and may take a while for it.
const CONVINCED_WITHIN: Duration = Duration::from_secs(90);
