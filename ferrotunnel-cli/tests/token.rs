//! Tokens that the program makes, and tokens that it reads from files.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

mod support;

use std::path::Path;
use std::process::Output;

use ferrotunnel::{Client, PrincipalConfig, Retry, RunningServer, Server, Tunnel};
use ferrotunnel_tests::run;
use serde_json::Value;
use support::{Running, command};

/// Runs the program to its end.
fn ferrotunnel(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

async fn server_of(principal: PrincipalConfig) -> RunningServer {
    let server = Server::builder().bind("127.0.0.1:0").http_bind("127.0.0.1:0");
    server.principals([principal]).build().unwrap().spawn().await.unwrap()
}

/// A library server with that verifier takes a client with that token.
async fn go_together(token: &str, verifier: &str) -> Result<(), ferrotunnel::Error> {
    let server = server_of(PrincipalConfig::new("web").verifier(verifier.parse().unwrap())).await;
    let client = Client::builder().server_addr(server.tunnel_addr().to_string()).token(token);
    let tunnel = Tunnel::http("app").local_addr("1");
    client.retry(Retry::Never).tunnel(tunnel).build()?.start().await.map(drop)
}

#[test]
fn a_token_is_printed_with_the_lines_by_which_a_server_knows_it() {
    let output = ferrotunnel(&["token", "new", "web"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    let [token, "", "[principals.web]", tokens] = lines[..] else {
        unreachable!("{lines:?}");
    };
    let verifier = tokens.strip_prefix("tokens = [\"").unwrap().strip_suffix("\"]").unwrap();
    assert!(token.starts_with("ft1_") && verifier.starts_with("ftv1:"), "{lines:?}");
    let said = text(&output.stderr);
    assert!(said.contains("not shown again") && !said.contains(token), "{said}");

    let other = ferrotunnel(&["token", "new", "web"]);
    let other = text(&other.stdout).lines().next().unwrap().to_owned();
    run(async {
        go_together(token, verifier).await.unwrap();
        let error = go_together(&other, verifier).await.unwrap_err();
        assert_eq!(error.kind(), ferrotunnel::ErrorKind::Unauthorized);
    });
}

#[test]
fn scripts_get_token_and_verifier_as_one_event() {
    let output = ferrotunnel(&["token", "new", "ci-1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let event: Value = text(&output.stdout).parse().unwrap();
    let field = |name: &str| event[name].as_str().unwrap();
    assert_eq!((field("event"), field("name")), ("token", "ci-1"));
    let settings = format!("[principals.ci-1]\ntokens = [\"{}\"]", field("verifier"));
    assert_eq!(field("settings"), settings);
    run(async { go_together(field("token"), field("verifier")).await.unwrap() });
}

#[test]
fn a_name_that_no_server_takes_is_a_usage_error() {
    for name in ["two words", "a.b", "", "default"] {
        let output = ferrotunnel(&["token", "new", name]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{name:?}");
        assert!(text(&output.stderr).contains("name"), "{output:?}");
    }
}

/// Why `http` with these arguments ends, and with which code.
fn refused(args: &[&str]) -> (i32, String) {
    let output = ferrotunnel(&[&["http", "1", "--server", "127.0.0.1:1"], args].concat());
    assert_eq!(text(&output.stdout), "");
    (output.status.code().unwrap(), text(&output.stderr).to_owned())
}

#[cfg(unix)]
fn allow(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Both ends read their token from a file. Others may read it at first, which is said and no obstacle.
#[cfg(unix)]
#[test]
fn a_token_comes_from_a_file_that_only_its_owner_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "  a-shared-secret\r\n\n").unwrap();
    let file = path.to_str().unwrap();
    for mode in [0o644, 0o640, 0o600, 0o400] {
        allow(&path, mode);
        let addrs = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"];
        let args = [&["server", "--json", "--token-file", file][..], &addrs].concat();
        let server = Running::start(&args);
        let listening: Value = server.line().parse().unwrap();
        let addr = listening["tunnel_addr"].as_str().unwrap();
        let mut asking = command(&["http", "1", "--name", "app", "--server", addr]);
        asking.env("FERROTUNNEL_TOKEN_FILE", file);
        let client = Running::spawn(asking);
        assert!(client.line().starts_with("http://app.localhost"));
        let said = client.talk_with(if mode & 0o077 == 0 { "connecting" } else { "warning" });
        if mode & 0o077 != 0 {
            assert!(said.contains(&format!("chmod 600 {file}")), "{said}");
            assert!(said.contains(&format!("{mode:04o}")), "{said}");
            assert!(server.talk_with("warning").contains("chmod 600"));
        }
        // The warning would come first.
        assert!(!said.contains("a-shared-secret"));
    }
}

#[test]
fn a_token_given_twice_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "secret").unwrap();
    let (code, said) = refused(&["--token", "secret", "--token-file", path.to_str().unwrap()]);
    assert!(code == 2 && said.contains("--token-file") && said.contains("twice"), "{said}");
    let mut asking = command(&["http", "1", "--server", "127.0.0.1:1"]);
    asking.env("FERROTUNNEL_TOKEN", "secret").env("FERROTUNNEL_TOKEN_FILE", &path);
    assert_eq!(asking.output().unwrap().status.code(), Some(2));

    // What is typed wins, also in the other form.
    let mut asking = command(&["http", "1", "--server", "127.0.0.1:1", "--token-file", "x"]);
    let output = asking.env("FERROTUNNEL_TOKEN", "secret").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("cannot read x"), "{output:?}");
}

#[test]
fn a_file_that_holds_no_token_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let typo = {
        let output = ferrotunnel(&["token", "new", "web"]);
        let token = text(&output.stdout).lines().next().unwrap().to_owned();
        token[..token.len() - 1].to_owned()
    };
    let long = "x".repeat(10_000);
    for (content, says) in [
        (None, "cannot read"),
        (Some(&b" \n"[..]), "is empty"),
        (Some(b"two words"), "space"),
        (Some(b"\xff\xfe"), "no text"),
        (Some(long.as_bytes()), "longer"),
        (Some(typo.as_bytes()), "typing error"),
    ] {
        let path = dir.path().join("token");
        let _ = std::fs::remove_file(&path);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let file = path.to_str().unwrap();
        let (code, said) = refused(&["--token-file", file]);
        assert!(code == 1 && said.contains(file) && said.contains(says), "{says}: {said}");
        assert!(said.contains("error: --token-file: ") && !said.contains(&typo), "{said}");
    }
    let (code, said) = refused(&["--token-file", dir.path().to_str().unwrap()]);
    assert!(code == 1 && said.contains("cannot read"), "{said}");
}

#[test]
fn a_typing_error_in_a_token_is_found_before_any_server_is_asked() {
    let output = ferrotunnel(&["token", "new", "web"]);
    let token = text(&output.stdout).lines().next().unwrap().to_owned();
    let wrong = if token.contains('7') { token.replacen('7', "8", 1) } else { format!("{token}7") };
    let (code, said) = refused(&["--token", &wrong]);
    assert!(code == 2 && said.contains("the token has a typing error: "), "{said}");
    assert!(!said.contains(&wrong) && !said.contains("connecting"), "{said}");
}
