//! What `client`, `http` and `tcp` share: run one client until it ends or is told to stop.

use tokio::sync::broadcast::error::RecvError;

use crate::failure::Failure;
use crate::output::Output;
use crate::report::Reporter;
use crate::settings::ClientSettings;
use crate::signals::StopSignals;

pub(super) async fn forward(settings: ClientSettings, output: &Output) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()?;
    let mut reporter = Reporter::new(*output, settings.servers().len(), settings.server_mode());
    let servers: Vec<String> = settings.servers().iter().map(ToString::to_string).collect();
    output.talk(format_args!("connecting to {}", servers.join(", ")));

    let client = settings.build()?;
    let mut events = client.events();
    let running = async {
        client.start().await?;
        client.wait().await
    };
    tokio::pin!(running);

    let ended = loop {
        tokio::select! {
            // Events first, so that the last ones are written before the end.
            biased;
            event = events.recv() => match event {
                Ok(event) => reporter.report(&event),
                // A slow terminal missed some; the newest are still to come.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break running.await,
            },
            result = &mut running => break result,
            () = signals.next() => return signals.drain(output, client.shutdown()).await,
        }
    };
    while let Ok(event) = events.try_recv() {
        reporter.report(&event);
    }
    Ok(ended?)
}
