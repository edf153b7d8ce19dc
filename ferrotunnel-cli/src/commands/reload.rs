//! `ferrotunnel reload`: a running server reads its settings again, and says what came of it.

use std::path::PathBuf;

use serde_json::Value;

use crate::args::ReloadArgs;
use crate::control::ask;
use crate::failure::{Exit, Failure};
use crate::output::{self, Output};
use crate::settings_file::SettingsFile;

pub(super) async fn run(args: ReloadArgs, output: &Output) -> Result<(), Failure> {
    let answer = ask(&control(args)?).await?;
    output.event(&answer);
    let texts = |key: &str| -> Vec<String> {
        let list = answer.get(key).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if answer.get("event").and_then(Value::as_str) != Some("reloaded") {
        return Err(Failure::several(Exit::Failed, texts("errors")));
    }
    let restart_needed = texts("restart_needed");
    if !restart_needed.is_empty() {
        output::warning(format_args!(
            "in force only after a restart: {}",
            restart_needed.join(", ")
        ));
    }
    let principals = answer.get("principals").and_then(Value::as_u64).unwrap_or_default();
    output.talk(format_args!("settings reloaded; principals: {principals}"));
    Ok(())
}

/// Where the server listens: as given, or as its settings file says.
fn control(args: ReloadArgs) -> Result<PathBuf, Failure> {
    if let Some(path) = args.control {
        return Ok(path);
    }
    let Some(path) = args.config.config else {
        return Err(Failure::usage(
            "no server; set --control or FERROTUNNEL_CONTROL to the control socket that it was started with, or --config to \
             its settings file if that names one",
        ));
    };
    // What is wrong with the file is what the server would say.
    let file = SettingsFile::load(&path).map_err(|error| {
        let messages = error.into_failure(&path).messages().to_vec();
        Failure::several(Exit::Failed, messages)
    })?;
    file.server.and_then(|server| server.control).ok_or_else(|| {
        Failure::usage(format!(
            "{} names no control socket; set control in [server] and restart the server once, or give --control",
            path.display()
        ))
    })
}
