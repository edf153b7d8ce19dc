//! What may be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ferrotunnel_loadgen::value::{count, duration};

/// Send real traffic of all kinds through real servers and clients while some of them are killed,
/// and check every byte.
///
/// Three servers run side by side with ten clients: one over TLS and one over plaintext, which are
/// killed now and then, and one that stays. An error is allowed only where a party that the
/// connection needed was away during its life; wrong bytes never are. Exits with 1 on a forbidden
/// error, or when something is left behind after all has come to rest.
#[derive(Debug, Parser)]
#[command(name = "ferrotunnel-soak", version)]
pub(crate) struct Args {
    /// How long load and kills last
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long there is load without kills beforehand, to see what is usual
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Repeat the choices of an earlier run; when they meet cannot be repeated
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Time between two lines of the table
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) report_every: Duration,
    /// Visitors at once
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = count)]
    pub(crate) visitors: usize,
    /// Long streams at once
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = count)]
    pub(crate) long_streams: usize,
    /// Time between two kills of clients of each server, on average
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(crate) kill_every: Duration,
    /// Time between two kills of a server
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration)]
    pub(crate) server_kill_every: Duration,
    /// The ferrotunnel command [default: the one beside this]
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Print JSON on stdout, and the table on stderr
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["x --duration 0s", "x --visitors 0", "x --report-every 5h", "x --seed y"] {
            assert!(Args::try_parse_from(text.split_whitespace()).is_err(), "{text}");
        }
    }
}
