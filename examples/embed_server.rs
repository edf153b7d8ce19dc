//! Runs a tunnel server inside another program, on ports that the system picks.
//!
//! ```sh
//! cargo run -p ferrotunnel-examples --example embed_server
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use ferrotunnel::{LimitsConfig, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut limits = LimitsConfig::default();
    limits.max_sessions = 100;

    // Once `spawn` returns everything is bound and clients can dial in: no waiting, no guessing of ports.
    let server = Server::builder()
        .bind("127.0.0.1:0")
        .http_bind("127.0.0.1:0")
        .token("a-long-shared-secret")
        .limits(limits)
        .build()?
        .spawn()
        .await?;

    println!("clients dial {}", server.tunnel_addr());
    if let Some(http) = server.http_addr() {
        println!("visitors come in at http://NAME.localhost:{}/", http.port());
    }

    // The rest of the program runs here.
    tokio::signal::ctrl_c().await?;

    // Takes no new visitors and lets the open ones finish.
    server.shutdown().await?;
    Ok(())
}
