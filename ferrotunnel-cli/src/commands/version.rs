//! `ferrotunnel version`: the same line as `--version`.

use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(output: &Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    output.answer_plain(format_args!("ferrotunnel {version}"))?;
    output.answer_event(&json!({ "event": "version", "version": version }))?;
    Ok(())
}
