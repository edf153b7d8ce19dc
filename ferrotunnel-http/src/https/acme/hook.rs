//! A program of the operator's that publishes records in the DNS (DNS-01, RFC 8555 section 8.4).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::fault::Fault;

/// What the program is to do; its first argument.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// It ends well once everybody can see the record.
    Add,
    Remove,
}

/// Runs `PROGRAM add|remove NAME VALUE`, where the name is that of the TXT record in full.
pub(super) async fn run(program: &Path, deed: Deed, name: &str, value: &str) -> Result<(), Fault> {
    let word = match deed {
        Deed::Add => "add",
        Deed::Remove => "remove",
    };
    let fault = |why: String| Fault::Hook(format!("{} {word} {name}: {why}", program.display()));
    let run = Command::new(program)
        .args([word, name, value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status();
    match timeout(DONE_WITHIN, run).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(fault(format!("it ended with {status}"))),
        Ok(Err(error)) => Err(fault(error.to_string())),
        Err(_) => Err(fault(format!("it took longer than {DONE_WITHIN:?}"))),
    }
}

/// Some providers need minutes until all of their servers have a record.
const DONE_WITHIN: Duration = Duration::from_secs(600);
