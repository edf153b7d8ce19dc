//! Our account with an ACME server: made once, then the same for ever.

use std::io;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};

use super::client::Client;
use super::config::{AcmeConfig, ExternalAccount};
use super::disk::Disk;
use super::fault::Fault;

/// The account that is on disk, or a new one.
pub(super) async fn account(
    config: &AcmeConfig,
    client: &Client,
    disk: &Arc<Disk>,
) -> Result<Account, Fault> {
    let builder = Account::builder_with_http(Box::new(client.clone()));
    if let Some(kept) = off(disk, |disk| disk.account()).await? {
        let kept: AccountCredentials = serde_json::from_slice(&kept)
            .map_err(|error| Fault::Unusable(format!("account.json: {error}")))?;
        return Ok(builder.from_credentials(kept).await?);
    }
    let contact = config.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.as_deref().into_iter().collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = match config.external.clone() {
        Some(external) => {
            let path = external.key_file.display().to_string();
            let read = off(disk, move |_| external_key(&external)).await;
            Some(read.map_err(|error| Fault::External(path, error.to_string()))?)
        }
        None => None,
    };
    let created = builder.create(&wanted, config.server.clone(), external.as_ref()).await;
    let (account, credentials) = created?;
    let kept =
        serde_json::to_vec(&credentials).map_err(|error| Fault::Unusable(error.to_string()))?;
    off(disk, move |disk| disk.keep_account(&kept)).await?;
    tracing::info!(server = %config.server, "there is an account with the ACME server now");
    Ok(account)
}

/// The key of an account that was made elsewhere. Nothing of the file is repeated in an error.
fn external_key(external: &ExternalAccount) -> io::Result<ExternalAccountKey> {
    let text = std::fs::read_to_string(&external.key_file)?;
    let text = text.trim().trim_end_matches('=');
    let key = Base64UrlUnpadded::decode_vec(text).ok().filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| io::Error::other("there is no key in base64url in it"))?;
    Ok(ExternalAccountKey::new(external.key_id.clone(), &key))
}

/// Disks may be slow: not on a thread that carries traffic.
pub(super) async fn off<T: Send + 'static>(
    disk: &Arc<Disk>,
    work: impl FnOnce(&Disk) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let disk = Arc::clone(disk);
    tokio::task::spawn_blocking(move || work(&disk)).await.map_err(io::Error::other)?
}
