//! `ferrotunnel token visitor`: a secret for visitors, and the lines by which a server knows it.

use ferrotunnel::issue_token;
use ferrotunnel::plugin::VisitorSecret;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(output: &Output) -> Result<(), Failure> {
    // As random as a client's token; only its own half of the check is another.
    let (token, _) = issue_token().map_err(|error| Failure::failed(error.to_string()))?;
    let secret = token.reveal().replacen("ft1_", "fv1_", 1);
    let hash = VisitorSecret::of(&secret).map_err(|error| Failure::failed(error.to_string()))?;
    let settings = format!("[server.plugins]\nvisitor-secret-hash = [\"{hash}\"]");

    output.answer_event(&json!({
        "event": "visitor_secret",
        "secret": secret,
        "hash": hash.to_string(),
        "settings": settings,
    }))?;
    output.talk("the secret, for visitors; it is not shown again:");
    output.answer_plain(&secret)?;
    output.answer_plain("")?;
    output.talk(
        "for the server's settings file, or for --visitor-secret-hash; nobody comes in with it:",
    );
    output.answer_plain(settings)?;
    Ok(())
}
