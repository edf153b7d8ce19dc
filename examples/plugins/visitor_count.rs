//! A client that knows how many connections are open through its tunnels, and where they are reached.
//!
//! ```sh
//! cargo run -p ferrotunnel-examples --example visitor_count -- tunnel.example.com:7835 SECRET 127.0.0.1:3000
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrotunnel::Client;
use ferrotunnel::plugin::{
    Plugin, RegistrationAnswer, RegistrationContext, Result, StreamContext, async_trait,
};

/// Counts connections, and says so whenever that changes. Works at a server just as well.
#[derive(Clone, Default)]
pub(crate) struct VisitorCount {
    pub(crate) open: Arc<AtomicUsize>,
}

#[async_trait]
impl Plugin for VisitorCount {
    async fn on_registration_answered(
        &self,
        wanted: &RegistrationContext,
        answer: &RegistrationAnswer,
    ) -> Result<()> {
        match answer {
            RegistrationAnswer::Registered(url) => println!("{} is at {url}", wanted.name),
            RegistrationAnswer::Refused(reason) => {
                println!("{} is not there: {reason}", wanted.name);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_stream_opened(&self, stream: &StreamContext) {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        println!("{}: {open} open", stream.tunnel.name);
    }

    fn on_stream_closed(&self, stream: &StreamContext) {
        let open = self.open.fetch_sub(1, Ordering::Relaxed) - 1;
        println!("{}: {open} open after {:?}", stream.tunnel.name, stream.opened.elapsed());
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().ok_or_else(|| format!("the {what} is missing"));
    let client = Client::builder()
        .server_addr(next("server")?)
        .token(next("token")?)
        .local_addr(next("local address")?)
        .plugin(VisitorCount::default())
        .build()?;
    client.start().await?;
    tokio::signal::ctrl_c().await?;
    client.shutdown().await?;
    Ok(())
}
