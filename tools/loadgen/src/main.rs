//! The load tool's command line: sets up what is measured, puts the load on it, prints.
//!
//! The result goes to stdout. With `--json` that is one line of JSON, and the table goes to stderr.

mod args;
mod commands;

use std::process::ExitCode;

use clap::Parser as _;

use args::Args;

/// The one the `ferrotunnel` command uses: a tunnel in this process is to cost what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]
fn main() -> ExitCode {
    let args = Args::parse();
    ferrotunnel_loadgen::allow_many_files();
    match commands::run(&args) {
        Ok(result) => {
            if args.json {
                eprint!("{}", result.report);
                println!("{}", result.report.json());
            } else {
                print!("{}", result.report);
            }
            if result.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
