//! `ferrotunnel.example.toml` and `docs/configuration.md` say all there is, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;
use ferrotunnel::{LimitsConfig, Streams};

use super::super::{SettingsFile, vocabulary};
use crate::args::Cli;
use crate::settings::{DEFAULT_BIND, DEFAULT_DRAIN_TIMEOUT, DEFAULT_HTTP_BIND};
use crate::tunnel::TunnelSettings;

fn of_the_repository(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The example with every key in force: a `#` right before a key or a section hides it, one before a blank begins a
/// comment.
pub(super) fn example_in_force() -> String {
    let example = of_the_repository("ferrotunnel.example.toml");
    let in_force = |line: &str| match line.strip_prefix('#') {
        Some(hidden) if !hidden.is_empty() && !hidden.starts_with([' ', '#']) => hidden.to_owned(),
        _ => line.to_owned(),
    };
    example.lines().map(in_force).collect::<Vec<_>>().join("\n")
}

/// The example as it could be used. The token has two forms, of which a file may have one.
fn usable_example() -> String {
    let example = example_in_force();
    example.lines().filter(|line| !line.starts_with("token-file ")).collect::<Vec<_>>().join("\n")
}

fn parsed(text: &str) -> SettingsFile {
    SettingsFile::parse(text.as_bytes(), Path::new("")).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// The keys of a text as `section key`.
fn keys(text: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('[') {
            let title = title.trim_end().strip_suffix(']').unwrap();
            section = title.replace("principals.alice", "principals.NAME");
        } else if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            keys.insert(format!("[{section}] {key}"));
        }
    }
    keys
}

/// All keys that hold a value, not a section.
fn known_keys() -> BTreeSet<String> {
    let vocabulary = vocabulary();
    let is_section = |title: &str| {
        vocabulary.iter().any(|known| {
            known.section == title
                || known.section == format!("[{title}]")
                || known.section == format!("{title}.NAME")
        })
    };
    let values = vocabulary.iter().filter(|known| {
        let inner = format!("{}.{}", known.section, known.key);
        !is_section(inner.trim_start_matches('.'))
    });
    values.map(|known| format!("[{}] {}", known.section, known.key)).collect()
}

#[test]
fn the_example_says_nothing_as_it_is() {
    let file = parsed(&of_the_repository("ferrotunnel.example.toml"));
    assert!(file.principals.is_empty() && !file.holds_a_secret());
    let server = file.server.unwrap();
    assert!(
        server.bind.is_none() && server.domain.is_none() && server.limits.max_sessions.is_none()
    );
    assert!(file.client.unwrap().tunnels.is_empty());
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let example = example_in_force();
    parsed(&usable_example());
    assert_eq!(keys(&example), known_keys());
}

#[test]
fn the_example_shows_the_defaults() {
    let file = parsed(&usable_example());
    let (server, limits) = (file.server.unwrap(), LimitsConfig::default());
    assert_eq!(server.bind, Some(DEFAULT_BIND));
    assert_eq!(server.http_bind, Some(DEFAULT_HTTP_BIND));
    assert_eq!(server.plaintext, Some(false));
    assert_eq!(server.accept_proxy, Some(false));
    assert_eq!(server.drain.drain_timeout, Some(DEFAULT_DRAIN_TIMEOUT));
    assert_eq!(server.limits.max_sessions, Some(limits.max_sessions));
    assert_eq!(server.limits.max_tunnels, Some(limits.max_tunnels_per_session));
    assert_eq!(server.limits.max_streams, Some(limits.max_streams_per_session));
    assert_eq!(server.limits.max_handshakes, Some(limits.max_handshakes_in_flight));
    assert_eq!(server.limits.max_failed_handshakes, Some(limits.max_failed_handshakes_per_address));
    assert_eq!(server.limits.max_visitors, Some(limits.max_visitors));
    assert_eq!(server.limits.max_receive_memory, Some(limits.max_receive_memory));
    assert_eq!(server.limits.handshake_timeout, Some(limits.handshake_deadline));
    let client = file.client.unwrap();
    assert_eq!(client.connect.plaintext, Some(false));
    assert_eq!(client.connect.exit_on_first_failure, Some(false));
    assert_eq!(client.connect.drain.drain_timeout, Some(DEFAULT_DRAIN_TIMEOUT));
    assert_eq!(client.connect.connections, Some(Default::default()));
    let has_defaults = |tunnel: &TunnelSettings| match tunnel {
        TunnelSettings::Http { http2, .. } => !http2,
        TunnelSettings::Tcp { streams, .. } | TunnelSettings::Tls { streams, .. } => {
            *streams == Streams::Auto
        }
    };
    assert!(client.tunnels.len() == 4 && client.tunnels.iter().all(has_defaults));
}

/// Flags that no file can say, and why.
const NOT_IN_A_FILE: &[(&str, &str)] = &[
    ("config", "says where the file is"),
    ("json", "how this very run speaks with whoever started it"),
    ("log-level", "likewise; the log begins before a file is read"),
    ("log-format", "likewise"),
    ("help", "not a setting"),
];

/// Flags whose key has another name, since it holds several of them.
const RENAMED: &[(&str, &str)] = &[("host", "hosts")];

#[test]
fn every_flag_has_its_key() {
    let known = known_keys();
    let mut cli = Cli::command();
    cli.build();
    for (command, sections) in [
        (
            "server",
            &["server", "server.limits", "server.timeouts", "server.https", "server.plugins"][..],
        ),
        ("client", &["client", "[client.tunnels]"]),
        ("http", &["client", "[client.tunnels]"]),
        ("tcp", &["client", "[client.tunnels]"]),
        ("tls", &["client", "[client.tunnels]"]),
    ] {
        let command = cli.find_subcommand(command).unwrap();
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            let key = RENAMED.iter().find(|(of, _)| *of == flag).map_or(flag, |(_, key)| key);
            let is_known =
                sections.iter().any(|section| known.contains(&format!("[{section}] {key}")));
            let is_exception = NOT_IN_A_FILE.iter().any(|(of, _)| *of == flag);
            assert!(is_known != is_exception, "--{flag} of {}", command.get_name());
        }
    }
}

#[test]
fn the_documentation_has_every_key() {
    let documentation = of_the_repository("docs/configuration.md");
    let mut section = String::new();
    let mut told = BTreeSet::new();
    for line in documentation.lines() {
        if let Some(title) = line.strip_prefix("### `[").and_then(|line| line.strip_suffix("]`")) {
            section = title.to_owned();
        } else if let Some((key, _)) =
            line.strip_prefix("| `").and_then(|line| line.split_once('`'))
        {
            told.insert(format!("[{section}] {key}"));
        }
    }
    assert_eq!(told, known_keys());
}
