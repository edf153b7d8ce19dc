//! The other end of a control socket: who asks a server.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::RELOAD;
use crate::failure::Failure;

/// Asks the server there to read its settings again: the event that comes of it.
pub(crate) async fn ask(path: &Path) -> Result<Value, Failure> {
    let answer = match timeout(PATIENCE, conversation(path)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::from(ErrorKind::TimedOut)),
    };
    answer.map_err(|error| Failure::failed(words(path, &error)))
}

async fn conversation(path: &Path) -> std::io::Result<Value> {
    let mut socket = UnixStream::connect(path).await?;
    socket.write_all(format!("{RELOAD}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    if answer.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&answer).map_err(|_| ErrorKind::InvalidData.into())
}

fn words(path: &Path, error: &Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no server listens on {path}; is one running, and was it started with --control {path}?"
        ),
        ErrorKind::PermissionDenied => format!(
            "the server of {path} belongs to another user; run this as that user, or as root"
        ),
        ErrorKind::TimedOut => format!("the server of {path} does not answer; is it stopped?"),
        ErrorKind::UnexpectedEof => {
            format!("the server of {path} went away without an answer; its log may say why")
        }
        ErrorKind::InvalidData => {
            format!("what answers on {path} is no server of ferrotunnel; is the path right?")
        }
        _ => format!("cannot ask the server of {path}: {error}"),
    }
}

/// A settings file is read in milliseconds, from a disk that is far away in seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of a settings file of the most there may be, in which every line is wrong.
const LONGEST_ANSWER: u64 = 64 << 20;
