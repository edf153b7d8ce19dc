//! The `ferrotunnel` command: arguments become settings, settings become builder calls of the `ferrotunnel` library.
//!
//! No wiring happens here: what a server or a client is made of, the library knows.

mod access;
mod args;
mod client_reload;
mod commands;
mod control;
mod failure;
mod headers;
mod layers;
mod logging;
mod occasion;
mod output;
mod reload;
mod report;
mod runtime;
mod settings;
mod settings_file;
mod signals;
mod standing;
mod systemd;
mod token_file;
mod traces;
mod tunnel;
mod value;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, CommonArgs};
use failure::Exit;
use output::Output;

/// Answers small allocations from many threads faster than the system's allocator. Only the program chooses one: a
/// library leaves the choice to whoever embeds it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return output::argument_answer(&answer).into(),
    };
    let output = Output::new(cli.common.format());
    let CommonArgs { log_level, log_format, .. } = &cli.common;
    logging::start(log_level.as_ref(), cli.command.default_log_level(), *log_format);
    runtime::raise_open_files();
    match commands::run(cli.command, &output) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit().into()
        }
    }
}
