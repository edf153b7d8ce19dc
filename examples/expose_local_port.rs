//! Exposes a web service on a local port, and says what happens to its tunnel.
//!
//! ```sh
//! ferrotunnel server --token secret &
//! FERROTUNNEL_TOKEN=secret cargo run -p ferrotunnel-examples --example expose_local_port
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::error::Error;

use ferrotunnel::{Client, ClientEvent};
use tokio::sync::broadcast::error::RecvError;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = env::var("FERROTUNNEL_SERVER").unwrap_or_else(|_| "127.0.0.1:7835".to_owned());

    let client = Client::builder()
        .server_addr(server)
        .token(env::var("FERROTUNNEL_TOKEN")?)
        .local_addr("127.0.0.1:3000")
        .build()?;

    // Subscribed before the start, so that nothing is missed.
    let mut events = client.events();
    client.start().await?;

    // The client comes back by itself after every interruption; a program only watches.
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(ClientEvent::Disconnected { reason, retry_in, .. }) => {
                    println!("out of reach: {reason}; next attempt in {retry_in:?}");
                }
                Ok(ClientEvent::TunnelReady(tunnel)) => {
                    println!("visitors come in at {}", tunnel.public_url);
                }
                // Who was too slow missed some; the newest are still to come.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(error @ RecvError::Closed) => return Err(error.into()),
            },
            ended = client.wait() => return Ok(ended?),
            _ = tokio::signal::ctrl_c() => break,
        }
    }

    // Finishes what is open.
    client.shutdown().await?;
    Ok(())
}
