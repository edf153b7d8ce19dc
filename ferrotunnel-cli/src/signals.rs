//! The signals that ask this program to stop: the first drains, the second does not wait.

use std::future::Future;
use std::time::Duration;

use ferrotunnel::Drained;

use crate::failure::Failure;
use crate::output::Output;

/// SIGINT and SIGTERM (Ctrl-C elsewhere), from the moment this is made.
pub(crate) struct StopSignals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl StopSignals {
    /// Takes the signals over; until then they end the process.
    #[cfg(unix)]
    pub(crate) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(cannot_listen)?,
            terminate: signal(SignalKind::terminate()).map_err(cannot_listen)?,
        })
    }

    /// Takes Ctrl-C over; until then it ends the process.
    #[cfg(windows)]
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c().map_err(cannot_listen)? })
    }

    /// Resolves at the next signal. Safe to drop and call again: no signal is lost between two calls.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Resolves at the next Ctrl-C.
    #[cfg(windows)]
    pub(crate) async fn next(&mut self) {
        self.interrupt.recv().await;
    }

    /// Waits until `drained` is done, which it is after `limit`, or for one more signal.
    pub(crate) async fn drain<E>(
        &mut self,
        output: &Output,
        limit: Duration,
        drained: impl Future<Output = Result<Drained, E>>,
    ) -> Result<(), Failure>
    where
        Failure: From<E>,
    {
        output.talk(format_args!(
            "finishing what is open, for {limit:?} at most; a second Ctrl-C ends at once"
        ));
        let drained = tokio::select! {
            drained = drained => drained?,
            () = self.next() => {
                return Err(Failure::failed("stopped before everything open was finished"));
            }
        };
        let streams = match drained.cut {
            0 => return Ok(()),
            1 => "1 stream was".to_owned(),
            more => format!("{more} streams were"),
        };
        output.talk(format_args!("{streams} not finished after {limit:?} and cut"));
        Ok(())
    }
}

/// SIGHUP, which asks to read the settings again, from the moment this is made; until then it ends the process.
pub(crate) struct HangUps {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl HangUps {
    /// Takes the signal over.
    #[cfg(unix)]
    pub(crate) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { signal: signal(SignalKind::hangup()).map_err(cannot_listen)? })
    }

    /// There is no such signal.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Resolves at the next one. Safe to drop and call again.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        self.signal.recv().await;
        #[cfg(not(unix))]
        std::future::pending().await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn cannot_listen(error: std::io::Error) -> Failure {
    Failure::failed(format!("cannot listen for signals: {error}"))
}
