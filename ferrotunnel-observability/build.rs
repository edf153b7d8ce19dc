//! What this was built by and for, for `/api/v1/status`; and a look at the dashboard's files, which are put into the library.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=assets");
    for (name, from) in [("FERROTUNNEL_TARGET", "TARGET"), ("FERROTUNNEL_PROFILE", "PROFILE")] {
        println!("cargo::rustc-env={name}={}", env::var(from).unwrap_or_default());
    }
    println!("cargo::rustc-env=FERROTUNNEL_RUSTC={}", rustc().unwrap_or_default());
}

/// Like `rustc 1.95.0 (f2d3ce0bd 2026-03-21)`; `None` where the compiler does not say.
fn rustc() -> Option<String> {
    let said = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| said.status.success() && !text.is_empty())
}
