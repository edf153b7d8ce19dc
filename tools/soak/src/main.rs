//! The soak tool's command line: runs, prints, and fails when something was wrong.

mod args;

use std::hash::{BuildHasher as _, RandomState};
use std::process::ExitCode;

use clap::Parser as _;
use ferrotunnel_loadgen::{Binary, Failure};
use ferrotunnel_soak::run::{Outcome, Soak, run};

use args::Args;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]
fn main() -> ExitCode {
    let args = Args::parse();
    ferrotunnel_loadgen::allow_many_files();
    // The table is talk where JSON is data.
    let say = |line: &str| if args.json { eprintln!("{line}") } else { println!("{line}") };
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(()));
    say(&format!("seed {seed}"));
    match soak(&args, seed, say) {
        Ok(Outcome { report, failures }) => {
            say(&report.to_string());
            if args.json {
                println!("{}", report.json());
            }
            for failure in &failures {
                eprintln!("FAILED: {failure}");
            }
            if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn soak(args: &Args, seed: u64, say: impl FnMut(&str)) -> Result<Outcome, Failure> {
    let soak = Soak {
        binary: Binary::find(args.binary.as_deref())?,
        duration: args.duration,
        warmup: args.warmup,
        seed,
        report_every: args.report_every,
        visitors: args.visitors,
        long_streams: args.long_streams,
        kill_every: args.kill_every,
        server_kill_every: args.server_kill_every,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(Failure::Thread)?.block_on(run(&soak, say))
}
