//! `ferrotunnel demo`: server, client and a small site in one process, all on loopback.
//!
//! The site has no port of its own: it is served straight from the tunnel, by the library's in-process listener.

mod site;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrotunnel::{Client, ErrorKind, RunningServer, Server, Tunnel};

use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::report;
use crate::signals::StopSignals;

/// Tried first, since it is the port of the documentation.
const PREFERRED_PORT: u16 = 8080;

/// Somebody at a terminal waits for it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(args: DemoArgs, output: &Output) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()?;
    let token = random_token()?;

    let server = start_server(&token, args.port).await?;
    let client = Client::builder()
        .server_addr(server.tunnel_addr().to_string())
        .token(token)
        .drain_grace(DRAIN_TIMEOUT)
        .build()?;
    let listener = client.listen(Tunnel::http("demo")).await?;

    let info = listener.info().clone();
    output.plain(&info.public_url);
    output.event(&report::tunnel_ready(&info));
    output.talk(format_args!(
        "\nOpen it in a browser, or: curl {}\nServer, client and site run in this process. Ctrl-C stops them.",
        info.public_url
    ));

    let site = site::router(&info, server.tunnel_addr());
    let served = axum::serve(listener, site);
    tokio::select! {
        result = async { served.await } => {
            result.map_err(|error| Failure::failed(format!("the demo's site ended: {error}")))?;
        }
        () = signals.next() => {}
    }
    signals
        .drain(output, DRAIN_TIMEOUT, async {
            client.shutdown().await?;
            server.shutdown().await
        })
        .await
}

/// On the port that was asked for, else on the preferred one, else on any free one.
async fn start_server(token: &str, port: Option<u16>) -> Result<RunningServer, Failure> {
    match spawn_server(token, port.unwrap_or(PREFERRED_PORT)).await {
        Err(error) if port.is_none() && error.kind() == ErrorKind::AddrInUse => {
            Ok(spawn_server(token, 0).await?)
        }
        other => Ok(other?),
    }
}

async fn spawn_server(token: &str, http_port: u16) -> Result<RunningServer, ferrotunnel::Error> {
    Server::builder()
        .bind(loopback(0))
        .http_bind(loopback(http_port))
        .token(token)
        .drain_grace(DRAIN_TIMEOUT)
        .build()?
        .spawn()
        .await
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Nobody has to type it, so it can be unguessable: other users of this machine reach the port too.
fn random_token() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system gives no random numbers: {error}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
