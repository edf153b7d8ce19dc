//! `ferrotunnel reload`: a running server or client reads its settings again, and says what came of it.

use serde_json::Value;

use super::control::socket;
use crate::args::ControlArgs;
use crate::control::{Request, ask};
use crate::failure::{Exit, Failure};
use crate::output::{self, Output};

pub(super) async fn run(args: ControlArgs, output: &Output) -> Result<(), Failure> {
    let answer = ask(&socket(args)?, Request::Reload).await?;
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
    let number = |key: &str| answer.get(key).and_then(Value::as_u64);
    if let Some(principals) = number("principals") {
        output.talk(format_args!("settings reloaded; principals: {principals}"));
    } else if let (Some(added), Some(changed), Some(removed)) =
        (number("added"), number("changed"), number("removed"))
    {
        output.talk(format_args!(
            "settings reloaded; tunnels: {added} added, {changed} changed, {removed} removed"
        ));
    } else {
        output.talk("certificates and pages are read again; there is no settings file");
    }
    Ok(())
}
