//! A server whose visitors need a key, each of their own.
//!
//! ```sh
//! cargo run -p ferrotunnel-examples --example api_key
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::error::Error;

use ferrotunnel::Server;
use ferrotunnel::plugin::http::{HeaderValue, Request, Response};
use ferrotunnel::plugin::{Plugin, PluginAction, RequestContext, Result, async_trait};

/// Lets in whoever has a key, and says whose it was.
pub(crate) struct ApiKey {
    owners: HashMap<String, String>,
}

/// Left for the later phases of the same request.
#[derive(Clone)]
struct Owner(String);

#[async_trait]
impl Plugin for ApiKey {
    fn name(&self) -> &str {
        "api-key"
    }

    async fn on_request(
        &self,
        request: &mut Request<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        // Taken out, so that the local service does not see it.
        let key = request.headers_mut().remove("x-api-key");
        let owner = key.and_then(|key| self.owners.get(key.to_str().ok()?));
        let Some(owner) = owner else {
            return Ok(PluginAction::Reject {
                status: 401,
                reason: "send a key in X-Api-Key".into(),
            });
        };
        request.headers_mut().insert("x-api-user", HeaderValue::try_from(owner)?);
        context.insert(Owner(owner.clone()));
        Ok(PluginAction::Continue)
    }

    async fn on_response(
        &self,
        response: &mut Response<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        if let Some(Owner(owner)) = context.get() {
            response.headers_mut().insert("x-served-for", HeaderValue::try_from(owner)?);
        }
        Ok(PluginAction::Continue)
    }
}

impl ApiKey {
    pub(crate) fn new<K: Into<String>>(owners: impl IntoIterator<Item = (K, K)>) -> Self {
        let owners = owners.into_iter().map(|(key, owner)| (key.into(), owner.into()));
        Self { owners: owners.collect() }
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .bind("127.0.0.1:0")
        .http_bind("127.0.0.1:0")
        .token("a-long-shared-secret")
        .plugin(ApiKey::new([("a-long-random-key", "alice")]))
        .build()?
        .spawn()
        .await?;
    println!("clients dial {}, visitors {:?}", server.tunnel_addr(), server.http_addr());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await?;
    Ok(())
}
