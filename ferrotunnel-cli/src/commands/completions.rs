//! `ferrotunnel completions`: the completion script of a shell, on stdout.

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs};
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(args: &CompletionsArgs, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ferrotunnel", &mut script);
    output.answer(String::from_utf8_lossy(&script).trim_end())
}
