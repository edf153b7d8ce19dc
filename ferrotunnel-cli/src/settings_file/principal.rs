//! `[principals.NAME]`: who may register what at a server.
//!
//! Here is what a file can say; what it means is the server's to decide.

use std::ops::RangeInclusive;

use ferrotunnel::TunnelKind;

use super::client::kind;
use super::section::Section;
use crate::value::{self, Secret};

/// One principal, as a file describes it.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) name: String,
    /// Each of them stands for it. Several make it possible to change one without an outage.
    pub(crate) tokens: Vec<Secret>,
    /// Kept in the file, but let in no more.
    pub(crate) disabled: bool,
    /// Host names it may claim, exact or as `*.example.com`.
    pub(crate) hosts: Vec<String>,
    /// Public ports it may claim.
    pub(crate) ports: Vec<RangeInclusive<u16>>,
    /// Kinds of tunnels it may register.
    pub(crate) kinds: Vec<TunnelKind>,
    pub(crate) limits: PrincipalLimits,
}

/// What one principal may use at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrincipalLimits {
    pub(crate) sessions: Option<usize>,
    pub(crate) tunnels: Option<u32>,
    pub(crate) streams: Option<u32>,
}

pub(super) fn read(name: &str, section: &mut Section<'_, '_>) -> Principal {
    if !is_name(name) {
        let message = "the name of a principal has letters, digits, '-', '_' and '.' only";
        section.complain(message.to_owned());
    }
    let has_tokens = section.has("tokens");
    let before = section.problems();
    let tokens = section.secrets("tokens", token);
    if !has_tokens || (tokens.is_empty() && section.problems() == before) {
        let title = section.title();
        section.complain(format!("{title} needs \"tokens\", a list of at least one"));
    }
    Principal {
        name: name.to_owned(),
        tokens,
        disabled: section.switch("disabled").unwrap_or(false),
        hosts: section.texts("hosts", host),
        ports: section.values("ports", value::port_range),
        kinds: section.texts("kinds", kind),
        limits: section.table("limits", |limits| PrincipalLimits {
            sessions: limits.number("sessions", value::count),
            tunnels: limits.number("tunnels", value::count),
            streams: limits.number("streams", value::count),
        }),
    }
}

/// One that can stand in logs and labels of metrics as it is.
fn is_name(name: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=MAX_NAME_LEN).contains(&name.len()) && name.chars().all(is_fit)
}

/// As long as a label of a host name.
const MAX_NAME_LEN: usize = 63;

/// Only the shape that every form of a token has; the text is not repeated.
fn token(token: &Secret) -> Result<(), String> {
    let text = token.clone().reveal();
    if text.is_empty() {
        return Err("a token is empty".to_owned());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("a token contains a space or control character; check its quoting".to_owned());
    }
    Ok(())
}

/// A host name, or all those below one.
fn host(text: &str) -> Result<String, String> {
    let advice = "give a host name without scheme and port, like app.example.com or *.example.com";
    let below = text.strip_prefix("*.").unwrap_or(text);
    let is_fit = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| !label.is_empty() && label.chars().all(is_fit);
    if below.split('.').all(is_label) { Ok(text.to_owned()) } else { Err(advice.to_owned()) }
}
