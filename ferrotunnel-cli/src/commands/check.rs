//! `ferrotunnel check`: a settings file, looked through without starting anything.
//!
//! What arguments and environment may still bring is not missed, but said.

use std::ops::RangeInclusive;
use std::path::Path;

use ferrotunnel::{PrincipalConfig, TunnelKind, Verifier};
use serde_json::{Value, json};

use crate::args::CheckArgs;
use crate::failure::{Exit, Failure};
use crate::layers::Layers;
use crate::output::{self, Output};
use crate::settings::{ServerEncryption, ServerSettings, check_readable};
use crate::settings_file::{ClientSection, FileError, NamedFile, Problem, SettingsFile};
use crate::token_file;
use crate::tunnel::TunnelSettings;

pub(super) fn run(args: &CheckArgs, output: &Output) -> Result<(), Failure> {
    match look_through(&args.file) {
        Ok((file, server)) => {
            if let Some(warning) = file.warning() {
                output::warning(warning);
            }
            output.answer_plain(in_words(&file, server.as_ref()))?;
            output.answer_event(&as_json(&file, server.as_ref()))?;
            Ok(())
        }
        Err(Refused { failure, problems }) => {
            output.event(&json!({
                "event": "checked",
                "file": args.file,
                "valid": false,
                "errors": errors(&failure, &problems),
            }));
            Err(failure)
        }
    }
}

/// Why a file will not do.
struct Refused {
    failure: Failure,
    /// Those that have a place in the file.
    problems: Vec<Problem>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, problems: Vec::new() }
    }
}

fn look_through(path: &Path) -> Result<(SettingsFile, Option<ServerSettings>), Refused> {
    let file = SettingsFile::load(path).map_err(|error| {
        let problems = match &error {
            FileError::Wrong(problems) => problems.clone(),
            FileError::Unreadable(_) => Vec::new(),
        };
        Refused { failure: error.into_failure(path), problems }
    })?;
    let problems: Vec<_> = file.files.iter().filter_map(unreadable).collect();
    if !problems.is_empty() {
        let line = |problem: &Problem| format!("{}:{problem}", path.display());
        let failure = Failure::several(Exit::Failed, problems.iter().map(line).collect());
        return Err(Refused { failure, problems });
    }
    let server = file.server.clone().map(|layer| {
        // What is not a text of the file itself may still come.
        let layer = layer.with_some_token();
        let resolve = || {
            let layers = Layers { file: layer.clone(), ..Layers::default() };
            ServerSettings::resolve(layers, file.principals.clone())
        };
        resolve()?.check()?;
        resolve()
    });
    let server = server.transpose().map_err(|why: Failure| {
        let message = format!("{}: [server]: {why}", path.display());
        Failure::several(why.exit(), vec![message])
    })?;
    Ok((file, server))
}

fn unreadable(file: &NamedFile) -> Option<Problem> {
    let why = if file.key == "token-file" {
        token_file::read(file.key, &file.path).err()?
    } else {
        let why = check_readable(file.key, &file.path).err();
        if why.is_none() && file.key == "acme-eab-key-file" {
            token_file::warn_if_open(file.key, &file.path, file.path.metadata().ok());
        }
        why?
    };
    Some(Problem { line: file.line, column: file.column, message: why.to_string() })
}

/// What it would run, on one line.
fn in_words(file: &SettingsFile, server: Option<&ServerSettings>) -> String {
    let mut parts = Vec::new();
    if let Some(server) = server {
        let (bind, http_bind) = (server.bind, server.http_bind);
        let https = server.https.as_ref().map(|https| format!(" and, over TLS, {}", https.bind));
        let https = https.unwrap_or_default();
        parts.push(format!(
            "a server for clients on {bind} and HTTP visitors on {http_bind}{https}"
        ));
    }
    if let Some(client) = &file.client {
        let servers = servers(client);
        let server = match servers.as_slice() {
            [] => "a server to be named".to_owned(),
            servers => servers.join(", "),
        };
        let tunnels = counted(client.tunnels.len(), "tunnel");
        parts.push(format!("a client of {server} with {tunnels}"));
        if servers.is_empty() {
            parts.push(left_to("client", "server", "--server or FERROTUNNEL_SERVER"));
        }
    }
    if !file.principals.is_empty() {
        parts.push(counted(file.principals.len(), "principal"));
    }
    if parts.is_empty() {
        parts.push("it says nothing".to_owned());
    }
    for section in without_token(file) {
        parts.push(left_to(section, "token", "--token or FERROTUNNEL_TOKEN"));
    }
    format!("{} is valid: {}", file.path.display(), parts.join("; "))
}

fn left_to(section: &str, key: &str, other: &str) -> String {
    format!("[{section}] has no {key}, which {other} has to bring")
}

fn without_token(file: &SettingsFile) -> Vec<&'static str> {
    // Principals have tokens of their own.
    let server = file.server.as_ref().filter(|_| file.principals.is_empty());
    let server = server.map(|server| ("server", &server.token));
    let client = file.client.as_ref().map(|client| ("client", &client.connect.token));
    let sections = server.into_iter().chain(client);
    sections.filter(|(_, token)| !token.is_given()).map(|(name, _)| name).collect()
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// The same for scripts.
fn as_json(file: &SettingsFile, server: Option<&ServerSettings>) -> Value {
    json!({
        "event": "checked",
        "file": file.path,
        "valid": true,
        "server": server.map(|server| json!({
            "bind": server.bind,
            "http_bind": server.http_bind,
            "https_bind": server.https.as_ref().map(|https| https.bind),
            "domain": server.domain,
            "encryption": match server.encryption {
                ServerEncryption::Tls { identity: None, .. } => "self-signed",
                ServerEncryption::Tls { identity: Some(_), .. } => "certificate",
                ServerEncryption::Plaintext => "none",
            },
        })),
        "client": file.client.as_ref().map(client_as_json),
        "principals": file.principals.iter().map(principal_as_json).collect::<Vec<_>>(),
        "without_token": without_token(file),
    })
}

/// Those that it names.
fn servers(client: &ClientSection) -> Vec<String> {
    client.connect.servers.iter().flatten().map(ToString::to_string).collect()
}

fn client_as_json(client: &ClientSection) -> Value {
    json!({
        "servers": servers(client),
        "tunnels": client.tunnels.iter().map(tunnel_as_json).collect::<Vec<_>>(),
    })
}

fn tunnel_as_json(tunnel: &TunnelSettings) -> Value {
    let (kind, local_addr) = (tunnel.kind().as_str(), tunnel.local_addr().to_string());
    match tunnel {
        TunnelSettings::Http { name, hosts, path, .. } => {
            let path = path.as_str();
            json!({ "kind": kind, "name": name, "hosts": hosts, "path": path, "local_addr": local_addr })
        }
        TunnelSettings::Tcp { remote_port, .. } => {
            json!({ "kind": kind, "remote_port": remote_port, "local_addr": local_addr })
        }
        TunnelSettings::Tls { name, hosts, .. } => {
            json!({ "kind": kind, "name": name, "hosts": hosts, "local_addr": local_addr })
        }
    }
}

fn principal_as_json(principal: &PrincipalConfig) -> Value {
    let pairs = |ports: &Vec<RangeInclusive<u16>>| -> Vec<_> {
        ports.iter().map(|ports| [*ports.start(), *ports.end()]).collect()
    };
    let words =
        |kinds: &Vec<TunnelKind>| -> Vec<_> { kinds.iter().map(|kind| kind.as_str()).collect() };
    json!({
        "name": principal.name,
        "tokens": principal.verifiers.iter().map(Verifier::token_id).collect::<Vec<_>>(),
        "disabled": principal.disabled,
        "hosts": principal.hosts,
        "ports": principal.ports.as_ref().map(pairs),
        "kinds": principal.kinds.as_ref().map(words),
        "limits": {
            "sessions": principal.max_sessions,
            "tunnels": principal.max_tunnels,
            "streams": principal.max_streams,
            "streams_per_second": principal.max_streams_per_second,
            "bytes_per_second": principal.max_bytes_per_second,
        },
    })
}

/// What is wrong, with its place where it has one.
fn errors(failure: &Failure, problems: &[Problem]) -> Vec<Value> {
    if problems.is_empty() {
        return failure.messages().iter().map(|message| json!({ "message": message })).collect();
    }
    let as_json = |problem: &Problem| json!({ "line": problem.line, "column": problem.column, "message": problem.message });
    problems.iter().map(as_json).collect()
}

#[cfg(test)]
mod tests {
    use ferrotunnel::issue_token;

    use super::*;

    #[test]
    fn principals_are_told_by_the_ids_of_their_tokens() {
        let (_, verifier) = issue_token().unwrap();
        let id = verifier.token_id().to_owned();
        let free = PrincipalConfig::new("al").verifier(verifier);
        let mut bound = free.clone();
        bound.disabled = true;
        bound.hosts = Some(vec!["*.al.example".to_owned()]);
        bound.ports = Some(vec![5432..=5432, 5000..=6000]);
        bound.kinds = Some(vec![TunnelKind::Tcp]);
        (bound.max_sessions, bound.max_streams) = (Some(1), Some(3));
        (bound.max_streams_per_second, bound.max_bytes_per_second) = (Some(4), Some(5));
        let file = SettingsFile {
            path: "f.toml".into(),
            principals: vec![bound, free],
            ..SettingsFile::default()
        };
        assert_eq!(in_words(&file, None), "f.toml is valid: 2 principals");
        let expected = json!([
            {
                "name": "al",
                "tokens": [id],
                "disabled": true,
                "hosts": ["*.al.example"],
                "ports": [[5432, 5432], [5000, 6000]],
                "kinds": ["tcp"],
                "limits": { "sessions": 1, "tunnels": null, "streams": 3, "streams_per_second": 4, "bytes_per_second": 5 },
            },
            {
                "name": "al",
                "tokens": [id],
                "disabled": false,
                "hosts": null,
                "ports": null,
                "kinds": null,
                "limits": { "sessions": null, "tunnels": null, "streams": null, "streams_per_second": null, "bytes_per_second": null },
            },
        ]);
        assert_eq!(as_json(&file, None)["principals"], expected);
    }

    #[test]
    fn what_arguments_have_to_bring_is_told() {
        let file = SettingsFile {
            path: "f.toml".into(),
            client: Some(ClientSection::default()),
            ..SettingsFile::default()
        };
        let words = in_words(&file, None);
        assert!(words.contains("a client of a server to be named with no tunnels"), "{words}");
        for flag in
            ["[client] has no server, which --server", "[client] has no token, which --token"]
        {
            assert!(words.contains(flag), "{words}");
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_told_as_that() {
        let file = SettingsFile { path: "f.toml".into(), ..SettingsFile::default() };
        assert_eq!(in_words(&file, None), "f.toml is valid: it says nothing");
    }
}
