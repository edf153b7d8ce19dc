//! The server's end of a control socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::place::Place;
use super::{Asker, RELOAD};
use crate::failure::Failure;

/// A socket that is listened on, until this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    askers: mpsc::Receiver<Asker>,
    accepting: JoinHandle<()>,
    _place: Place,
}

impl Control {
    /// Listens there.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let wrong = |error| Failure::failed(format!("--control {shown}: {error}"));
        let (listener, place) = Place::listen(path).map_err(wrong)?;
        let listener = UnixListener::from_std(listener).map_err(wrong)?;
        let (sender, askers) = mpsc::channel(MOST_AT_ONCE);
        Ok(Self { askers, accepting: tokio::spawn(accept(listener, sender)), _place: place })
    }

    /// The next who wants the settings to be read again. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Asker {
        match self.askers.recv().await {
            Some(asker) => asker,
            // The task that has the sender ends with this only.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, askers: mpsc::Sender<Asker>) {
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let mut conversations = JoinSet::new();
    loop {
        // Nobody closes it. Others wait in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while conversations.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((socket, _)) => {
                let askers = askers.clone();
                conversations.spawn(async move {
                    // Who goes away needs no answer.
                    let _ = converse(socket, &askers).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "nobody can be accepted on the control socket for now");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(mut socket: UnixStream, askers: &mpsc::Sender<Asker>) -> std::io::Result<()> {
    let (reader, mut writer) = socket.split();
    let mut line = Vec::new();
    let mut reader = BufReader::with_capacity(LONGEST_REQUEST, reader.take(LONGEST_REQUEST as u64));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let answer = if line == format!("{RELOAD}\n").as_bytes() {
        let (asker, answer) = oneshot::channel();
        if askers.send(Asker::Control(asker)).await.is_err() {
            return Ok(());
        }
        answer.await.ok()
    } else {
        let error = format!("this is not understood; the one line to send is: {RELOAD}");
        Some(json!({ "event": "not_understood", "errors": [error] }))
    };
    let Some(answer) = answer else { return Ok(()) };
    timeout(PATIENCE, writer.write_all(format!("{answer}\n").as_bytes())).await??;
    writer.shutdown().await
}

/// Each costs a descriptor and a few hundred bytes.
const MOST_AT_ONCE: usize = 8;

/// In bytes; more than any request has.
const LONGEST_REQUEST: usize = 64;

/// For the other end to say something, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// When no descriptor is free, one may be soon.
const PAUSE: Duration = Duration::from_millis(200);
