//! Exposes a local database on a port of the server.
//!
//! ```sh
//! ferrotunnel server --token secret &
//! FERROTUNNEL_TOKEN=secret cargo run -p ferrotunnel-examples --example tcp_tunnel
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::error::Error;

use ferrotunnel::{Client, Tunnel};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = env::var("FERROTUNNEL_SERVER").unwrap_or_else(|_| "127.0.0.1:7835".to_owned());

    // Without `remote_port` the server picks a free port.
    let database = Tunnel::tcp().remote_port(15432).local_addr("127.0.0.1:5432");
    let client = Client::builder()
        .server_addr(server)
        .token(env::var("FERROTUNNEL_TOKEN")?)
        .tunnel(database)
        .build()?;

    let tunnel = client.start().await?;
    println!("the database is reachable at {}", tunnel.public_url);

    tokio::signal::ctrl_c().await?;
    client.shutdown().await?;
    Ok(())
}
