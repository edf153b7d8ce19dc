//! `[server.plugins]`.

use super::section::Section;
use crate::args::PluginArgs;
use crate::settings::{STDOUT, visitor_secret};
use crate::value;

pub(super) fn read(section: &mut Section<'_, '_>) -> PluginArgs {
    let before = section.problems();
    let is_said = section.has("visitor-secret-hash");
    let hashes =
        section.secrets("visitor-secret-hash", |text| visitor_secret(text.clone()).map(|_| text));
    if is_said && hashes.is_empty() && section.problems() == before {
        section.complain("\"visitor-secret-hash\" is empty, so nobody could come in; leave it out to let everybody in".to_owned());
    }
    PluginArgs {
        // None at all lets nobody in, and is not the same as saying nothing.
        visitor_secret_hash: is_said.then_some(hashes),
        max_requests_per_address: section.number("max-requests-per-address", value::count),
        max_requests_per_tunnel: section.number("max-requests-per-tunnel", value::count),
        max_bytes_per_address: section.value("max-bytes-per-address", value::size),
        max_bytes_per_tunnel: section.value("max-bytes-per-tunnel", value::size),
        circuit_breaker: section.number("circuit-breaker", value::count),
        circuit_breaker_pause: section.value("circuit-breaker-pause", value::duration),
        access_log: section.new_path_or(STDOUT, "access-log"),
        access_log_format: section.text("access-log-format", value::log_format),
    }
}
