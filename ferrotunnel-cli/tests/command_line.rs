//! What the built program says, where it says it, and with which exit code.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

mod support;

use std::process::{Command, Stdio};

use support::{assert_refused, command, ferrotunnel};

#[test]
fn a_missing_token_is_refused_with_both_ways_to_set_it() {
    for args in [
        &["server", "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"][..],
        &["client", "--server", "127.0.0.1:1", "--local-addr", "127.0.0.1:3000"],
        &["http", "3000", "--server", "127.0.0.1:1"],
        &["tcp", "3000", "--server", "127.0.0.1:1"],
    ] {
        assert_refused(&ferrotunnel(args), 2, &["no token", "--token", "FERROTUNNEL_TOKEN"]);
    }
}

#[test]
fn a_token_with_a_blank_inside_is_refused_and_not_shown() {
    let output = ferrotunnel(&["http", "3000", "--server", "127.0.0.1:1", "--token", "two words"]);
    assert_refused(&output, 2, &["token", "space"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("two words"));
}

#[test]
fn an_empty_token_from_the_environment_is_refused() {
    let output = command(&["http", "3000", "--server", "127.0.0.1:1"])
        .env("FERROTUNNEL_TOKEN", "")
        .output()
        .unwrap();
    assert_refused(&output, 2, &["token is empty"]);
}

#[test]
fn the_token_of_the_environment_is_not_in_the_help() {
    let output =
        command(&["http", "--help"]).env("FERROTUNNEL_TOKEN", "hunter2hunter2").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("FERROTUNNEL_TOKEN") && !help.contains("hunter2"), "{help}");
}

#[test]
fn a_bad_port_is_a_usage_error() {
    let output = ferrotunnel(&["http", "70000", "--server", "127.0.0.1:1", "--token", "s"]);
    assert_refused(&output, 2, &["'70000' is not a port", "1 to 65535"]);
    let output = ferrotunnel(&[
        "tcp",
        "22",
        "--server",
        "127.0.0.1:1",
        "--token",
        "s",
        "--remote-port",
        "0",
    ]);
    assert_refused(&output, 2, &["--remote-port", "0"]);
    let output = ferrotunnel(&["server", "--token", "s", "--bind", "0.0.0.0:x"]);
    assert_refused(&output, 2, &["--bind", "IP:PORT"]);
}

#[test]
fn a_missing_local_address_is_a_usage_error() {
    let output = ferrotunnel(&["client", "--server", "127.0.0.1:1", "--token", "s"]);
    assert_refused(&output, 2, &["--local-addr"]);
    let output = ferrotunnel(&["http", "--server", "127.0.0.1:1", "--token", "s"]);
    assert_refused(&output, 2, &["<TARGET>"]);
}

#[test]
fn what_only_the_library_finds_wrong_with_arguments_is_a_usage_error_too() {
    let ports = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"];
    let server =
        |args: &[&str]| ferrotunnel(&[&["server", "--token", "s"][..], &ports, args].concat());
    assert_refused(&server(&["--domain", "no domain"]), 2, &["no domain", "example.com"]);
    assert_refused(&server(&["--admin-bind", "0.0.0.0:0"]), 2, &["--admin-token-file"]);
    assert_refused(&server(&["--accept-proxy"]), 2, &["trusted_proxies"]);
    let client = |args: &[&str]| {
        ferrotunnel(&[&["http", "3000", "--server", "127.0.0.1:1"][..], args].concat())
    };
    assert_refused(&client(&["--token", "s", "--strip-path"]), 2, &["path"]);
    assert_refused(&client(&["--token", "ft1_0123"]), 2, &["typing error"]);
}

/// Who asks for a token and does not get it has to know: it is not shown again.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    for args in [
        &["token", "new", "web"][..],
        &["token", "visitor"],
        &["version"],
        &["completions", "bash"],
        &["--help"],
        &["--json", "token", "new", "web"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command(args).stdout(full).output().unwrap();
        assert_refused(&output, 1, &["stdout", "No space left"]);
    }
}

#[test]
fn a_certificate_that_cannot_be_written_as_a_whole_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("dev-ca.pem");
    std::fs::write(&ca, "somebody's").unwrap();
    let make = || ferrotunnel(&["cert", "dev", "--dir", dir.path().to_str().unwrap()]);
    assert_refused(&make(), 1, &["dev-ca.pem", "remove it"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(&ca).unwrap(), "somebody's");
    std::fs::remove_file(&ca).unwrap();
    let output = make();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn half_a_tls_identity_is_a_usage_error() {
    let output =
        ferrotunnel(&["server", "--token", "s", "--bind", "127.0.0.1:0", "--tls-cert", "cert.pem"]);
    assert_refused(&output, 2, &["--tls-key"]);
}

#[test]
fn certificates_that_contradict_the_other_arguments_are_usage_errors() {
    let client = |args: &[&str]| {
        let tunnel = ["tcp", "3000", "--server", "127.0.0.1:1", "--token", "s"];
        ferrotunnel(&[&tunnel[..], args].concat())
    };
    let named = ["--tls-server-name", "a.example"];
    assert_refused(&client(&named), 2, &["--tls-server-name", "--tls-ca", "--tls-verify"]);
    assert_refused(&client(&["--tls-cert", "c.pem"]), 2, &["--tls-cert needs --tls-key"]);
    assert_refused(&client(&["--tls-key", "k.pem"]), 2, &["--tls-key needs --tls-cert"]);
    for args in [&["--tls-ca", "ca.pem"][..], &["--tls-verify"], &named] {
        let plaintext = client(&[args, &["--plaintext"]].concat());
        assert_refused(&plaintext, 2, &["--plaintext has no use for", args[0]]);
    }
    let server = ["server", "--token", "s", "--plaintext", "--tls-client-ca", "ca.pem"];
    assert_refused(&ferrotunnel(&server), 2, &["--plaintext has no use for --tls-client-ca"]);
}

#[test]
fn a_flag_for_verification_in_the_environment_can_be_off() {
    // Nothing verifies, so the name is still of no use.
    let output = command(&["http", "3000", "--server", "127.0.0.1:1", "--token", "s"])
        .env("FERROTUNNEL_TLS_VERIFY", "false")
        .env("FERROTUNNEL_TLS_SERVER_NAME", "a.example")
        .output()
        .unwrap();
    assert_refused(&output, 2, &["--tls-server-name"]);
}

#[test]
fn a_file_of_cas_that_cannot_be_used_is_refused_with_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (missing, other) = (file("missing.pem"), file("other.txt"));
    std::fs::write(&other, "no certificate").unwrap();
    let server = |ca: &str| {
        let addrs = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"];
        ferrotunnel(&[&["server", "--token", "s", "--tls-client-ca", ca][..], &addrs].concat())
    };
    assert_refused(&server(&missing), 1, &["--tls-client-ca", &missing, "give the path"]);
    assert_refused(&server(&other), 1, &["--tls-client-ca", &other, "no certificate", "PEM"]);
    let client = |ca: &str| {
        ferrotunnel(&["tcp", "1", "--server", "127.0.0.1:1", "--token", "s", "--tls-ca", ca])
    };
    assert_refused(&client(&missing), 1, &["--tls-ca", &missing, "give the path"]);
    assert_refused(&client(&other), 1, &["--tls-ca", &other, "no certificate", "PEM"]);
}

#[test]
fn a_system_without_cas_is_named_when_they_are_wanted() {
    let output = command(&["tcp", "1", "--server", "127.0.0.1:1", "--token", "s", "--tls-verify"])
        .env("SSL_CERT_FILE", "/nowhere/cas.pem")
        .output()
        .unwrap();
    assert_refused(&output, 1, &["--tls-verify", "/nowhere/cas.pem", "--tls-ca"]);
}

#[test]
fn a_certificate_or_key_that_cannot_be_read_is_refused_with_its_flag() {
    let dir = std::env::temp_dir().join(format!("ferrotunnel-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (missing, other) = (file("missing.pem"), file("other.txt"));
    std::fs::write(&other, "no certificate").unwrap();
    let start = |cert: &str, key: &str| {
        let addrs = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"];
        let files = ["--tls-cert", cert, "--tls-key", key];
        ferrotunnel(&[&["server", "--token", "s"][..], &addrs, &files].concat())
    };
    assert_refused(&start(&missing, &other), 1, &["--tls-cert", &missing, "give the path"]);
    assert_refused(&start(&other, &missing), 1, &["--tls-key", &missing, "give the path"]);
    let directory = dir.to_str().unwrap();
    assert_refused(&start(directory, &other), 1, &["--tls-cert", directory, "give the path"]);
    assert_refused(&start(&other, &other), 1, &["--tls-cert", &other, "certificate", "PEM"]);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn settings_from_the_environment_are_checked_like_arguments() {
    let output = command(&["http", "3000"])
        .env("FERROTUNNEL_SERVER", "http://example.com")
        .env("FERROTUNNEL_TOKEN", "s")
        .output()
        .unwrap();
    assert_refused(&output, 2, &["scheme"]);
}

#[test]
fn a_flag_of_the_environment_can_be_off() {
    let output = command(&["version"]).env("FERROTUNNEL_JSON", "0").output().unwrap();
    assert!(output.stdout.starts_with(b"ferrotunnel "));
    let output = command(&["version"]).env("FERROTUNNEL_JSON", "1").output().unwrap();
    assert!(output.stdout.starts_with(b"{"));
}

#[test]
fn version_is_one_line_of_data() {
    let expected = format!("ferrotunnel {}\n", env!("CARGO_PKG_VERSION"));
    for args in [["version"], ["--version"]] {
        let output = ferrotunnel(&args);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn nothing_typed_shows_the_help_and_where_to_start() {
    let output = ferrotunnel(&[]);
    assert_eq!(output.status.code(), Some(2));
    let help = String::from_utf8_lossy(&output.stderr);
    assert!(help.contains("ferrotunnel demo") && help.contains("server"), "{help}");
}

#[test]
fn every_shell_gets_a_completion_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = ferrotunnel(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = String::from_utf8_lossy(&output.stdout);
        for word in ["server", "client", "http", "tcp", "tls", "demo", "remote-port"] {
            assert!(script.contains(word), "{word} is not in the script for {shell}");
        }
    }
    assert_refused(&ferrotunnel(&["completions", "tcsh"]), 2, &["tcsh"]);
}

/// The script must be one that bash reads without complaint, and complete a flag of a command.
#[cfg(unix)]
#[test]
fn bash_completes_a_flag() {
    let Ok(found) = Command::new("bash").arg("--version").stdout(Stdio::null()).status() else {
        eprintln!("skipped: no bash here");
        return;
    };
    assert!(found.success());
    let script = ferrotunnel(&["completions", "bash"]).stdout;
    let ask = "\nCOMP_WORDS=(ferrotunnel tcp --remote); COMP_CWORD=2; _ferrotunnel ferrotunnel --remote tcp; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", &(String::from_utf8(script).unwrap() + ask)])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--remote-port", "{output:?}");
}

#[test]
fn the_fuzzer_has_all_modules_of_the_program() {
    let modules = |source: &str| -> Vec<String> {
        source.lines().filter(|line| line.starts_with("mod ")).map(str::to_owned).collect()
    };
    let (program, fuzzer) = (include_str!("../src/main.rs"), include_str!("../src/fuzzing.rs"));
    assert_eq!(modules(fuzzer), modules(program));
}
