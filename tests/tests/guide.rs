//! The table of docs/http.md: each capability has a command that works, and tests that there are.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "a command that is skipped says so")]
#![cfg(unix)]

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use ferrotunnel_tests::{Carrier, TestBed, eventually, run, soon};
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// What is to be seen of the command of each capability.
const SEEN: &[(&str, &str)] = &[
    ("HTTP/1.1 keep-alive, both sides", "GET /a\nGET /b\n"),
    ("pipelining", "GET /2\n"),
    ("HTTP/1.0, both sides", "GET /\n"),
    ("HTTP/2 visitors", "1000 succeeded, 0 failed, 0 errored"),
    ("`Expect: 100-continue`", "PUT /file 10 bytes\n"),
    ("chunks, and trailers both ways", "x-checksum: 42"),
    ("HEAD, 204 and 304", "HTTP/1.1 200 OK"),
    ("bodies of any length, both ways", "PUT /large.iso 3000000 bytes\n"),
    ("ranges", "part bytes=100-199\n"),
    ("event streams", "data: now\n"),
    ("long polls", "GET /poll\n"),
    ("WebSocket over HTTP/1.1", "HTTP/1.1 101 Switching Protocols"),
    ("CONNECT", "405"),
    ("answers before the upload has ended", "too much\n"),
    ("half-closed requests", "GET /\n"),
    ("early hints (103) and other interim answers", "< HTTP/1.1 200 OK"),
    ("visitors that leave", "ended by 124\n"),
];

/// Those of which the command is a client's, or wants what is not installed where tests run.
const NOT_RUN: &[&str] = &[
    "HTTP/2 local services",
    "WebSocket over HTTP/2 (RFC 8441)",
    "permessage-deflate",
    "gRPC",
    "grpc-web",
    "another `Host`, and other headers",
];

/// Capability, command and tests.
fn rows() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(root().join("docs/http.md")).unwrap();
    let from = text.find("## Capabilities").unwrap();
    let rows = text[from..].lines().skip_while(|line| !line.starts_with("|---"));
    let rows = rows.skip(1).take_while(|line| line.starts_with("| "));
    let cells = |row: &str| {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [what, command, _works, tests] = cells[..] else { unreachable!("four cells: {row}") };
        [what, command, tests].map(str::to_owned)
    };
    rows.map(cells).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What the commands expect at port 3000.
async fn answer(request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (path, headers) = (head.uri.path(), &head.headers);
    let with = |status: StatusCode, name: &'static str, value: String, body: Body| {
        Response::builder().status(status).header(name, value).body(body).unwrap()
    };
    if headers.contains_key("upgrade") {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        let mut response =
            with(StatusCode::SWITCHING_PROTOCOLS, "sec-websocket-accept", accept, Body::empty());
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        return response;
    }
    if let Some(range) = headers.get("range") {
        let body = format!("part {}\n", range.to_str().unwrap());
        let range = format!("bytes 100-{}/1000", 99 + body.len());
        return with(StatusCode::PARTIAL_CONTENT, "content-range", range, body.into());
    }
    match (head.method.as_str(), path) {
        (_, "/slow") => std::future::pending().await,
        (_, "/too-much") => with(
            StatusCode::PAYLOAD_TOO_LARGE,
            "content-type",
            "text/plain".to_owned(),
            "too much\n".into(),
        ),
        (_, "/events") => {
            let one = stream::iter([Ok::<_, Infallible>("data: now\n\n")]);
            let body = Body::from_stream(one.chain(stream::pending()));
            with(StatusCode::OK, "content-type", "text/event-stream".to_owned(), body)
        }
        ("PUT", _) => {
            let uploaded = to_bytes(body, usize::MAX).await.unwrap().len();
            Response::new(format!("PUT {path} {uploaded} bytes\n").into())
        }
        (method, _) if headers.contains_key("te") => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", "42".parse().unwrap());
            let text = Bytes::from(format!("{method} {path}\n"));
            let frames = [Ok::<_, Infallible>(Frame::data(text)), Ok(Frame::trailers(trailers))];
            let body = Body::new(StreamBody::new(stream::iter(frames)));
            with(StatusCode::OK, "trailer", "x-checksum".to_owned(), body)
        }
        (method, _) => Response::new(format!("{method} {path}\n").into()),
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Reads until it is there; `false` if it never comes.
async fn hears(from: &mut (impl AsyncRead + Unpin), awaited: &str, heard: &mut String) -> bool {
    let mut buffer = vec![0; 16 << 10];
    while !heard.contains(awaited) {
        match from.read(&mut buffer).await.unwrap() {
            0 => return false,
            count => heard.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
    true
}

#[test]
fn each_capability_has_a_command_that_works() {
    run(async {
        let moment = Duration::from_millis(200);
        let bed = TestBed::with(Carrier::Tls, |server| server.http_pool_idle_timeout(moment)).await;
        let local = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = local.local_addr().unwrap();
        tokio::spawn(async { axum::serve(local, axum::Router::new().fallback(answer)).await });
        let _client = bed.http("app", addr).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "0123456789").unwrap();
        std::fs::write(folder.path().join("large.iso"), vec![b'x'; 3_000_000]).unwrap();
        // What curl tells of its progress would come in between.
        std::fs::write(folder.path().join(".curlrc"), "no-progress-meter\n").unwrap();

        let mut seen: Vec<_> = SEEN.iter().map(|(what, _)| *what).collect();
        for [what, command, _] in rows() {
            let Some((what, awaited)) = SEEN.iter().find(|(row, _)| *row == what) else {
                assert!(NOT_RUN.contains(&&*what), "nobody looks at the command of: {what}");
                continue;
            };
            seen.retain(|row| row != what);
            let command = command.split('`').nth(1).unwrap().replace("\\|", "|");
            let needs = ["curl", "nc", "h2load", "timeout"].into_iter();
            let mut needs = needs.filter(|program| command.split(' ').any(|word| word == *program));
            if let Some(program) = needs.find(|program| !is_installed(program)) {
                println!("skipped: {what}: there is no {program} here (tools/install.sh has it)");
                continue;
            }
            let command = command.replace("8080", &bed.http_addr().port().to_string());
            let script = format!("exec 2>&1; {command}; code=$?; echo; echo ended by $code");
            let mut shell = Command::new("sh");
            shell.args(["-c", &script]).current_dir(folder.path()).env("CURL_HOME", folder.path());
            for proxy in ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
                shell.env_remove(proxy);
            }
            shell.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
            let mut running = shell.spawn().unwrap();
            let mut said = running.stdout.take().unwrap();
            let mut heard = String::new();
            let is_seen = soon(&command, hears(&mut said, awaited, &mut heard)).await;
            assert!(is_seen, "{what}: {command} says {heard:?}, and not {awaited:?}");
            if let Some(id) = running.id() {
                // What the shell has started, too: an event stream goes on.
                let group = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            soon("its end", running.wait()).await.unwrap();
        }
        assert_eq!(seen, [""; 0], "no rows of docs/http.md");
        // Those that were kept waiting have left as well.
        eventually("the streams to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn the_words_of_all_answers_are_told() {
    let guide = std::fs::read_to_string(root().join("docs/http.md")).unwrap();
    let answers = std::fs::read_to_string(root().join("ferrotunnel-http/src/wording.rs")).unwrap();
    let line = |line: &str| Some(line.trim().strip_prefix('"')?.strip_suffix("\",")?.to_owned());
    let is_word = |text: &String| text.chars().all(|c| c == '-' || c.is_ascii_lowercase());
    let words: Vec<String> = answers.lines().filter_map(line).filter(is_word).collect();
    assert!(words.len() > 20, "{words:?}");
    for word in words {
        assert!(guide.contains(&format!("`{word}`")), "docs/http.md does not tell of {word}");
    }
}

#[test]
fn each_capability_names_tests_that_exist() {
    let folders = ["tests/tests", "ferrotunnel-http/tests", "ferrotunnel-cli/tests"];
    let recipes = std::fs::read_to_string(root().join("justfile")).unwrap();
    let files = |name: &str| {
        let paths = folders.map(|folder| root().join(folder).join(format!("{name}.rs")));
        let texts = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
        texts.collect::<String>()
    };
    let rows = rows();
    assert!(rows.len() > 15, "{rows:?}");
    for [what, _, tests] in rows {
        let mut of = String::new();
        let mut named = 0;
        for (at, part) in tests.split('`').enumerate() {
            if at % 2 == 1 {
                if let Some(recipe) = part.strip_prefix("just ") {
                    assert!(recipes.contains(&format!("\n{recipe}")), "{what}: no recipe {recipe}");
                } else {
                    of = files(part);
                    assert!(!of.is_empty(), "{what}: no tests {part}");
                }
                named += 1;
                continue;
            }
            let words = part.split(|c: char| c != '_' && !c.is_alphanumeric());
            for test in words.filter(|word| word.contains('_')) {
                assert!(of.contains(&format!("fn {test}()")), "{what}: there is no test {test}");
            }
        }
        assert!(named > 0 || tests.starts_with("the same"), "{what}: no tests");
    }
}
