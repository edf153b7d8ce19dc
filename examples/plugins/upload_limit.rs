//! A server that takes no uploads beyond a size, whether they say their length or not.
//!
//! ```sh
//! cargo run -p ferrotunnel-examples --example upload_limit
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use ferrotunnel::Server;
use ferrotunnel::plugin::http::Request;
use ferrotunnel::plugin::{Bytes, Plugin, PluginAction, RequestContext, Result, async_trait};

/// Refuses uploads that say that they are too long, and cuts those that turn out to be.
pub(crate) struct UploadLimit {
    pub(crate) most_bytes: u64,
}

/// Bytes of this request so far.
#[derive(Clone, Copy, Default)]
struct Uploaded(u64);

#[async_trait]
impl Plugin for UploadLimit {
    async fn on_request(
        &self,
        request: &mut Request<()>,
        _: &RequestContext,
    ) -> Result<PluginAction> {
        let length = request.headers().get("content-length");
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.most_bytes) {
            let reason = format!("at most {} bytes", self.most_bytes);
            return Ok(PluginAction::Reject { status: 413, reason });
        }
        Ok(PluginAction::Continue)
    }

    fn wants_body_chunks(&self) -> bool {
        true
    }

    fn on_request_chunk(&self, chunk: &Bytes, context: &RequestContext) -> Result<()> {
        let Uploaded(before) = context.get().unwrap_or_default();
        let uploaded = before + chunk.len() as u64;
        context.insert(Uploaded(uploaded));
        if uploaded > self.most_bytes { Err("the upload is too long".into()) } else { Ok(()) }
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .bind("127.0.0.1:0")
        .http_bind("127.0.0.1:0")
        .token("a-long-shared-secret")
        .plugin(UploadLimit { most_bytes: 10 << 20 })
        .build()?
        .spawn()
        .await?;
    println!("clients dial {}, visitors {:?}", server.tunnel_addr(), server.http_addr());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await?;
    Ok(())
}
