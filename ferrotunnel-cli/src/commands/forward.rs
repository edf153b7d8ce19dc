//! What `client`, `http`, `tcp` and `tls` share: run one client until it ends or is told to stop.

use std::future::pending;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::client_reload::ClientReload;
use crate::failure::Failure;
use crate::output::Output;
use crate::report::Reporter;
use crate::settings::ClientSettings;
use crate::signals::StopSignals;
use crate::standing::Standing;
use crate::systemd::Manager;
use crate::traces::Traces;

/// With a `reload` its tunnels change with the settings file, from when there are any.
pub(super) async fn forward(
    settings: ClientSettings,
    mut reload: Option<ClientReload>,
    output: &Output,
) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()?;
    let mut reporter = Reporter::new(*output, settings.servers().len(), settings.server_mode());
    let mut standing = Standing::new(settings.server_mode());
    let servers: Vec<String> = settings.servers().iter().map(ToString::to_string).collect();

    let drain_timeout = settings.drain_timeout();
    // It goes last, and what it has to send with it.
    let traces = Traces::start("ferrotunnel-client")?;
    let client = settings.build(&traces)?;
    let mut manager = Manager::from_env();
    output.talk(format_args!("connecting to {}", servers.join(", ")));
    let mut events = client.events();
    let has_started = watch::Sender::new(false);
    let running = async {
        client.start().await?;
        has_started.send_replace(true);
        client.wait().await
    };
    tokio::pin!(running);

    let ended = loop {
        tokio::select! {
            // Events first, so that the last ones are written before the end.
            biased;
            event = events.recv() => match event {
                Ok(event) => {
                    reporter.report(&event);
                    standing.take_in(&event);
                    if standing.is_ready() {
                        manager.ready(&standing.line());
                    }
                    manager.status(&standing.line());
                }
                // A slow terminal missed some; the newest are still to come.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break running.await,
            },
            result = &mut running => break result,
            () = signals.next() => {
                manager.stopping(drain_timeout);
                let draining = manager.beating(client.shutdown());
                return signals.drain(output, drain_timeout, draining).await;
            }
            () = manager.due() => manager.beat(),
            reload = due(&mut reload, has_started.subscribe()) => {
                manager.reloading();
                // Its file may lie on a disk that does not answer.
                tokio::select! {
                    () = manager.beating(reload.run(&client, output)) => {}
                    () = signals.next() => {
                        manager.stopping(drain_timeout);
                        let draining = manager.beating(client.shutdown());
                        return signals.drain(output, drain_timeout, draining).await;
                    }
                }
                manager.reloaded();
            }
        }
    };
    while let Ok(event) = events.try_recv() {
        reporter.report(&event);
    }
    Ok(ended?)
}

/// Resolves when the settings file should be read again, if there is one and the client has its tunnels.
async fn due(
    reload: &mut Option<ClientReload>,
    mut has_started: watch::Receiver<bool>,
) -> &mut ClientReload {
    match reload {
        Some(reload) => {
            // The sender lives for longer.
            let _ = has_started.wait_for(|started| *started).await;
            reload.due().await;
            reload
        }
        None => pending().await,
    }
}
