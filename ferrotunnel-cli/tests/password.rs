//! Hashes of passwords and tokens, and tunnels that ask for them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

mod support;

use std::io::Write as _;
use std::process::{Output, Stdio};

use ferrotunnel_tests::{Carrier, Site, TOKEN, TestBed, collect, run, send};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use serde_json::Value;
use support::{Running, command};

/// Runs the program to its end, with that on its stdin.
fn told(args: &[&str], stdin: &str) -> Output {
    let mut command = command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended before it read anything.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn line(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap().strip_suffix('\n').unwrap()
}

#[test]
fn what_is_printed_opens_a_tunnel_of_the_command_line() {
    run(async {
        let bed = TestBed::start(Carrier::Tls).await;
        let site = Site::start().await;
        let (server, site) = (bed.server.tunnel_addr().to_string(), site.addr().to_string());
        let user = told(&["password", "aladdin"], "open sesame\n");
        let token = told(&["password", "--bearer"], "0123456789abcdef\r\n");
        let args = [
            "http",
            &*site,
            "--server",
            &server,
            "--token",
            TOKEN,
            "--name",
            "app",
            "--basic-auth",
            line(&user),
            "--bearer-token",
            line(&token),
        ];
        let client = Running::start(&args);
        client.line();
        for (shown, status) in [
            ("Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==", 200),
            ("Bearer 0123456789abcdef", 200),
            ("Basic YWxhZGRpbjpvcGVuIHNlc2FtZQo=", 401),
        ] {
            let request = Request::get("/hello").header(HOST, bed.host("app"));
            let request = request.header(AUTHORIZATION, shown).body(Empty::<Bytes>::new()).unwrap();
            let answer = collect(send(bed.http_addr(), request).await.unwrap()).await;
            assert_eq!(answer.status, status, "{shown}");
        }
    });
}

#[test]
fn without_a_user_the_hash_stands_alone_and_scripts_get_an_event() {
    let alone = told(&["password"], "secret");
    assert!(line(&alone).starts_with("$argon2id$"));
    let event: Value =
        serde_json::from_str(line(&told(&["password", "a", "--json"], "secret"))).unwrap();
    assert_eq!((&event["event"], &event["user"]), (&"password".into(), &"a".into()));
    assert!(event["hash"].as_str().unwrap().starts_with("a:$argon2id$"));
}

#[test]
fn what_cannot_be_hashed_is_refused_and_not_repeated() {
    for (args, stdin, code, words) in [
        (&["password"][..], "", 1, "no password on stdin"),
        (&["password"], "\n", 1, "no password on stdin"),
        (&["password", "--bearer"], "", 1, "no token on stdin"),
        (&["password", "--bearer"], "sesame", 1, "at least 16"),
        (&["password", "a:b"], "sesame", 2, "user name"),
        (&["password", "a", "--bearer"], "sesame", 2, "--bearer"),
        (
            &["http", "1", "--server", "h", "--token", "t", "--basic-auth", "a:sesame"],
            "",
            2,
            "--basic-auth",
        ),
    ] {
        let output = told(args, stdin);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words) && !said.contains("sesame"), "{args:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}
