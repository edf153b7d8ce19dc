//! `ferrotunnel status`: what a running server or client has.

use std::fmt::Write as _;

use serde_json::Value;

use super::control::socket;
use crate::args::ControlArgs;
use crate::control::{Request, ask};
use crate::failure::{Exit, Failure};
use crate::output::Output;

pub(super) async fn run(args: ControlArgs, output: &Output) -> Result<(), Failure> {
    let answer = ask(&socket(args)?, Request::Status).await?;
    if answer.get("status").is_none() {
        let errors = answer.get("errors").and_then(Value::as_array).into_iter().flatten();
        let errors = errors.filter_map(Value::as_str).map(str::to_owned).collect();
        return Err(Failure::several(Exit::Failed, errors));
    }
    output.answer_event(&answer)?;
    output.answer_plain(shown(&answer).trim_end())?;
    Ok(())
}

/// For people.
fn shown(answer: &Value) -> String {
    let status = &answer["status"];
    let mut shown = format!(
        "{} {}, {}, for {}; sessions: {}, tunnels: {}, streams: {}\n",
        text(&status["side"]),
        text(&status["version"]),
        text(&status["phase"]),
        lasting(&status["uptime_seconds"]),
        text(&status["sessions"]),
        text(&status["tunnels"]),
        text(&status["streams"]),
    );
    let sessions = rows(&answer["sessions"], |it| {
        let principal = text(&it["principal"]);
        [
            text(&it["id"]),
            text(&it["address"]),
            text(&it["software"]),
            principal,
            text(&it["state"]),
            lasting(&it["age_seconds"]),
            millis(&it["round_trip_seconds"]),
            text(&it["tunnels"]),
            text(&it["streams"]),
        ]
    });
    let titles = [
        "SESSION",
        "ADDRESS",
        "SOFTWARE",
        "PRINCIPAL",
        "STATE",
        "AGE",
        "RTT",
        "TUNNELS",
        "STREAMS",
    ];
    table(&mut shown, titles, &sessions);
    let tunnels = rows(&answer["tunnels"], |it| {
        let urls: Vec<_> = it["public_urls"].as_array().into_iter().flatten().map(text).collect();
        [
            text(&it["id"]),
            text(&it["name"]),
            text(&it["state"]),
            text(&it["visitors"]),
            size(&it["bytes_in"]),
            size(&it["bytes_out"]),
            text(&it["local"]),
            urls.join(" "),
        ]
    });
    let titles = ["TUNNEL", "NAME", "STATE", "VISITORS", "IN", "OUT", "LOCAL", "REACHED AT"];
    table(&mut shown, titles, &tunnels);
    shown
}

fn rows<const N: usize>(list: &Value, row: impl Fn(&Value) -> [String; N]) -> Vec<[String; N]> {
    list.as_array().into_iter().flatten().map(row).collect()
}

/// Columns as wide as they have to be; none where there is nothing to show.
fn table<const N: usize>(shown: &mut String, titles: [&str; N], rows: &[[String; N]]) {
    if rows.is_empty() {
        return;
    }
    let titles = titles.map(str::to_owned);
    let all = || std::iter::once(&titles).chain(rows);
    let widths: [usize; N] = std::array::from_fn(|column| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    shown.push('\n');
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to text does not fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
}

/// A value as it is; nothing known is a dash.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whole seconds, minutes, hours or days.
fn lasting(seconds: &Value) -> String {
    let seconds = seconds.as_f64().unwrap_or_default() as u64;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn millis(seconds: &Value) -> String {
    seconds.as_f64().map_or_else(|| "-".to_owned(), |it| format!("{:.1}ms", it * 1_000.0))
}

fn size(bytes: &Value) -> String {
    let bytes = bytes.as_f64().unwrap_or_default();
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_stand_below_their_titles() {
        let session = json!({
            "id": "a1", "address": "192.0.2.1:5", "software": "ferrotunnel/1", "principal": null, "state": "up", "age_seconds": 7_300.5,
            "round_trip_seconds": 0.0123, "tunnels": 1, "streams": 20,
        });
        let tunnel = json!({
            "id": "http:app", "name": "app", "state": "paused", "visitors": 3, "bytes_in": 1_500, "bytes_out": 999,
            "local": null, "public_urls": ["http://app.localhost:8080/"],
        });
        let status = json!({
            "side": "server", "version": "0.1.0", "phase": "ready", "uptime_seconds": 65.0, "sessions": 1, "tunnels": 1,
            "streams": 20,
        });
        let shown = shown(&json!({ "status": status, "sessions": [session], "tunnels": [tunnel] }));
        let expected = "server 0.1.0, ready, for 65s; sessions: 1, tunnels: 1, streams: 20\n\n\
            SESSION  ADDRESS      SOFTWARE       PRINCIPAL  STATE  AGE  RTT     TUNNELS  STREAMS\n\
            a1       192.0.2.1:5  ferrotunnel/1  -          up     2h   12.3ms  1        20\n\n\
            TUNNEL    NAME  STATE   VISITORS  IN     OUT   LOCAL  REACHED AT\n\
            http:app  app   paused  3         1.5kB  999B  -      http://app.localhost:8080/\n";
        assert_eq!(shown, expected);
    }
}
