//! The other end of a control socket: who asks a server or client.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Request;
use crate::failure::Failure;

/// Asks who listens there, and hears what comes of it.
pub(crate) async fn ask(path: &Path, request: Request) -> Result<Value, Failure> {
    let answer = match timeout(PATIENCE, conversation(path, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::from(ErrorKind::TimedOut)),
    };
    answer.map_err(|error| Failure::failed(words(path, &error)))
}

async fn conversation(path: &Path, request: Request) -> std::io::Result<Value> {
    let mut socket = UnixStream::connect(path).await?;
    socket.write_all(format!("{}\n", request.as_str()).as_bytes()).await?;
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
            "nobody listens on {path}; is a server or client running, and was it started with --control {path}?"
        ),
        ErrorKind::PermissionDenied => format!(
            "what listens on {path} belongs to another user; run this as that user, or as root"
        ),
        ErrorKind::TimedOut => format!("who listens on {path} does not answer; is it stopped?"),
        ErrorKind::UnexpectedEof => {
            format!("who listened on {path} went away without an answer; its log may say why")
        }
        ErrorKind::InvalidData => {
            format!("what answers on {path} is no ferrotunnel; is the path right?")
        }
        _ => format!("cannot ask on {path}: {error}"),
    }
}

/// A settings file is read in milliseconds, from a disk that is far away in seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of a settings file of the most there may be, in which every line is wrong, or of tens of thousands of tunnels.
const LONGEST_ANSWER: u64 = 64 << 20;
