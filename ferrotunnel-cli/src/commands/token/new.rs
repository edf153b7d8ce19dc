//! `ferrotunnel token new`: a token for one user, and the lines by which a server knows it.

use ferrotunnel::{PrincipalConfig, check_principals, issue_token};
use serde_json::json;

use crate::args::TokenNewArgs;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(args: &TokenNewArgs, output: &Output) -> Result<(), Failure> {
    let (token, verifier) = issue_token().map_err(|error| Failure::failed(error.to_string()))?;
    let name = &args.name;
    let principal = PrincipalConfig::new(name).verifier(verifier.clone());
    check_principals(None, &[principal]).map_err(|error| Failure::usage(error.to_string()))?;
    let settings = format!("[principals.{name}]\ntokens = [\"{verifier}\"]");
    let token = token.reveal();

    output.answer_event(&json!({
        "event": "token",
        "name": name,
        "token": token,
        "verifier": verifier.to_string(),
        "settings": settings,
    }))?;
    output.talk(format_args!("the token, for {name} and nobody else; it is not shown again:"));
    output.answer_plain(&token)?;
    output.answer_plain("")?;
    output.talk(
        "for the server's settings file; nobody can log in with it, but keep it to the server:",
    );
    output.answer_plain(settings)?;
    Ok(())
}
