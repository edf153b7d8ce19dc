//! The end of a control socket that answers.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ferrotunnel::Overview;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::place::Place;
use super::{Asker, Request};
use crate::failure::Failure;

/// A socket that is listened on, until this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    askers: mpsc::Receiver<Asker>,
    overview: Arc<OnceLock<Arc<Overview>>>,
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
        let overview = Arc::default();
        let accepting = tokio::spawn(accept(listener, sender, Arc::clone(&overview)));
        Ok(Self { askers, overview, accepting, _place: place })
    }

    /// What is said to those who ask how it is.
    pub(crate) fn shows(&self, overview: Arc<Overview>) {
        self.overview.get_or_init(|| overview);
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

async fn accept(
    listener: UnixListener,
    askers: mpsc::Sender<Asker>,
    overview: Arc<OnceLock<Arc<Overview>>>,
) {
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    let mut conversations = JoinSet::new();
    loop {
        // Nobody closes it. Others wait in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while conversations.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((socket, _)) => {
                let (askers, overview) = (askers.clone(), Arc::clone(&overview));
                conversations.spawn(async move {
                    // Who goes away needs no answer.
                    let _ = converse(socket, &askers, &overview).await;
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

async fn converse(
    mut socket: UnixStream,
    askers: &mpsc::Sender<Asker>,
    overview: &OnceLock<Arc<Overview>>,
) -> std::io::Result<()> {
    let (reader, mut writer) = socket.split();
    let mut line = Vec::new();
    let mut reader = BufReader::with_capacity(LONGEST_REQUEST, reader.take(LONGEST_REQUEST as u64));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let said = line.strip_suffix(b"\n");
    let request = Request::ALL.into_iter().find(|it| said == Some(it.as_str().as_bytes()));
    let answer = match request {
        Some(Request::Reload) => {
            let (asker, answer) = oneshot::channel();
            if askers.send(Asker::Control(asker)).await.is_err() {
                return Ok(());
            }
            answer.await.ok().map(|answer| answer.to_string())
        }
        Some(Request::Status) => Some(match overview.get() {
            Some(overview) => overview.to_json(),
            None => json!({ "event": "starting", "errors": ["it is still starting"] }).to_string(),
        }),
        None => {
            let known = Request::ALL.map(Request::as_str).join(" or ");
            let error = format!("this is not understood; the one line to send is: {known}");
            Some(json!({ "event": "not_understood", "errors": [error] }).to_string())
        }
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
