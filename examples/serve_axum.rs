//! Serves an axum app straight from a tunnel. The app listens on no port: not on this machine, not on any other.
//!
//! ```sh
//! ferrotunnel server --token secret &
//! FERROTUNNEL_TOKEN=secret cargo run -p ferrotunnel-examples --example serve_axum
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::env;
use std::error::Error;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use ferrotunnel::{Client, Tunnel};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = env::var("FERROTUNNEL_SERVER").unwrap_or_else(|_| "127.0.0.1:7835".to_owned());

    let client =
        Client::builder().server_addr(server).token(env::var("FERROTUNNEL_TOKEN")?).build()?;
    let listener = client.listen(Tunnel::http("hello")).await?;
    println!("try: curl {}world", listener.info().public_url);

    let app = Router::new().route("/", get(|| async { "an app without a port\n" })).route(
        "/{name}",
        get(|Path(name): Path<String>| async move { format!("hello, {name}\n") }),
    );
    tokio::select! {
        served = axum::serve(listener, app).into_future() => served?,
        _ = tokio::signal::ctrl_c() => {}
    }

    client.shutdown().await?;
    Ok(())
}
