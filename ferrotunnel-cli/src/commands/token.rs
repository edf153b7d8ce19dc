//! `ferrotunnel token`: what can be done with tokens. No server is asked.

mod new;
mod visitor;

use crate::args::TokenCommand;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(command: &TokenCommand, output: &Output) -> Result<(), Failure> {
    match command {
        TokenCommand::New(args) => new::run(args, output),
        TokenCommand::Visitor => visitor::run(output),
    }
}
