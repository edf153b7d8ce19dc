//! `[principals.NAME]`: who may register what at a server. What it means is the library's to say, and what is wrong with
//! it too; here each problem gets its place in the file.

use ferrotunnel::{PrincipalConfig, check_principals};

use super::client::kind;
use super::section::Section;
use crate::value::{self, Secret};

/// One principal, and where it stands.
#[derive(Debug)]
pub(super) struct Placed {
    at: usize,
    principal: PrincipalConfig,
}

pub(super) fn read(name: &str, section: &mut Section<'_, '_>) -> Placed {
    let before = section.problems();
    let mut principal = PrincipalConfig::new(name);
    principal.verifiers = section.secrets("tokens", |text: Secret| {
        text.reveal().parse().map_err(|error: ferrotunnel::VerifierError| error.to_string())
    });
    principal.disabled = section.switch("disabled").unwrap_or(false);
    // A list that is there and empty allows nothing; one that is not there is no rule.
    let has = ["hosts", "ports", "kinds"].map(|key| section.has(key));
    let hosts = section.texts("hosts", host);
    let ports = section.values("ports", value::port_range);
    let kinds = section.texts("kinds", kind);
    principal.hosts = has[0].then_some(hosts);
    principal.ports = has[1].then_some(ports);
    principal.kinds = has[2].then_some(kinds);
    let access = section.text("access", access).unwrap_or(Access::Optional);
    principal.access_required = access == Access::Required;
    section.table("limits", |limits| {
        principal.max_sessions = limits.number("sessions", value::count);
        principal.max_tunnels = limits.number("tunnels", value::count);
        principal.max_streams = limits.number("streams", value::count);
        principal.max_streams_per_second = limits.number("streams-per-second", value::count);
        principal.max_bytes_per_second = limits.value("bytes-per-second", value::size);
    });
    // Whatever else the library refuses has no line of its own. An example has no name yet.
    if section.problems() == before
        && let Err(why) = check_principals(None, std::slice::from_ref(&principal))
    {
        section.complain(why.to_string());
    }
    Placed { at: section.at(), principal }
}

/// All principals of a file, unless two of them have something that one alone can have.
pub(super) fn together(placed: Vec<Placed>, root: &Section<'_, '_>) -> Vec<PrincipalConfig> {
    let (places, principals): (Vec<_>, Vec<_>) =
        placed.into_iter().map(|Placed { at, principal }| (at, principal)).unzip();
    if root.problems() == 0
        && let Err(why) = check_principals(None, &principals)
    {
        // The last of the fewest that do not go together.
        let fit = |count: &usize| check_principals(None, &principals[..*count]).is_ok();
        let counts: Vec<usize> = (1..=principals.len()).collect();
        let last = counts.partition_point(fit);
        root.complain_about(places.get(last).copied().unwrap_or_default(), why.to_string());
    }
    principals
}

/// Whether its tunnels have to keep strangers out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Optional,
    Required,
}

fn access(text: &str) -> Result<Access, String> {
    match text {
        "optional" => Ok(Access::Optional),
        "required" => Ok(Access::Required),
        _ => Err("give optional or required".to_owned()),
    }
}

/// What the library takes; it names the whole principal, of which this is one host.
fn host(text: &str) -> Result<String, String> {
    let mut only = PrincipalConfig::new(PROBE);
    only.disabled = true;
    only.hosts = Some(vec![text.to_owned()]);
    match check_principals(None, &[only]) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) => {
            let why = why.to_string();
            let of_the_host = why.strip_prefix(&format!("principal {PROBE:?}: hosts: "));
            Err(of_the_host.unwrap_or(&why).to_owned())
        }
    }
}

/// A name for a principal that is none.
const PROBE: &str = "probe";
