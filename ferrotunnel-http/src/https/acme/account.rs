//! Our account with an ACME server: made once, then the same for ever.

use std::sync::Arc;

use instant_acme::{Account, AccountCredentials, NewAccount};

use super::client::Client;
use super::config::AcmeConfig;
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
    let (account, credentials) = builder.create(&wanted, config.server.clone(), None).await?;
    let kept =
        serde_json::to_vec(&credentials).map_err(|error| Fault::Unusable(error.to_string()))?;
    off(disk, move |disk| disk.keep_account(&kept)).await?;
    tracing::info!(server = %config.server, "there is an account with the ACME server now");
    Ok(account)
}

/// Disks may be slow: not on a thread that carries traffic.
pub(super) async fn off<T: Send + 'static>(
    disk: &Arc<Disk>,
    work: impl FnOnce(&Disk) -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let disk = Arc::clone(disk);
    tokio::task::spawn_blocking(move || work(&disk)).await.map_err(std::io::Error::other)?
}
