//! A server that can be switched to a page of its own while it runs, and sends old addresses to new ones.
//!
//! ```sh
//! cargo run -p ferrotunnel-examples --example maintenance
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferrotunnel::Server;
use ferrotunnel::plugin::http::{Request, Response};
use ferrotunnel::plugin::{Bytes, Plugin, PluginAction, RequestContext, Result, async_trait};

/// Answers every request itself while its switch is on.
pub(crate) struct Maintenance {
    is_on: Arc<AtomicBool>,
}

#[async_trait]
impl Plugin for Maintenance {
    async fn on_request(
        &self,
        request: &mut Request<()>,
        _: &RequestContext,
    ) -> Result<PluginAction> {
        if !self.is_on.load(Ordering::Relaxed) {
            return Ok(PluginAction::Continue);
        }
        if request.uri().path() == "/status" {
            let location = "https://status.example.com/".to_owned();
            return Ok(PluginAction::Redirect { status: 307, location });
        }
        let page = Response::builder()
            .status(503)
            .header("content-type", "text/html; charset=utf-8")
            .header("retry-after", "600")
            .body(Bytes::from_static(b"<h1>Back in ten minutes</h1>"))?;
        Ok(PluginAction::Respond(page))
    }
}

impl Maintenance {
    /// The plugin, and its switch.
    pub(crate) fn new() -> (Self, Arc<AtomicBool>) {
        let is_on = Arc::default();
        (Self { is_on: Arc::clone(&is_on) }, is_on)
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let (maintenance, is_on) = Maintenance::new();
    let server = Server::builder()
        .bind("127.0.0.1:0")
        .http_bind("127.0.0.1:0")
        .token("a-long-shared-secret")
        .plugin(maintenance)
        .build()?
        .spawn()
        .await?;
    println!("clients dial {}, visitors {:?}", server.tunnel_addr(), server.http_addr());
    println!("Ctrl-C once for maintenance, twice to end");
    tokio::signal::ctrl_c().await?;
    is_on.store(true, Ordering::Relaxed);
    tokio::signal::ctrl_c().await?;
    server.shutdown().await?;
    Ok(())
}
